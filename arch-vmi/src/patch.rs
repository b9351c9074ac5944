//! Patching: each place in the text becomes what the ROM answered for its call. The image is writable until the kernel's
//! own page tables are loaded, and never again.

use arch_native::sensitive;
use platform::Unusable;
use vmi_abi::{CALLS, Call, RelocationType};

use crate::call::Site;
use crate::native::{self, Content};
use crate::rom::{self, Placed};

unsafe extern "C" {
    static vmi_sites_start: [Site; 0];
    static vmi_sites_end: [Site; 0];
    static sensitive_sites_start: [sensitive::Site; 0];
    static sensitive_sites_end: [sensitive::Site; 0];
}

/// What the places of each call become.
struct Contents([Option<Content>; Call::COUNT as usize]);

impl Contents {
    /// Asks the ROM once for each call.
    fn ask(rom: &Placed) -> Result<Self, Unusable> {
        let mut contents = Self([None; Call::COUNT as usize]);
        for &call in CALLS {
            let known = call.number() < u32::from(rom.found.header.jump_slots);
            let answer = if known {
                rom::relocation(call).ok_or(Unusable("the VMI ROM gave an unknown type of relocation"))?
            } else {
                rom::Relocation { kind: RelocationType::None, address: 0 }
            };
            if !call.allowed().contains(answer.kind.flag()) {
                return Err(Unusable("the VMI ROM gave a type of relocation that the call does not allow"));
            }
            let inside = || match rom.contains(answer.address) {
                true => Ok(answer.address),
                false => Err(Unusable("the VMI ROM gave an address outside of itself")),
            };
            contents.0[call.number() as usize] = match answer.kind {
                RelocationType::CallRel => Some(Content::Call(inside()?)),
                RelocationType::JumpRel => Some(Content::Jump(inside()?)),
                RelocationType::Nop => Some(Content::Nothing),
                RelocationType::None => native::instructions(call).map(Content::Native),
            };
        }
        Ok(contents)
    }

    /// `stac` and `clac` exist only where CPUID, as the ROM shows it, has SMAP.
    fn without_smap(&mut self) {
        for call in [Call::UserAccessBegin, Call::UserAccessEnd] {
            let content = &mut self.0[call.number() as usize];
            if matches!(content, Some(Content::Native(_))) {
                *content = Some(Content::Nothing);
            }
        }
    }

    /// Patches every place whose call `wanted` names.
    ///
    /// # Safety
    /// The image is writable, and no other CPU runs.
    unsafe fn apply(&self, wanted: impl Fn(Call) -> bool) -> Result<(), Unusable> {
        // SAFETY: the linker script puts these symbols around whole records.
        let (sites, in_assembly) = unsafe {
            (
                between(&raw const vmi_sites_start, &raw const vmi_sites_end),
                between(&raw const sensitive_sites_start, &raw const sensitive_sites_end),
            )
        };
        let sites = sites
            .iter()
            .map(|site| (site.address, Call::from_number(site.call.into()), usize::from(site.bytes)));
        let in_assembly = in_assembly
            .iter()
            .map(|site| (site.address, of_instruction(site.instruction), sensitive::SITE_BYTES));
        for (address, call, bytes) in sites.chain(in_assembly) {
            let Some(call) = call else { return Err(Unusable("the image has a place of an unknown call")) };
            if !wanted(call) {
                continue;
            }
            let Some(content) = self.0[call.number() as usize] else {
                return Err(Unusable("the VMI ROM leaves a call to an instruction that is not known"));
            };
            // SAFETY: a place in the image's text, which is writable and runs nowhere at the moment.
            let place = unsafe { core::slice::from_raw_parts_mut(address as *mut u8, bytes) };
            native::fill(place, address, content);
        }
        Ok(())
    }
}

/// # Safety
/// `start` and `end` are the ends of a slice that is never written.
unsafe fn between<T>(start: *const [T; 0], end: *const [T; 0]) -> &'static [T] {
    let count = (end as usize - start as usize) / size_of::<T>();
    // SAFETY: as the caller promised.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// The call that stands for a sensitive instruction.
fn of_instruction(instruction: u32) -> Option<Call> {
    use sensitive::Instruction;
    [
        (Instruction::SwapGs, Call::SwapGs),
        (Instruction::SwapGsOnEntry, Call::SyscallSwapGs),
        (Instruction::InterruptReturn, Call::Iret),
        (Instruction::SystemReturn, Call::Sysret),
        (Instruction::ReadMsr, Call::Rdmsr),
        (Instruction::WriteMsr, Call::Wrmsr),
        (Instruction::UserAccessEnd, Call::UserAccessEnd),
    ]
    .into_iter()
    .find_map(|(known, call)| (known as u32 == instruction).then_some(call))
}

/// Asks the ROM about every call and patches every place.
///
/// # Safety
/// Once, on the boot CPU before any other runs, with the image writable and the ROM initialized.
pub unsafe fn all(rom: &Placed, has_smap: impl FnOnce() -> bool) -> Result<(), Unusable> {
    let mut contents = Contents::ask(rom)?;
    let depends = |call: Call| matches!(call, Call::UserAccessBegin | Call::UserAccessEnd);
    // SAFETY: as the caller promised.
    unsafe {
        contents.apply(|call| !depends(call))?;
        if !has_smap() {
            contents.without_smap();
        }
        contents.apply(depends)
    }
}
