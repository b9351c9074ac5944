//! The local APIC, by memory (xAPIC) or by registers (x2APIC).

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::{CacheMode, CpuId, CpuSet, Kernel, MAX_CPUS, PhysAddr, Unusable};
use volatile::VolatilePtr;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use crate::cpu::features::{Features, has};
use crate::cpu::local::{self, Word};
use crate::irq::IrqGuard;
use crate::paging::window::PhysicalWindow;

/// Registers, by their number in x2APIC mode; in memory each lies at sixteen times that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Register {
    /// Identity.
    Id = 0x02,
    /// Priority below which nothing is delivered.
    TaskPriority = 0x08,
    /// End of interrupt.
    End = 0x0b,
    /// Vector of spurious interrupts, and the enable bit.
    Spurious = 0x0f,
    /// Interrupt command.
    Command = 0x30,
    /// Destination of a command, in memory only.
    CommandDestination = 0x31,
    /// Timer entry of the local vector table.
    TimerVector = 0x32,
    /// LINT0, and LINT1 behind it.
    Line0 = 0x35,
    /// LINT1.
    Line1 = 0x36,
    /// Error entry of the local vector table.
    ErrorVector = 0x37,
    /// What the timer counts down from.
    InitialCount = 0x38,
    /// Where the timer is.
    CurrentCount = 0x39,
    /// The timer's divisor.
    Divide = 0x3e,
}

/// An entry of the local vector table delivers nothing.
pub const MASKED: u32 = 1 << 16;
const ENABLE: u32 = 1 << 8;
const DELIVERY_NMI: u32 = 4 << 8;
const DELIVERY_INIT: u32 = 5 << 8;
const DELIVERY_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// How often a command is asked whether it is still pending.
const MOST_POLLS: u32 = 1_000_000;

/// Where the registers are mapped; null in x2APIC mode.
static MEMORY: AtomicU64 = AtomicU64::new(0);
/// Commands must not be written before the last one is gone: real xAPICs only.
static WAIT_FOR_COMMAND: AtomicBool = AtomicBool::new(false);
static IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NOBODY) }; MAX_CPUS];
/// No CPU's identity: all CPUs' (Intel SDM vol. 3A, 10.12.9).
const NOBODY: u32 = u32::MAX;

fn pointer(memory: u64, register: Register) -> VolatilePtr<'static, u32> {
    let address = (memory + 16 * register as u64) as *mut u32;
    // SAFETY: the registers are mapped for ever (MEMORY is set once they are), aligned, and never null.
    unsafe { VolatilePtr::new(NonNull::new_unchecked(address)) }
}

/// Reads a register.
#[inline(always)]
pub fn read(register: Register) -> u32 {
    match MEMORY.load(Relaxed) {
        // SAFETY: the register exists in x2APIC mode, which is on if there is no memory.
        0 => unsafe { Msr::new(0x800 + register as u32).read() as u32 },
        memory => pointer(memory, register).read(),
    }
}

/// Writes a register.
#[inline(always)]
pub fn write(register: Register, value: u32) {
    match MEMORY.load(Relaxed) {
        // SAFETY: the register exists in x2APIC mode, which is on if there is no memory.
        0 => unsafe { Msr::new(0x800 + register as u32).write(u64::from(value)) },
        memory => pointer(memory, register).write(value),
    }
}

/// End of interrupt.
#[inline(always)]
pub fn end() {
    write(Register::End, 0);
}

/// Finds the boot CPU's APIC and enables it; its registers are at `address` if firmware says so.
pub fn discover<K: Kernel>(address: Option<PhysAddr>) -> Result<(), Unusable> {
    if has(Features::X2APIC) {
        enable_mode();
    } else {
        let base = address.unwrap_or(PhysAddr(ApicBase::read().0.start_address().as_u64()));
        let memory = PhysicalWindow::<K>::map(base, 4096, CacheMode::Uncacheable)
            .map_err(|_| Unusable("too little memory to reach the local APIC"))?;
        MEMORY.store(memory.0, Relaxed);
        WAIT_FOR_COMMAND.store(!has(Features::HYPERVISOR), Relaxed);
        enable_mode();
    }
    Ok(())
}

