//! What a call's place becomes where the ROM says that the native instruction does: machine code, kept as data.

use vmi_abi::Call;

/// The native instructions for `call`, which take and leave the registers that the call does; none if there are none.
/// Nothing at all is what the guest's own way amounts to, where that follows a call that has returned.
pub const fn instructions(call: Call) -> Option<&'static [u8]> {
    Some(match call {
        Call::Cpuid => &[0x0f, 0xa2],
        Call::Wrmsr => &[0x0f, 0x30],
        Call::Rdmsr => &[0x0f, 0x32],
        Call::SetGdt => &[0x0f, 0x01, 0x17],                  // lgdt [rdi]
        Call::SetIdt => &[0x0f, 0x01, 0x1f],                  // lidt [rdi]
        Call::SetTr => &[0x0f, 0x00, 0xdf],                   // ltr di
        Call::UpdateKernelStack => &[0x48, 0x89, 0x77, 0x04], // mov [rdi + 4], rsi
        Call::SetCr0 => &[0x0f, 0x22, 0xc7],                  // mov cr0, rdi
        Call::SetCr3 => &[0x0f, 0x22, 0xdf],
        Call::SetCr4 => &[0x0f, 0x22, 0xe7],
        Call::GetCr2 => &[0x0f, 0x20, 0xd0], // mov rax, cr2
        Call::EnableInterrupts => &[0xfb],
        Call::DisableInterrupts => &[0xfa],
        Call::GetInterruptMask => &[0x9c, 0x58], // pushfq; pop rax
        Call::Iret => &[0x48, 0xcf],
        Call::Halt => &[0xfb, 0xf4],             // sti; hlt
        Call::SetPxELong => &[0x48, 0x89, 0x3e], // mov [rsi], rdi
        Call::InvalPage => &[0x0f, 0x01, 0x3f],  // invlpg [rdi]
        Call::FlushTlb => &[
            0x40, 0xf6, 0xc7, 0x02, // test dil, GLOBAL
            0x74, 0x0f, // jz to the last two
            0x0f, 0x20, 0xe0, // mov rax, cr4
            0x48, 0x89, 0xc1, // mov rcx, rax
            0x80, 0xe1, 0x7f, // and cl, ~PGE
            0x0f, 0x22, 0xe1, // mov cr4, rcx
            0x0f, 0x22, 0xe0, // mov cr4, rax
            0x0f, 0x20, 0xd8, // mov rax, cr3
            0x0f, 0x22, 0xd8, // mov cr3, rax
        ],
        Call::Inb => &[0xec],
        Call::Inw => &[0x66, 0xed],
        Call::Inl => &[0xed],
        Call::Outb => &[0xee],
        Call::Outw => &[0x66, 0xef],
        Call::Outl => &[0xef],
        Call::ApicWrite => &[0x89, 0x37], // mov [rdi], esi
        Call::ApicRead => &[0x8b, 0x07],  // mov eax, [rdi]
        Call::Sysret => &[0x48, 0x0f, 0x07],
        Call::SwapGs | Call::SyscallSwapGs => &[0x0f, 0x01, 0xf8],
        Call::SetXcr0 => &[
            0x31, 0xc9, // xor ecx, ecx
            0x89, 0xf8, // mov eax, edi
            0x48, 0x89, 0xfa, // mov rdx, rdi
            0x48, 0xc1, 0xea, 0x20, // shr rdx, 32
            0x0f, 0x01, 0xd1, // xsetbv
        ],
        Call::UserAccessBegin => &[0x0f, 0x01, 0xcb],
        Call::UserAccessEnd => &[0x0f, 0x01, 0xca],
        Call::Reboot | Call::Shutdown => &[],
        _ => return None,
    })
}

/// Bytes of a direct call or jump.
pub const BRANCH_BYTES: usize = 5;

