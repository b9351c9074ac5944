//! The rate of the time stamp counter, and the real-time clock.

use core::arch::x86_64::_rdtsc;

use platform::Nanoseconds;
use x86_64::instructions::port::Port;

use super::apic;
use super::power::Unusable;
use crate::clock::Scale;

/// Rate of the 8254 in Hz.
const PIT_RATE: u64 = 1_193_182;
/// What is counted: about ten milliseconds.
const PIT_COUNTS: u16 = 11_932;
/// How often the 8254 is asked whether it is done: a second, at least.
const MOST_POLLS: u32 = 20_000_000;

/// The time stamp counter.
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: every 64-bit processor has it, and CPL 0 may read it.
    unsafe { _rdtsc() }
}

/// Rates of the time stamp counter and of the APIC's timer, measured against the 8254.
pub fn measure() -> Result<(Scale, Scale), Unusable> {
    let (mut gate, mut command, mut channel) =
        (Port::<u8>::new(0x61), Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    // SAFETY: the 8254's channel 2, with the speaker off; where there is none nothing happens.
    unsafe {
        let quiet = gate.read() & !0b11;
        gate.write(quiet);
        command.write(0b1011_0000); // channel 2, low then high byte, mode 0
        channel.write(PIT_COUNTS as u8);
        channel.write((PIT_COUNTS >> 8) as u8);
        gate.write(quiet | 1);
    }
    apic::start_counting();
    let start = counter();
    let mut polls = 0;
    // SAFETY: as above.
    while unsafe { gate.read() } & 1 << 5 == 0 {
        polls += 1;
        if polls > MOST_POLLS {
            return Err(Unusable("the 8254 timer does not run: the clock's rate cannot be measured"));
        }
    }
    let (ticks, counts) = (counter() - start, apic::counted());
    let time = Nanoseconds(u64::from(PIT_COUNTS) * 1_000_000_000 / PIT_RATE);
    if polls == 0 || ticks == 0 || counts == 0 {
        return Err(Unusable("the clock's rate cannot be measured"));
    }
    Ok((Scale::measured(ticks, time), Scale::measured(u64::from(counts), time)))
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
    let read = || [0, 2, 4, 7, 8, 9].map(cmos);
    let mut last = read();
    for _ in 0..100_000 {
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
