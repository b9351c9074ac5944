//! The rate of the time stamp counter, and the real-time clock.

use core::arch::x86_64::{__cpuid_count, _rdtsc, CpuidResult};

use arch_x86::calibrate::{Rates, Reference, rate_under};
use arch_x86::pit;
use platform::{Nanoseconds, Unusable};
use x86_64::instructions::port::Port;

use super::apic;

/// How long counters are measured, in parts of a second.
const WINDOW: u64 = 100;

/// The time stamp counter.
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: every 64-bit processor has it, and CPL 0 may read it.
    unsafe { _rdtsc() }
}

/// Finds the rates: what a hypervisor says by CPUID, or measured against the first clock that counts.
pub fn measure() -> Result<Rates, Unusable> {
    apic::start_counting();
    said()
        .or_else(|| against(|| apic::counted().into(), rate_under(hypervisor(0x4000_0000)?)?, 32))
        .or_else(|| {
            pit::start();
            against(pit::counted, pit::RATE, 16)
        })
        .ok_or(Unusable("the machine has no clock to measure the CPU's counter with"))
}

fn against(read: impl Fn() -> u64, rate: u64, bits: u32) -> Option<Rates> {
    Reference { read, rate, bits, window: rate / WINDOW }.measure(apic::counted)
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
    let rate = |kilohertz: u32| u64::from(kilohertz) * 1000;
    let rates = Rates { tsc: rate(leaf.eax), apic_timer: rate(leaf.ebx) };
    (leaf.eax >= 1000 && leaf.ebx >= 1000).then_some(rates)
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
