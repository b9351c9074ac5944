//! The rate of the time stamp counter, and the real-time clock.

use core::arch::x86_64::{__cpuid_count, _rdtsc, CpuidResult};

use arch_x86::pit;
use platform::{Nanoseconds, Unusable};
use x86_64::instructions::port::Port;

use super::apic;
use crate::clock::Scale;

/// The rate of the APIC's timer where a hypervisor counts it in nanoseconds.
const NANOSECOND_RATE: u64 = 1_000_000_000;
/// A reference that has not moved after so many ticks never will: about a millisecond.
const TICKS_TO_MOVE: u64 = 3_000_000;
/// No measurement is longer: about a tenth of a second.
const MOST_TICKS: u64 = 300_000_000;

/// The time stamp counter.
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: every 64-bit processor has it, and CPL 0 may read it.
    unsafe { _rdtsc() }
}

/// Rates of the two counters.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Time stamp counter.
    pub counter: Scale,
    /// The APIC's timer, undivided.
    pub timer: Scale,
}

/// What the counters are measured against.
#[derive(Clone, Copy)]
enum Reference {
    /// Channel 2 of the 8254.
    Pit,
    /// The APIC's timer, where its rate is known.
    ApicTimer,
}

/// Finds the rates: what a hypervisor says by CPUID, or measured against the first reference that counts.
pub fn measure() -> Result<Rates, Unusable> {
    apic::start_counting();
    said()
        .or_else(|| against(Reference::Pit))
        .or_else(|| counts_nanoseconds().then(|| against(Reference::ApicTimer))?)
        .ok_or(Unusable("the machine has no clock to measure the CPU's counter with"))
}

fn hypervisor(leaf: u32) -> Option<CpuidResult> {
    const HYPERVISOR: u32 = 1 << 31;
    let first = __cpuid_count(0x4000_0000, 0);
    let there = __cpuid_count(1, 0).ecx & HYPERVISOR != 0
        && (leaf..0x4001_0000).contains(&first.eax.max(0x4000_0000));
    there.then(|| __cpuid_count(leaf, 0))
}

/// The generic timing leaf: both rates in kHz.
fn said() -> Option<Rates> {
    let leaf = hypervisor(0x4000_0010)?;
    let scale = |kilohertz: u32| Scale::measured(u64::from(kilohertz) * 1000, Nanoseconds::SECOND);
    (leaf.eax >= 1000 && leaf.ebx >= 1000).then(|| Rates { counter: scale(leaf.eax), timer: scale(leaf.ebx) })
}

/// Whether the hypervisor is one that runs the APIC timer at 1 GHz: QEMU's emulation and KVM do.
fn counts_nanoseconds() -> bool {
    let Some(leaf) = hypervisor(0x4000_0000) else { return false };
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    matches!(name.as_flattened(), b"TCGTCGTCGTCG" | b"KVMKVMKVM\0\0\0")
}

impl Reference {
    fn start(self) {
        if let Self::Pit = self {
            pit::start();
        }
    }

    /// What it has counted.
    fn read(self) -> u64 {
        match self {
            Self::Pit => pit::counted(),
            Self::ApicTimer => u64::from(apic::counted()),
        }
    }

    const fn rate(self) -> u64 {
        match self {
            Self::Pit => pit::RATE,
            Self::ApicTimer => NANOSECOND_RATE,
        }
    }
}

fn against(reference: Reference) -> Option<Rates> {
    reference.start();
    let begin = counter();
    let first = reference.read();
    while reference.read() == first {
        if counter().wrapping_sub(begin) > TICKS_TO_MOVE {
            return None;
        }
    }
    let start = Reading::least_disturbed(reference);
    // Ten milliseconds.
    while reference.read().wrapping_sub(start.reference) < reference.rate() / 100 {
        if counter().wrapping_sub(begin) > MOST_TICKS {
            return None;
        }
    }
    let end = Reading::least_disturbed(reference);
    let passed = Nanoseconds((end.reference - start.reference) * 1_000_000_000 / reference.rate());
    let (ticks, counted) = (end.ticks - start.ticks, u64::from(end.counted - start.counted));
    let scale = |counts: u64| Scale::measured(counts, passed);
    // Slower than a megahertz is no counter of a CPU this code can run on.
    (ticks >= 10_000 && counted >= 10_000).then(|| Rates { counter: scale(ticks), timer: scale(counted) })
}

/// The three counters at one moment.
#[derive(Clone, Copy)]
struct Reading {
    ticks: u64,
    reference: u64,
    counted: u32,
}

impl Reading {
    /// Of a few readings the one that took least time: the others were interrupted below, or the code was new.
    fn least_disturbed(reference: Reference) -> Self {
        let mut best = Self { ticks: 0, reference: 0, counted: 0 };
        let mut least = u64::MAX;
        for _ in 0..8 {
            let before = counter();
            let (value, counted) = (reference.read(), apic::counted());
            let took = counter().wrapping_sub(before);
            if took < least {
                least = took;
                best = Self { ticks: before + took / 2, reference: value, counted };
            }
        }
        best
    }
}

fn cmos(register: u8) -> u8 {
    // SAFETY: the real-time clock's index and data ports.
    unsafe {
        Port::<u8>::new(0x70).write(0x80 | register);
        Port::<u8>::new(0x71).read()
    }
}

/// Seconds, minutes, hours, day, month, year, once they are the same twice in a row.
fn fields() -> Option<[u8; 6]> {
    // Nothing answers where there is no clock.
    if cmos(0x0a) == 0xff {
        return None;
    }
    let read = || [0, 2, 4, 7, 8, 9].map(cmos);
    let mut last = read();
    for _ in 0..10_000 {
        let updating = cmos(0x0a) & 0x80 != 0;
        let now = read();
        if !updating && now == last {
            return Some(now);
        }
        last = now;
    }
    None
}

/// Time since 1970-01-01 00:00 UTC, if the real-time clock has a date of this century.
pub fn wall_clock() -> Option<Nanoseconds> {
    let [second, minute, hour, day, month, year] = fields()?;
    let mode = cmos(0x0b);
    let number = |value: u8| {
        let binary = mode & 4 != 0;
        u64::from(if binary { value } else { (value >> 4) * 10 + (value & 15) })
    };
    let mut hours = number(hour & 0x7f);
    if mode & 2 == 0 {
        hours = hours % 12 + if hour & 0x80 != 0 { 12 } else { 0 };
    }
    let (day, month, year) = (number(day), number(month), 2000 + number(year));
    if !(1..=31).contains(&day) || !(1..=12).contains(&month) {
        return None;
    }
    // Days since 1970-03-01, with the year starting in March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let days = days - 719_468;
    Some(Nanoseconds::from_seconds(days * 86_400 + hours * 3600 + number(minute) * 60 + number(second)))
}
