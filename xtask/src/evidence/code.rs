//! The code of an image, disassembled: where control goes, directly and indirectly.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use crate::evidence::image::{Image, Symbol};

/// How far back the value of a register is looked for.
const LONGEST_LOOK_BACK: usize = 64;

/// A call or a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// `call`
    Call,
    /// `jmp`
    Jump,
}

/// Where a call or jump takes its target from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The target itself
    Direct(u64),
    /// The word at this address
    Word(u64),
    /// The word at this distance from a register
    Field(i64),
    /// A word at a computed distance from the address that the word here has
    Computed(u64),
    /// An entry of a switch's table
    Switch,
    /// A register that nothing is known of
    Register,
}

/// A call, or a jump that is indirect or leaves its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Where the instruction is
    pub at: u64,
    /// Its bytes
    pub length: u8,
    /// Call or jump
    pub transfer: Transfer,
    /// Whether the instruction itself names the word or the target (else a register was loaded before)
    pub immediate: bool,
    /// Where it goes
    pub target: Target,
}

/// A function's instructions.
pub fn instructions(image: &Image, function: &Symbol) -> Vec<Instruction> {
    let Some(bytes) = image.bytes(&function.range) else { return Vec::new() };
    Decoder::with_ip(64, bytes, function.range.start, DecoderOptions::NONE).into_iter().collect()
}

/// The calls and leaving jumps of all functions, ascending.
pub fn branches(image: &Image) -> Vec<Branch> {
    let mut found = Vec::new();
    let mut info = InstructionInfoFactory::new();
    for function in &image.functions {
        let code = instructions(image, function);
        for (index, instruction) in code.iter().enumerate() {
            let (transfer, direct) = match instruction.flow_control() {
                FlowControl::Call if instruction.mnemonic() == Mnemonic::Call => (Transfer::Call, true),
                FlowControl::UnconditionalBranch => (Transfer::Jump, true),
                FlowControl::IndirectCall => (Transfer::Call, false),
                FlowControl::IndirectBranch => (Transfer::Jump, false),
                _ => continue,
            };
            let (target, immediate) = if direct {
                let target = instruction.near_branch_target();
                if transfer == Transfer::Jump && function.range.contains(&target) {
                    continue;
                }
                (Target::Direct(target), true)
            } else {
                indirect(&code[..=index], &mut info)
            };
            let length = instruction.len() as u8;
            found.push(Branch { at: instruction.ip(), length, transfer, immediate, target });
        }
    }
    found
}

/// How many bytes a function has before its `ret`, if those may stand in the place of a call to it: at most `most`,
/// without jumps, and dependent neither on where they are nor on what a call has put on the stack.
pub fn straight_body(image: &Image, function: &Symbol, most: usize) -> Option<u8> {
    let mut info = InstructionInfoFactory::new();
    let mut depth = 0i32;
    for instruction in instructions(image, function) {
        let length =
            usize::try_from(instruction.ip() - function.range.start).ok().filter(|&length| length <= most)?;
        if instruction.code() == Code::Retnq {
            return (depth == 0).then_some(length as u8);
        }
        if instruction.flow_control() != FlowControl::Next || instruction.is_ip_rel_memory_operand() {
            return None;
        }
        match instruction.mnemonic() {
            // Of what it has pushed itself only.
            Mnemonic::Push | Mnemonic::Pushfq if instruction.op0_kind() != OpKind::Memory => depth += 1,
            Mnemonic::Pop | Mnemonic::Popfq if depth > 0 && instruction.op0_kind() != OpKind::Memory => {
                depth -= 1
            }
            _ => {
                let used = info.info(&instruction).used_registers();
                if used.iter().any(|used| used.register().full_register() == Register::RSP) {
                    return None;
                }
            }
        }
    }
    None
}

/// The target of the last of `code`, an indirect call or jump, and whether the instruction itself says so.
fn indirect(code: &[Instruction], info: &mut InstructionInfoFactory) -> (Target, bool) {
    let Some((last, before)) = code.split_last() else { return (Target::Register, true) };
    let before = &before[before.len().saturating_sub(LONGEST_LOOK_BACK)..];
    if last.op0_kind() == OpKind::Memory {
        // `lea r, [word]; call [r]`: one call for several words.
        let place = last_write(before, last.memory_base(), info).map(|index| &before[index]);
        return match (memory(last), place) {
            (Target::Field(distance), Some(place)) if place.is_ip_rel_memory_operand() && is_lea(place) => {
                (Target::Word(place.ip_rel_memory_address().wrapping_add_signed(distance)), false)
            }
            (Target::Register, Some(place)) if is_load(place) => {
                (Target::Computed(place.ip_rel_memory_address()), true)
            }
            (target, _) => (target, true),
        };
    }
    let Some(index) = last_write(before, last.op0_register(), info) else { return (Target::Register, false) };
    let instruction = &before[index];
    let target = match instruction.mnemonic() {
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Memory => memory(instruction),
        // movsxd r, [table + i*4]; add r, table
        Mnemonic::Add if before[..index].iter().rev().take(4).any(|i| i.mnemonic() == Mnemonic::Movsxd) => {
            Target::Switch
        }
        _ => Target::Register,
    };
    (target, false)
}

/// The last instruction that writes `register`.
fn last_write(code: &[Instruction], register: Register, info: &mut InstructionInfoFactory) -> Option<usize> {
    let writes = |instruction: &Instruction| {
        let used = info.info(instruction).used_registers();
        used.iter().any(|used| used.register().full_register() == register && is_write(used.access()))
    };
    code.iter().rposition(writes)
}

