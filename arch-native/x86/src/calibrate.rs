//! How fast the time stamp counter and the APIC's timer run: measured against a clock whose rate is known.
//!
//! No clock need be there: each must show that it counts before it is used, and no loop lasts longer than a set number of ticks.

use core::arch::asm;
use core::arch::x86_64::CpuidResult;

/// A clock that has not moved after so many ticks never will: about a millisecond.
const TICKS_TO_MOVE: u64 = 3_000_000;
/// No window is longer, however slow its clock: about a tenth of a second.
const MOST_TICKS: u64 = 300_000_000;
/// Readings of which the least disturbed one counts.
const READINGS: u32 = 8;

/// Rates, a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Time stamp counter.
    pub tsc: u64,
    /// Undivided APIC timer.
    pub apic_timer: u64,
}

/// The rate of the APIC's timer under a hypervisor that counts it in nanoseconds, as QEMU's emulation and KVM do; `name` is what
/// CPUID's leaf 0x4000_0000 says.
pub fn rate_under(name: CpuidResult) -> Option<u64> {
    let name = [name.ebx, name.ecx, name.edx].map(u32::to_le_bytes);
    matches!(name.as_flattened(), b"TCGTCGTCGTCG" | b"KVMKVMKVM\0\0\0").then_some(1_000_000_000)
}

/// A clock to count against.
#[derive(Clone, Copy, Debug)]
pub struct Reference<R> {
    /// Reads it.
    pub read: R,
    /// What it counts a second.
    pub rate: u64,
    /// How many bits it has before it wraps.
    pub bits: u32,
    /// What it counts while the others are measured: less than it can count.
    pub window: u64,
}

impl<R: Fn() -> u64> Reference<R> {
    /// Counts from `start` to `end`, through at most one wrap.
    fn between(&self, start: u64, end: u64) -> u64 {
        end.wrapping_sub(start) & (u64::MAX >> (64 - self.bits))
    }

    /// The rates, if the clock counts. `apic_timer` says what the APIC's timer has counted, upwards.
    pub fn measure(&self, apic_timer: impl Fn() -> u32) -> Option<Rates> {
        let begin = ticks();
        let first = (self.read)();
        while (self.read)() == first {
            if ticks().wrapping_sub(begin) > TICKS_TO_MOVE {
                return None;
            }
        }
        let count = || apic_timer().into();
        let (start, start_count) = (reading(&self.read), reading(count));
        while self.between(start.value, (self.read)()) < self.window {
            if ticks().wrapping_sub(start.tsc) > MOST_TICKS {
                return None;
            }
        }
        let (end, end_count) = (reading(&self.read), reading(count));
        let passed = self.between(start.value, end.value);
        let tsc = scaled(end.tsc.wrapping_sub(start.tsc), self.rate, passed)?;
        let counted = end_count.value.wrapping_sub(start_count.value);
        let apic_timer = scaled(counted, tsc, end_count.tsc.wrapping_sub(start_count.tsc))?;
        // Slower than a megahertz is no counter of a CPU this code can run on.
        (tsc >= 1_000_000 && apic_timer >= 1_000_000).then_some(Rates { tsc, apic_timer })
    }
}

/// The time stamp counter, after everything before it.
#[inline(always)]
pub fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags));
    }
    high << 32 | low
}

/// A counter's value, and the time stamp counter in the middle of reading it.
#[derive(Clone, Copy)]
struct Reading {
    tsc: u64,
    value: u64,
}

/// Of a few readings the one that took least time: the others were interrupted below, or the code was new.
fn reading(read: impl Fn() -> u64) -> Reading {
    let mut least = u64::MAX;
    let mut best = Reading { tsc: 0, value: 0 };
    for _ in 0..READINGS {
        let before = ticks();
        let value = read();
        let took = ticks().wrapping_sub(before);
        if took < least {
            least = took;
            best = Reading { tsc: before.wrapping_add(took / 2), value };
        }
    }
    best
}

/// `count * rate / passed`.
fn scaled(count: u64, rate: u64, passed: u64) -> Option<u64> {
    let passed = u128::from(passed);
    u64::try_from((u128::from(count) * u128::from(rate)).checked_div(passed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_few_bits_wrap() {
        let of = |bits| Reference { read: || 0, rate: 1, bits, window: 1 };
        assert_eq!(of(24).between(0xff_fff0, 0x10), 0x20);
        assert_eq!(of(16).between(0xfff0, 0x10), 0x20);
        assert_eq!(of(32).between(0xffff_fff0, 0x10), 0x20);
        assert_eq!(of(64).between(u64::MAX - 0xf, 0x10), 0x20);
    }

    #[test]
    fn a_clock_that_stands_still_measures_nothing() {
        let still = Reference { read: || 7, rate: 1_000_000, bits: 32, window: 1000 };
        assert_eq!(still.measure(|| ticks() as u32), None);
    }
}
