//! Control registers: the same on every CPU.

use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::registers::model_specific::EferFlags;

use super::features::{Features, has};
use crate::machine::Machine;

const IA32_EFER: u32 = 0xc000_0080;

/// CR0 of every CPU: write protection for the kernel too, alignment checks for user mode, extended state at hand.
pub fn cr0() -> Cr0Flags {
    Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::ALIGNMENT_MASK
        | Cr0Flags::PAGING
}

/// CR4 of every CPU.
pub fn cr4() -> Cr4Flags {
    let mut flags = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::MACHINE_CHECK_EXCEPTION
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE;
    for (feature, flag) in [
        (Features::GLOBAL_PAGES, Cr4Flags::PAGE_GLOBAL),
        (Features::XSAVE, Cr4Flags::OSXSAVE),
        (Features::SMEP, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
        (Features::SMAP, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        (Features::UMIP, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        (Features::FSGSBASE, Cr4Flags::FSGSBASE),
        (Features::PCID, Cr4Flags::PCID),
    ] {
        flags.set(flag, has(feature));
    }
    flags
}

/// EFER of every CPU.
pub fn efer() -> EferFlags {
    EferFlags::SYSTEM_CALL_EXTENSIONS
        | EferFlags::LONG_MODE_ENABLE
        | EferFlags::LONG_MODE_ACTIVE
        | EferFlags::NO_EXECUTE_ENABLE
}

/// Lets translations use NX and write protection; the rest of CR4 follows with [`enable`].
///
/// # Safety
/// On the boot CPU, whose translations do not rely on writing to read-only pages.
pub unsafe fn enable_protection<M: Machine>() {
    // SAFETY: NX exists (checked at detection), and the flags are those of 64-bit mode.
    unsafe {
        M::write_msr(IA32_EFER, efer().bits());
        M::set_cr0(cr0().bits());
    }
}

/// Sets CR4 on the boot CPU.
///
/// # Safety
/// The kernel's own translations are active, with no user page in them, and their root is page-aligned with no other
/// bits in CR3.
pub unsafe fn enable<M: Machine>() {
    // SAFETY: every flag was checked against CPUID.
    unsafe { M::set_cr4(cr4().bits()) };
}
