//! The time stamp counter as the clock.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use platform::Nanoseconds;

use super::scale::Scale;

/// Ticks to wait for the effect of a write that ends the machine: a tenth of a second, more or less.
pub const TICKS_FOR_EFFECT: u64 = 300_000_000;

/// The counter at the first instruction.
static ORIGIN: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds a tick; zero until the rate is known.
static TICK: AtomicU64 = AtomicU64::new(0);
/// Ticks a nanosecond.
static NANOSECOND: AtomicU64 = AtomicU64::new(0);
/// The counters of two CPUs were seen apart: no reading may be below one given before.
static GUARDED: AtomicBool = AtomicBool::new(false);
static LAST: AtomicU64 = AtomicU64::new(0);

/// The counter, after everything before it.
#[inline(always)]
pub fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe {
        core::arch::asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags));
    }
    high << 32 | low
}

/// Waits for about `count` ticks.
pub fn spin(count: u64) {
    let start = ticks();
    while ticks().wrapping_sub(start) < count {
        core::hint::spin_loop();
    }
}

/// Remembers the counter at the first instruction.
pub fn set_origin(first_tick: u64) {
    ORIGIN.store(first_tick, Relaxed);
}

/// The counter at the first instruction.
pub fn origin() -> u64 {
    ORIGIN.load(Relaxed)
}

/// Starts the clock: the counter runs at `hertz`.
pub fn set_rate(hertz: u64) {
    NANOSECOND.store(Scale::between(1_000_000_000, hertz).0, Relaxed);
    set_tick(Scale::between(hertz, 1_000_000_000));
}

/// Starts the clock: a tick is so many nanoseconds.
pub fn set_tick(tick: Scale) {
    TICK.store(tick.0, Relaxed);
}

/// Nanoseconds a tick, once the rate is known.
pub fn tick() -> Option<Scale> {
    match TICK.load(Relaxed) {
        0 => None,
        scale => Some(Scale(scale)),
    }
}

/// Ticks a nanosecond.
pub fn nanosecond() -> Scale {
    Scale(NANOSECOND.load(Relaxed))
}

/// Makes readings of all CPUs agree on their order.
pub fn guard() {
    GUARDED.store(true, Relaxed);
}

/// Whether the counters of all CPUs show the same.
pub fn is_synchronized() -> bool {
    !GUARDED.load(Relaxed)
}

/// [`platform::Clock::now`].
#[inline]
pub fn now() -> Nanoseconds {
    let passed = ticks().saturating_sub(ORIGIN.load(Relaxed));
    let now = Scale(TICK.load(Relaxed)).apply(passed);
    if GUARDED.load(Relaxed) {
        return Nanoseconds(LAST.fetch_max(now, Relaxed).max(now));
    }
    Nanoseconds(now)
}
