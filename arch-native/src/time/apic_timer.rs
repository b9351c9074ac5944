//! The local APIC's timer, which the bare machine's event comes from.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::Nanoseconds;

use super::scale::Scale;
use super::tsc;
use crate::bare::Bare;
use crate::cpu::features::{Features, has};
use crate::interrupts::local_apic::{self, MASKED, Register};
use crate::interrupts::vectors;
use crate::machine::Machine;

const MODE_TSC_DEADLINE: u32 = 2 << 17;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
/// The slowest rate that still is fine enough, a second.
const LOWEST_RATE: u64 = 50_000_000;
/// Divisors, from the largest, with their encoding (Intel SDM vol. 3A, figure 10-10).
const DIVISORS: [(u64, u32); 5] = [(16, 0b0011), (8, 0b0010), (4, 0b0001), (2, 0b0000), (1, 0b1011)];

/// Counts a nanosecond.
static NANOSECOND: AtomicU64 = AtomicU64::new(0);
static DIVIDE: AtomicU32 = AtomicU32::new(0b1011);
static BY_TSC: AtomicBool = AtomicBool::new(false);

/// The undivided rate, a second, is known: chooses the divisor.
pub fn set_rate(hertz: u64) {
    let (divisor, code) =
        DIVISORS.into_iter().find(|(divisor, _)| hertz / divisor >= LOWEST_RATE).unwrap_or((1, 0b1011));
    DIVIDE.store(code, Relaxed);
    NANOSECOND.store(Scale::between(1_000_000_000, hertz / divisor).0, Relaxed);
}

/// Uses deadlines of the time stamp counter.
pub fn use_tsc_deadline() {
    BY_TSC.store(true, Relaxed);
}

/// Whether the hardware can be set to a deadline of the time stamp counter.
pub fn has_tsc_deadline() -> bool {
    has(Features::TSC_DEADLINE)
}

/// Sets this CPU's timer up, with nothing to come.
pub fn enable() {
    let mode = if BY_TSC.load(Relaxed) { MODE_TSC_DEADLINE } else { 0 };
    local_apic::write::<Bare>(Register::Divide, DIVIDE.load(Relaxed));
    local_apic::write::<Bare>(Register::TimerVector, mode | u32::from(vectors::TIMER));
    // SAFETY: in memory the mode and a deadline's register are not ordered among themselves.
    unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
}

/// Counts down from the highest value with nothing delivered, for calibration.
pub fn start_counting() {
    local_apic::write::<Bare>(Register::Divide, 0b1011);
    local_apic::write::<Bare>(Register::TimerVector, MASKED);
    local_apic::write::<Bare>(Register::InitialCount, u32::MAX);
}

/// What has been counted since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - local_apic::read::<Bare>(Register::CurrentCount)
}

/// Ends [`start_counting`].
pub fn stop_counting() {
    local_apic::write::<Bare>(Register::InitialCount, 0);
}

/// Lets the timer interrupt in `left`, or earlier if that is too far for its counter.
#[inline]
pub fn set(left: Nanoseconds) {
    if BY_TSC.load(Relaxed) {
        let target = tsc::ticks().saturating_add(tsc::nanosecond().apply_up(left.0));
        // SAFETY: the register exists in the mode that is set.
        unsafe { Bare::write_msr(IA32_TSC_DEADLINE, target) };
    } else {
        let count = Scale(NANOSECOND.load(Relaxed)).apply_up(left.0).min(u64::from(u32::MAX)) as u32;
        local_apic::write::<Bare>(Register::InitialCount, count);
    }
}
