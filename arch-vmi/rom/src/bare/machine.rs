//! What the ROM keeps: of the machine in its private memory, of a CPU in the memory the guest brought for it.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::update_queue::UpdateQueue;

/// Where the hypervisor's words are, from the kernel's GS base.
pub static CPU_WORDS: AtomicU32 = AtomicU32::new(0);
/// The boot CPU has memory of its own: GS may be used.
pub static BOUND: AtomicBool = AtomicBool::new(false);
/// The local APIC is in x2APIC mode.
pub static X2APIC: AtomicBool = AtomicBool::new(false);
/// The APIC timer takes deadlines of the time stamp counter.
pub static TSC_DEADLINE: AtomicBool = AtomicBool::new(false);
/// CPUID shows SMAP.
pub static SMAP: AtomicBool = AtomicBool::new(false);
/// Cycles a second.
pub static FREQUENCY: AtomicU64 = AtomicU64::new(0);
/// Linear mappings: address, pages, frame number.
pub static MAPPINGS: [[AtomicU64; 3]; 4] = [const { [const { AtomicU64::new(0) }; 3] }; 4];

/// An alarm that is not set.
pub const NO_ALARM: u64 = u64::MAX;

/// A CPU's own.
#[repr(C)]
pub struct PerCpu {
    /// Linear address of the local APIC's registers.
    pub apic: u64,
    /// The batch that is open: a `LazyMode`.
    pub lazy: u64,
    /// What has been put off, as bits of [`Pending`].
    pub pending: u64,
    pub pending_cr3: u64,
    pub pending_stack: [u64; 2],
    pub pending_bases: [u64; 3],
    /// When REAL and AVAILABLE interrupt, each by its own count.
    pub alarms: [u64; 2],
    /// The timer runs periodically.
    pub periodic: bool,
    /// Upper half of the interrupt command, in x2APIC mode.
    pub command_destination: u32,
    pub queue: UpdateQueue,
}

/// Bits of [`PerCpu::pending`].
pub struct Pending;

impl Pending {
    pub const CR3: u64 = 1 << 0;
    pub const KERNEL_STACK: u64 = 1 << 1;
    pub const CLTS: u64 = 1 << 2;
    /// And the two that follow.
    pub const FIRST_BASE: u64 = 1 << 3;
}

/// Memory a CPU that the guest is to bring.
pub const CPU_BYTES: u32 = 4096;

const _: () = assert!(size_of::<PerCpu>() <= CPU_BYTES as usize && CPU_BYTES <= vmi_abi::MOST_CPU_BYTES);

/// Interrupts are off while it lives.
pub struct IrqGuard(u64);

impl IrqGuard {
    pub fn new() -> Self {
        let flags;
        // SAFETY: the flag is put back when the guard goes; the stack is balanced.
        unsafe { asm!("pushfq", "cli", "pop {}", out(reg) flags, options(preserves_flags)) };
        Self(flags)
    }
}

impl Drop for IrqGuard {
    fn drop(&mut self) {
        if self.0 & 1 << 9 != 0 {
            // SAFETY: interrupts were on.
            unsafe { asm!("sti", options(nostack)) };
        }
    }
}

/// The first of the hypervisor's words of this CPU: the address of its memory.
fn word() -> u64 {
    let value;
    // SAFETY: GS is the kernel's and its words are the hypervisor's (ABI.md, section 2 and 5).
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) value, in(reg) u64::from(CPU_WORDS.load(Relaxed)),
             options(nostack, preserves_flags, readonly));
    }
    value
}

/// Makes `memory` this CPU's, unless it has some already.
pub fn bind(memory: u64, apic: u64) -> bool {
    let _guard = IrqGuard::new();
    if word() != 0 {
        return false;
    }
    let cpu = memory as *mut PerCpu;
    // SAFETY: the guest gives zeroed memory of this size for ever; the word is the hypervisor's.
    unsafe {
        (*cpu).apic = apic;
        (*cpu).alarms = [NO_ALARM; 2];
        asm!("mov gs:[{}], {}", in(reg) u64::from(CPU_WORDS.load(Relaxed)), in(reg) memory,
             options(nostack, preserves_flags));
    }
    BOUND.store(true, Relaxed);
    true
}

/// Uses this CPU's memory with interrupts off; none if it has none yet. Must not be nested.
pub fn with_cpu<R>(use_it: impl FnOnce(&mut PerCpu) -> R) -> Option<R> {
    if !BOUND.load(Relaxed) {
        return None;
    }
    let _guard = IrqGuard::new();
    let cpu = word() as *mut PerCpu;
    // SAFETY: what the word holds was given by `bind`, and is this CPU's alone; with interrupts off and no nesting there
    // is one reference.
    unsafe { cpu.as_mut() }.map(use_it)
}

/// Where a linear mapping shows a physical address.
pub fn linear(physical: u64) -> Option<u64> {
    let frame = physical >> 12;
    MAPPINGS.iter().find_map(|[address, pages, first]| {
        let index = frame.checked_sub(first.load(Relaxed))?;
        (index < pages.load(Relaxed)).then(|| address.load(Relaxed) + (index << 12) + (physical & 0xfff))
    })
}

/// The physical address that a linear mapping shows at an address.
#[cfg(feature = "strict")]
pub fn physical(linear: u64) -> Option<u64> {
    MAPPINGS.iter().find_map(|[address, pages, first]| {
        let offset = linear.checked_sub(address.load(Relaxed))?;
        (offset >> 12 < pages.load(Relaxed)).then(|| (first.load(Relaxed) << 12) + offset)
    })
}

/// The time stamp counter, not before what came before.
pub fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags))
    };
    high << 32 | low
}
