//! The local APIC, by memory (xAPIC) or by registers (x2APIC).

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::{CacheMode, CpuId, CpuSet, Kernel, MAX_CPUS, PhysAddr, Unusable};

use crate::cpu::features::{Features, has};
use crate::cpu::local::{self, Word};
use crate::irq::IrqGuard;
use crate::machine::Machine;
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

/// The registers' address, and whether and in which mode the APIC is on.
pub(crate) const IA32_APIC_BASE: u32 = 0x1b;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Register {
    /// Where it is in memory.
    #[inline(always)]
    pub const fn offset(self) -> u64 {
        16 * self as u64
    }

    /// Its number among the model-specific registers.
    #[inline(always)]
    pub const fn msr(self) -> u32 {
        0x800 + self as u32
    }
}

/// Reads a register.
#[inline(always)]
pub fn read<M: Machine>(register: Register) -> u32 {
    M::read_apic(MEMORY.load(Relaxed), register)
}

/// Writes a register.
#[inline(always)]
pub fn write<M: Machine>(register: Register, value: u32) {
    M::write_apic(MEMORY.load(Relaxed), register, value);
}

/// End of interrupt.
#[inline(always)]
pub fn end<M: Machine>() {
    write::<M>(Register::End, 0);
}

/// Finds the boot CPU's APIC and enables it; its registers are at `address` if firmware says so.
pub fn discover<K: Kernel, M: Machine>(address: Option<PhysAddr>) -> Result<(), Unusable> {
    if !has(Features::X2APIC) {
        // SAFETY: every CPU with an APIC has the register.
        let base = address.unwrap_or_else(|| PhysAddr(unsafe { M::read_msr(IA32_APIC_BASE) } & BASE_ADDRESS));
        let memory = PhysicalWindow::<K, M>::map(base, 4096, CacheMode::Uncacheable)
            .map_err(|_| Unusable("too little memory to reach the local APIC"))?;
        MEMORY.store(memory.0, Relaxed);
        WAIT_FOR_COMMAND.store(!has(Features::HYPERVISOR), Relaxed);
    }
    Ok(())
}

/// Sets this CPU's APIC up: everything masked but what `nmi` lines name.
pub fn enable<M: Machine>(nmi: NmiLines) -> Result<(), Unusable> {
    M::enable_apic(MEMORY.load(Relaxed))?;
    write::<M>(Register::TaskPriority, 0);
    write::<M>(Register::TimerVector, MASKED);
    write::<M>(Register::Line0, if nmi.line0 { DELIVERY_NMI } else { MASKED });
    write::<M>(Register::Line1, if nmi.line1 { DELIVERY_NMI } else { MASKED });
    write::<M>(Register::ErrorVector, MASKED);
    write::<M>(Register::Spurious, ENABLE | u32::from(super::vectors::SPURIOUS));
    Ok(())
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
pub fn own_id<M: Machine>() -> u32 {
    let id = read::<M>(Register::Id);
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
pub fn send<M: Machine>(cpus: CpuSet, vector: u8) {
    for cpu in cpus.iter() {
        command::<M>(id(cpu), u32::from(vector) | ASSERT);
    }
}

/// Resets the CPU with identity `id`; it waits for [`send_startup`].
pub fn send_init<M: Machine>(id: u32) {
    command::<M>(id, DELIVERY_INIT | ASSERT);
}

/// Makes a CPU that waits for it run the real-mode code in `page`.
pub fn send_startup<M: Machine>(id: u32, page: u8) {
    command::<M>(id, DELIVERY_STARTUP | ASSERT | u32::from(page));
}

#[inline(always)]
fn command<M: Machine>(id: u32, low: u32) {
    let memory = MEMORY.load(Relaxed);
    if memory == 0 {
        // SAFETY: orders this CPU's writes before the command, which does not do so by itself; the register exists.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            M::write_msr(Register::Command.msr(), u64::from(id) << 32 | u64::from(low));
        }
        return;
    }
    let guard = IrqGuard::<M>::disable();
    if WAIT_FOR_COMMAND.load(Relaxed) {
        wait_for_command::<M>();
    }
    // The destination register keeps its value, and writing it costs as much as the command.
    if local::read(Word::Destination) != u64::from(id) {
        write::<M>(Register::CommandDestination, id << 24);
        local::write(Word::Destination, u64::from(id));
    }
    write::<M>(Register::Command, low);
    drop(guard);
}

#[cold]
fn wait_for_command<M: Machine>() {
    for _ in 0..MOST_POLLS {
        if read::<M>(Register::Command) & PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}
