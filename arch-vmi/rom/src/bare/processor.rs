//! Instructions and registers that several calls use.

use core::arch::asm;
use core::ptr::NonNull;

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// IA32_STAR.
pub const STAR: u32 = 0xc000_0081;
/// IA32_LSTAR.
pub const LSTAR: u32 = 0xc000_0082;
/// IA32_FMASK.
pub const FMASK: u32 = 0xc000_0084;
/// IA32_FS_BASE; GS and the other GS follow.
pub const FS_BASE: u32 = 0xc000_0100;

/// Reads a model-specific register, which the callers know to exist or #GP is right.
pub fn read_msr(number: u32) -> u64 {
    // SAFETY: reading has no effect on the registers that are read here.
    unsafe { Msr::new(number).read() }
}

/// Writes a model-specific register.
pub fn write_msr(number: u32, value: u64) {
    // SAFETY: the callers write what the guest asked for, or registers that are the hypervisor's.
    unsafe { Msr::new(number).write(value) };
}

/// Reads a port of a byte.
pub fn in_byte(port: u16) -> u8 {
    // SAFETY: the ports that are read here are those of the PC's clock and timer.
    unsafe { Port::new(port).read() }
}

/// Writes a port of a byte.
pub fn out_byte(port: u16, value: u8) {
    // SAFETY: the callers' devices, or nothing at all.
    unsafe { Port::new(port).write(value) };
}

/// Reads a port of 32 bits.
pub fn in_long(port: u16) -> u32 {
    // SAFETY: the callers' devices, or nothing at all.
    unsafe { Port::new(port).read() }
}

/// Writes a port of 32 bits.
pub fn out_long(port: u16, value: u32) {
    // SAFETY: the callers' devices, or nothing at all.
    unsafe { Port::new(port).write(value) };
}

/// Writes a port of 16 bits.
pub fn out_word(port: u16, value: u16) {
    // SAFETY: the callers' devices, or nothing at all.
    unsafe { Port::new(port).write(value) };
}

/// Reads a device's register in memory.
pub fn read_register(address: u64) -> u32 {
    // SAFETY: the guest mapped the device there.
    NonNull::new(address as *mut u32).map_or(0, |register| unsafe { register.as_ptr().read_volatile() })
}

/// Writes a device's register in memory.
pub fn write_register(address: u64, value: u32) {
    if let Some(register) = NonNull::new(address as *mut u32) {
        // SAFETY: the guest mapped the device there.
        unsafe { register.as_ptr().write_volatile(value) };
    }
}

/// Whether an address has its upper bits right for four levels of tables.
pub const fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// Raises #GP.
pub fn general_protection() {
    // SAFETY: reading an address that is not canonical raises #GP and nothing else.
    unsafe { asm!("mov rax, [rax]", inout("rax") 1u64 << 63 => _, options(nostack, readonly)) };
}

/// CPUID of this CPU.
pub fn cpuid(leaf: u32) -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, 0)
}

/// Copies bytes from one place to another that does not overlap it.
///
/// # Safety
/// `from` can be read and `to` be written for so many bytes.
pub unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: as the caller promised. An instruction, because the compiler's library is not to be called.
    unsafe {
        asm!("rep movsb", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") bytes => _,
             options(nostack, preserves_flags));
    }
}
