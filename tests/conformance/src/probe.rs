//! Accesses of the kernel that may fault.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::{Access, Exception, TrapFrame, VirtAddr};

use crate::cpus;

unsafe extern "C" {
    static conformance_probe_read: u8;
    static conformance_probe_write: u8;
    static conformance_probe_failed: u8;
}

/// A fault of the kernel on an address it probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The address that the platform named.
    pub address: VirtAddr,
    /// The access that the platform named.
    pub access: Access,
}

/// The latest fault of each CPU: address and access.
static FAULTS: [(AtomicU64, AtomicU64); platform::MAX_CPUS] =
    [const { (AtomicU64::new(0), AtomicU64::new(0)) }; platform::MAX_CPUS];

/// Reads a word, or tells of the fault.
pub fn read(address: VirtAddr) -> Result<u64, Fault> {
    let mut value = 0;
    // SAFETY: a fault is expected and changes nothing; the address is nothing that Rust has a reference to.
    if unsafe { probe_read(address, &mut value) } { Ok(value) } else { Err(last()) }
}

/// Writes a word, or tells of the fault.
pub fn write(address: VirtAddr, value: u64) -> Result<(), Fault> {
    // SAFETY: as in `read`.
    if unsafe { probe_write(address, value) } { Ok(()) } else { Err(last()) }
}

fn last() -> Fault {
    let (address, access) = &FAULTS[cpus::id().index()];
    Fault {
        address: VirtAddr(address.load(Ordering::Relaxed)),
        access: Access::from_bits_truncate(access.load(Ordering::Relaxed) as u32),
    }
}

/// Whether an exception of the kernel is a probe's; if so the probe ends in failure.
pub fn expected(exception: Exception, frame: &mut TrapFrame) -> bool {
    let probes = [&raw const conformance_probe_read as u64, &raw const conformance_probe_write as u64];
    let Exception::PageFault { address, access } = exception else { return false };
    if !probes.contains(&frame.rip) {
        return false;
    }
    let fault = &FAULTS[cpus::id().index()];
    fault.0.store(address.0, Ordering::Relaxed);
    fault.1.store(access.bits().into(), Ordering::Relaxed);
    frame.rip = &raw const conformance_probe_failed as u64;
    true
}

#[unsafe(naked)]
unsafe extern "C" fn probe_read(address: VirtAddr, value: &mut u64) -> bool {
    naked_asm!(
        ".globl conformance_probe_read, conformance_probe_failed",
        "conformance_probe_read:",
        "mov rax, [rdi]",
        "mov [rsi], rax",
        "mov eax, 1",
        "ret",
        "conformance_probe_failed:",
        "xor eax, eax",
        "ret",
    )
}

#[unsafe(naked)]
unsafe extern "C" fn probe_write(address: VirtAddr, value: u64) -> bool {
    naked_asm!(
        ".globl conformance_probe_write",
        "conformance_probe_write:",
        "mov [rdi], rsi",
        "mov eax, 1",
        "ret",
    )
}