fn enable_mode() {
    let (frame, flags) = ApicBase::read();
    let mut wanted = flags | ApicBaseFlags::LAPIC_ENABLE;
    if wanted != flags {
        // SAFETY: enables the APIC in the mode it comes up in; x2APIC mode can only follow that.
        unsafe { ApicBase::write(frame, wanted) };
    }
    let flags = wanted;
    wanted.set(
        ApicBaseFlags::X2APIC_ENABLE,
        has(Features::X2APIC) || flags.contains(ApicBaseFlags::X2APIC_ENABLE),
    );
    if wanted != flags {
        // SAFETY: from xAPIC mode to x2APIC mode, as the manual allows.
        unsafe { ApicBase::write(frame, wanted) };
    }
}

/// Sets this CPU's APIC up: everything masked but what `nmi` lines name.
pub fn enable(nmi: NmiLines) {
    enable_mode();
    write(Register::TaskPriority, 0);
    write(Register::TimerVector, MASKED);
    write(Register::Line0, if nmi.line0 { DELIVERY_NMI } else { MASKED });
    write(Register::Line1, if nmi.line1 { DELIVERY_NMI } else { MASKED });
    write(Register::ErrorVector, MASKED);
    write(Register::Spurious, ENABLE | u32::from(super::vectors::SPURIOUS));
}

/// Which local interrupt lines carry NMI.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct NmiLines {
    /// LINT0.
    pub line0: bool,
    /// LINT1.
    pub line1: bool,
}

/// This CPU's own identity.
pub fn own_id() -> u32 {
    let id = read(Register::Id);
    if MEMORY.load(Relaxed) == 0 { id } else { id >> 24 }
}

/// Which CPU has which identity.
pub fn set_id(cpu: CpuId, id: u32) {
    IDS[cpu.index()].store(id, Relaxed);
}

/// The identity of a CPU, if there is such a CPU.
pub fn find(cpu: CpuId) -> Option<u32> {
    IDS.get(cpu.index()).map(|id| id.load(Relaxed)).filter(|&id| id != NOBODY)
}

/// The identity of a CPU that exists.
#[inline(always)]
pub fn id(cpu: CpuId) -> u32 {
    IDS[cpu.index()].load(Relaxed)
}

/// Interrupts `cpus` at `vector`. What this CPU wrote before is seen there.
#[inline]
pub fn send(cpus: CpuSet, vector: u8) {
    for cpu in cpus.iter() {
        command(id(cpu), u32::from(vector) | ASSERT);
    }
}

/// Resets the CPU with identity `id`; it waits for [`send_startup`].
pub fn send_init(id: u32) {
    command(id, DELIVERY_INIT | ASSERT);
}

/// Makes a CPU that waits for it run the real-mode code in `page`.
pub fn send_startup(id: u32, page: u8) {
    command(id, DELIVERY_STARTUP | ASSERT | u32::from(page));
}

#[inline(always)]
fn command(id: u32, low: u32) {
    let memory = MEMORY.load(Relaxed);
    if memory == 0 {
        // SAFETY: orders this CPU's writes before the command, which does not do so by itself; the register exists.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            Msr::new(0x800 + Register::Command as u32).write(u64::from(id) << 32 | u64::from(low));
        }
        return;
    }
    let guard = IrqGuard::new();
    if WAIT_FOR_COMMAND.load(Relaxed) {
        wait_for_command();
    }
    // The destination register keeps its value, and writing it costs as much as the command.
    if local::read(Word::Destination) != u64::from(id) {
        write(Register::CommandDestination, id << 24);
        local::write(Word::Destination, u64::from(id));
    }
    write(Register::Command, low);
    drop(guard);
}

#[cold]
fn wait_for_command() {
    for _ in 0..MOST_POLLS {
        if read(Register::Command) & PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}
