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
/// Measurements that may be disturbed before the clock is given up.
const ATTEMPTS: u32 = 50;
/// No time stamp counter is slower.
const LEAST_TICKS_A_SECOND: u64 = 500_000_000;

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

/// What became of a measurement.
enum Attempt {
    Measured(Rates),
    /// The CPU was away for so long that the clock may have wrapped.
    Disturbed,
    /// The clock, or a counter, does not count.
    Still,
}

impl<R: Fn() -> u64> Reference<R> {
    /// Counts from `start` to `end`, through at most one wrap.
    fn between(&self, start: u64, end: u64) -> u64 {
        end.wrapping_sub(start) & (u64::MAX >> (64 - self.bits))
    }

    /// Whether the clock can come round while the CPU counts so many ticks.
    fn may_wrap_in(&self, ticks: u64) -> bool {
        (u128::from(ticks) * u128::from(self.rate)) >> self.bits >= u128::from(LEAST_TICKS_A_SECOND)
    }

    /// The rates, if the clock counts. `apic_timer` says what the APIC's timer has counted, upwards.
    pub fn measure(&self, apic_timer: impl Fn() -> u32) -> Option<Rates> {
        for _ in 0..ATTEMPTS {
            match self.attempt(&apic_timer) {
                Attempt::Measured(rates) => return Some(rates),
                Attempt::Disturbed => {}
                Attempt::Still => return None,
            }
        }
        None
    }

    fn attempt(&self, apic_timer: impl Fn() -> u32) -> Attempt {
        // The clock is read before the ticks here, and after them in the loop: a CPU that is away between the two has not seen
        // a clock that stands still.
        let (first, begin) = ((self.read)(), ticks());
        loop {
            let waited = ticks().wrapping_sub(begin);
            if (self.read)() != first {
                break;
            }
            if waited > TICKS_TO_MOVE {
                return Attempt::Still;
            }
        }
        let count = || apic_timer().into();
        let (start, start_count) = (reading(&self.read), reading(count));
        let (mut last, mut longest_gap) = (start.tsc, 0);
        loop {
            let now = ticks();
            let counted = self.between(start.value, (self.read)());
            longest_gap = longest_gap.max(now.wrapping_sub(last));
            last = now;
            if counted >= self.window {
                break;
            }
            if now.wrapping_sub(start.tsc) > MOST_TICKS {
                return if self.may_wrap_in(longest_gap) { Attempt::Disturbed } else { Attempt::Still };
            }
        }
        let (end, end_count) = (reading(&self.read), reading(count));
        longest_gap = longest_gap.max(end.tsc.wrapping_sub(last));
        if self.may_wrap_in(longest_gap) {
            return Attempt::Disturbed;
        }
        let took = end.tsc.wrapping_sub(start.tsc);
        let rates = self.rates(took, self.between(start.value, end.value), |tsc| {
            let counted = end_count.value.wrapping_sub(start_count.value);
            scaled(counted, tsc, end_count.tsc.wrapping_sub(start_count.tsc))
        });
        rates.map_or(Attempt::Still, Attempt::Measured)
    }

    /// Of so many ticks while this clock counted `passed`, and the APIC's timer at a rate that follows from that of the ticks.
    fn rates(&self, ticks: u64, passed: u64, apic_timer: impl Fn(u64) -> Option<u64>) -> Option<Rates> {
        let tsc = scaled(ticks, self.rate, passed)?;
        let apic_timer = apic_timer(tsc)?;
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
    use core::cell::Cell;

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

    /// Of 16 bits, which come round every 65,536,000 ticks, as though there were 2 GHz of them; once, at reading `away`, the CPU
    /// is away for longer than that.
    fn measure_with_the_cpu_away_at(away: u32) -> Rates {
        let readings = Cell::new(0);
        let read = || {
            readings.set(readings.get() + 1);
            if readings.get() == away {
                let begin = ticks();
                while ticks().wrapping_sub(begin) < 70_000_000 {}
            }
            (ticks() / 1000) & 0xffff
        };
        let clock = Reference { read, rate: 2_000_000, bits: 16, window: 8000 };
        clock.measure(|| (ticks() / 2) as u32).expect("it counts")
    }

    #[test]
    fn a_cpu_that_is_away_meanwhile_measures_again() {
        for away in [0, 1, 2, 11, 12, 100] {
            let rates = measure_with_the_cpu_away_at(away);
            assert!((1_990_000_000..2_010_000_000).contains(&rates.tsc), "{away}: {rates:?}");
            assert!((995_000_000..1_005_000_000).contains(&rates.apic_timer), "{away}: {rates:?}");
        }
    }
}