/// Bytes of a place that is patched: enough for a branch and for the native instructions.
pub const fn place_bytes(call: Call) -> usize {
    match instructions(call) {
        Some(code) if code.len() > BRANCH_BYTES => code.len(),
        _ => BRANCH_BYTES,
    }
}

/// What a place becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Native instructions.
    Native(&'static [u8]),
    /// A call of the address.
    Call(u64),
    /// A jump to the address.
    Jump(u64),
    /// No-operations.
    Nothing,
}

/// Writes `content` over the bytes of a place at `address`. Short instructions are padded in front, with prefixes that
/// do nothing to them, so that no second instruction has to run.
pub fn fill(place: &mut [u8], address: u64, content: Content) {
    /// DS, which 64-bit mode ignores.
    const PADDING: u8 = 0x3e;
    let mut branch = |opcode: u8, target: u64| {
        let displacement = target.wrapping_sub(address + BRANCH_BYTES as u64) as i32;
        place[0] = opcode;
        place[1..BRANCH_BYTES].copy_from_slice(&displacement.to_le_bytes());
        fill_with_nothing(&mut place[BRANCH_BYTES..]);
    };
    match content {
        Content::Call(target) => branch(0xe8, target),
        Content::Jump(target) => branch(0xe9, target),
        Content::Native(code) if !code.is_empty() => {
            let (padding, rest) = place.split_at_mut(place.len() - code.len());
            padding.fill(PADDING);
            rest.copy_from_slice(code);
        }
        Content::Native(_) | Content::Nothing => fill_with_nothing(place),
    }
}

/// The longest no-operations that fit.
fn fill_with_nothing(mut place: &mut [u8]) {
    /// Intel SDM vol. 2B, NOP: recommended sequences.
    const SEQUENCES: [&[u8]; 9] = [
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    while let Some(longest) = place.len().min(SEQUENCES.len()).checked_sub(1) {
        let (now, rest) = place.split_at_mut(longest + 1);
        now.copy_from_slice(SEQUENCES[longest]);
        place = rest;
    }
}

#[cfg(test)]
mod tests {
    use vmi_abi::{Allowed, CALLS};

    use super::*;

    #[test]
    fn branches_lead_from_behind_themselves() {
        let mut place = [0xcc; 7];
        fill(&mut place, 0x1000, Content::Call(0x1005));
        assert_eq!(place, [0xe8, 0, 0, 0, 0, 0x66, 0x90]);
        fill(&mut place[..5], 0xffff_ffff_8010_0000, Content::Jump(0xffff_ffff_c000_0000));
        assert_eq!(place[..5], [0xe9, 0xfb, 0xff, 0xef, 0x3f]);
        fill(&mut place[..5], 0x1000, Content::Jump(0xffb));
        assert_eq!(place[..5], [0xe9, 0xf6, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn native_instructions_end_where_the_place_ends() {
        let mut place = [0xcc; 5];
        fill(&mut place, 0, Content::Native(&[0xfa]));
        assert_eq!(place, [0x3e, 0x3e, 0x3e, 0x3e, 0xfa]);
    }

    #[test]
    fn nothing_is_one_instruction_where_that_fits() {
        let mut place = [0xcc; 14];
        fill(&mut place[..5], 0, Content::Nothing);
        assert_eq!(place[..5], [0x0f, 0x1f, 0x44, 0x00, 0x00]);
        fill(&mut place, 0, Content::Nothing);
        assert_eq!((place[0], place[9]), (0x66, 0x0f));
        assert_eq!(place[13], 0);
    }

    #[test]
    fn what_may_be_native_has_instructions_if_it_is_used() {
        for call in [Call::SetPxELong, Call::Iret, Call::FlushTlb, Call::SetXcr0, Call::Outb] {
            assert!(call.allowed().contains(Allowed::NONE) && instructions(call).is_some());
        }
        for &call in CALLS {
            assert!(
                instructions(call).is_none() || call.allowed().contains(Allowed::NONE),
                "{}",
                call.name()
            );
        }
    }
}