/// Whether it takes the address of something.
pub fn is_lea(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Lea
}

/// Whether it loads a word whose address it names.
fn is_load(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.is_ip_rel_memory_operand()
}

fn is_write(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// What a memory operand says of where a target is.
fn memory(instruction: &Instruction) -> Target {
    let displacement = instruction.memory_displacement64();
    match (instruction.memory_base(), instruction.memory_index()) {
        (Register::RIP, _) | (Register::None, Register::None) => Target::Word(displacement),
        (_, Register::None) => Target::Field(displacement.cast_signed()),
        // `jmp [table + i*8]`
        (Register::None, _) => Target::Switch,
        _ => Target::Register,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::image::{Section, Use};
    use crate::evidence::names::Name;

    const BASE: u64 = 0xffff_ffff_8000_0000;

    fn image(functions: &[&[u8]]) -> Image {
        let mut image = Image::default();
        let mut bytes = Vec::new();
        for (index, function) in functions.iter().enumerate() {
            let start = BASE + bytes.len() as u64;
            bytes.extend_from_slice(function);
            let range = start..BASE + bytes.len() as u64;
            image.functions.push(Symbol { name: Name::new(&format!("f{index}")), range, purpose: Use::Code });
        }
        image.sections.push(Section {
            name: ".text".into(),
            range: BASE..BASE + bytes.len() as u64,
            purpose: Use::Code,
            bytes,
        });
        image
    }

    #[test]
    fn targets() {
        for (bytes, transfer, target, immediate) in [
            // call +0; jmp out of the function
            (&[0xe8, 0, 0, 0, 0][..], Transfer::Call, Target::Direct(BASE + 5), true),
            (&[0xe9, 0, 1, 0, 0], Transfer::Jump, Target::Direct(BASE + 0x105), true),
            // call [rip+16]; jmp [rip+16]; call [0xffffffff80000010]
            (&[0xff, 0x15, 16, 0, 0, 0], Transfer::Call, Target::Word(BASE + 22), true),
            (&[0xff, 0x25, 16, 0, 0, 0], Transfer::Jump, Target::Word(BASE + 22), true),
            (&[0xff, 0x14, 0x25, 0x10, 0, 0, 0x80], Transfer::Call, Target::Word(BASE + 16), true),
            // call [rax+0x18]; call rax
            (&[0xff, 0x50, 0x18], Transfer::Call, Target::Field(0x18), true),
            (&[0xff, 0xd0], Transfer::Call, Target::Register, false),
            // mov rax, [rip+16]; nop; call rax
            (&[0x48, 0x8b, 5, 16, 0, 0, 0, 0x90, 0xff, 0xd0], Transfer::Call, Target::Word(BASE + 23), false),
            // mov rax, [rip+16]; xor eax, eax; call rax
            (&[0x48, 0x8b, 5, 16, 0, 0, 0, 0x31, 0xc0, 0xff, 0xd0], Transfer::Call, Target::Register, false),
            // movsxd rax, [rcx+rax*4]; add rax, rcx; jmp rax
            // mov rdx, [rip + 16]; call [rdx + rax]
            (
                &[0x48, 0x8b, 0x15, 16, 0, 0, 0, 0xff, 0x14, 0x02],
                Transfer::Call,
                Target::Computed(BASE + 23),
                true,
            ),
            (&[0x48, 0x63, 0x04, 0x81, 0x48, 0x01, 0xc8, 0xff, 0xe0], Transfer::Jump, Target::Switch, false),
        ] {
            let found = branches(&image(&[bytes]));
            assert_eq!(found.len(), 1, "{bytes:x?}");
            assert_eq!(
                (found[0].transfer, found[0].target, found[0].immediate),
                (transfer, target, immediate)
            );
        }
        // A jump inside of its function is no branch.
        assert_eq!(branches(&image(&[&[0xeb, 0xfe]])), []);
    }

    #[test]
    fn bodies_that_can_stand_for_a_call() {
        let length = |bytes: &[u8]| {
            let image = image(&[bytes]);
            straight_body(&image, &image.functions[0], 6)
        };
        // cli; ret - pushf; cli; pop rax; ret - ret
        assert_eq!(length(&[0xfa, 0xc3]), Some(1));
        assert_eq!(length(&[0x9c, 0xfa, 0x58, 0xc3]), Some(3));
        assert_eq!(length(&[0xc3]), Some(0));
        // Six bytes, and seven.
        assert_eq!(length(&[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3]), Some(6));
        assert_eq!(length(&[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3]), None);
        // mov rax, [rip]: it depends on where it is. mov rax, [rsp]; pop rax: what the call has pushed.
        assert_eq!(length(&[0x48, 0x8b, 5, 0, 0, 0, 0, 0xc3]), None);
        assert_eq!(length(&[0x8b, 5, 0, 0, 0, 0, 0xc3]), None);
        assert_eq!(length(&[0x48, 0x8b, 0x04, 0x24, 0xc3]), None);
        assert_eq!(length(&[0x58, 0xc3]), None);
        // push rax; ret: it returns elsewhere. A loop; ud2; call; leave; no ret at all.
        assert_eq!(length(&[0x50, 0xc3]), None);
        assert_eq!(length(&[0x75, 0xfe, 0xc3]), None);
        assert_eq!(length(&[0x0f, 0x0b, 0xc3]), None);
        assert_eq!(length(&[0xe8, 0, 0, 0, 0, 0xc3]), None);
        assert_eq!(length(&[0xc9, 0xc3]), None);
        assert_eq!(length(&[0xfa]), None);
    }
}
