//! The local APIC's timer as the one-shot event.
//!
//! Reaching the hardware is slow, so it is not touched more often than needed: a deadline later than what it is set to
//! is only written down, and the interrupt that then comes early sets the hardware anew. What the kernel sees is never
//! early.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::Nanoseconds;
use x86_64::registers::model_specific::Msr;

use super::scale::Scale;
use super::tsc;
use crate::cpu::features::{Features, has};
use crate::cpu::local::{self, Word};
use crate::interrupts::local_apic::{self, MASKED, Register};
use crate::interrupts::vectors;

const NEVER: u64 = u64::MAX;
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
    local_apic::write(Register::Divide, DIVIDE.load(Relaxed));
    local_apic::write(Register::TimerVector, mode | u32::from(vectors::TIMER));
    // SAFETY: in memory the mode and a deadline's register are not ordered among themselves.
    unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
}

/// Counts down from the highest value with nothing delivered, for calibration.
pub fn start_counting() {
    local_apic::write(Register::Divide, 0b1011);
    local_apic::write(Register::TimerVector, MASKED);
    local_apic::write(Register::InitialCount, u32::MAX);
}

/// What has been counted since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - local_apic::read(Register::CurrentCount)
}

/// Ends [`start_counting`].
pub fn stop_counting() {
    local_apic::write(Register::InitialCount, 0);
}

/// [`platform::Timer::arm`].
#[inline]
pub fn arm(deadline: Nanoseconds) {
    local::write(Word::Deadline, deadline.0);
    if deadline.0 < local::read(Word::Programmed) {
        program(deadline, tsc::now());
    }
}

/// [`platform::Timer::disarm`]: the hardware may still interrupt, but not the kernel.
#[inline]
pub fn disarm() {
    local::write(Word::Deadline, NEVER);
}

/// The hardware interrupted: whether the deadline has passed. If not, the hardware is set anew.
#[inline]
pub fn expired() -> bool {
    local::write(Word::Programmed, NEVER);
    let deadline = local::read(Word::Deadline);
    if deadline == NEVER {
        return false;
    }
    let now = tsc::now();
    if now.0 < deadline {
        program(Nanoseconds(deadline), now);
        return false;
    }
    local::write(Word::Deadline, NEVER);
    true
}

#[inline]
fn program(deadline: Nanoseconds, now: Nanoseconds) {
    let left = deadline.saturating_sub(now).0;
    local::write(Word::Programmed, deadline.0);
    if BY_TSC.load(Relaxed) {
        let target = tsc::ticks().saturating_add(tsc::nanosecond().apply_up(left));
        // SAFETY: the register exists in the mode that is set.
        unsafe { Msr::new(IA32_TSC_DEADLINE).write(target) };
    } else {
        // Too far for the counter: it comes early and is set anew.
        let count = Scale(NANOSECOND.load(Relaxed)).apply_up(left).min(u64::from(u32::MAX)) as u32;
        local_apic::write(Register::InitialCount, count);
    }
}
