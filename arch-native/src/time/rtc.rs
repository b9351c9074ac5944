//! The wall clock: the battery-backed clock of the PC (MC146818).

use platform::Nanoseconds;

use crate::bare::Bare;
use crate::machine::Machine;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 0x80;
const TWENTY_FOUR_HOURS: u8 = 0x02;
const BINARY: u8 = 0x04;
/// An update takes two milliseconds at the most; a read about a microsecond.
const MOST_POLLS: u32 = 20_000;
const MOST_READINGS: u32 = 4;

/// Time since 1970, if the clock makes sense.
pub fn read() -> Option<Nanoseconds> {
    registers().map(Nanoseconds::from_seconds)
}

fn register(number: u8) -> u8 {
    // SAFETY: the clock's index and data ports on every PC; reading has no side effect in these registers.
    unsafe {
        Bare::out8(0x70, number);
        Bare::in8(0x71)
    }
}

/// Two readings in a row that agree, outside of an update.
fn registers() -> Option<u64> {
    let mut before = None;
    for _ in 0..MOST_READINGS {
        (0..MOST_POLLS).find(|_| register(STATUS_A) & UPDATING == 0)?;
        let now = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR].map(register);
        if before == Some(now) {
            return decode(now, register(STATUS_B));
        }
        before = Some(now);
    }
    None
}

/// Seconds since 1970 from the registers; none if they make no sense.
fn decode([seconds, minutes, hours, day, month, year]: [u8; 6], format: u8) -> Option<u64> {
    const AFTERNOON: u8 = 0x80;
    let number = |value: u8| {
        if format & BINARY != 0 {
            Some(value)
        } else {
            (value & 0xf < 10 && value >> 4 < 10).then(|| (value >> 4) * 10 + (value & 0xf))
        }
    };
    let mut hour = number(hours & !AFTERNOON)?;
    if format & TWENTY_FOUR_HOURS == 0 {
        hour = hour % 12 + if hours & AFTERNOON != 0 { 12 } else { 0 };
    }
    let (second, minute) = (number(seconds)?, number(minutes)?);
    let (day, month, year) = (number(day)?, number(month)?, number(year)?);
    if second > 59
        || minute > 59
        || hour > 23
        || !(1..=31).contains(&day)
        || !(1..=12).contains(&month)
        || year > 99
    {
        return None;
    }
    // Two digits: 1970 to 2069.
    let year = u64::from(year) + if year < 70 { 2000 } else { 1900 };
    let days = days_before(year, u64::from(month)) + u64::from(day) - 1;
    Some(((days * 24 + u64::from(hour)) * 60 + u64::from(minute)) * 60 + u64::from(second))
}

/// Days from 1970-01-01 to the first of `month` in `year`.
fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969)
        + BEFORE_MONTH[month as usize - 1]
        + u64::from(leap && month > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_both_formats() {
        let expected = Some(1_709_210_096); // 2024-02-29 12:34:56
        assert_eq!(decode([56, 34, 12, 29, 2, 24], BINARY | TWENTY_FOUR_HOURS), expected);
        assert_eq!(decode([0x56, 0x34, 0x12, 0x29, 0x02, 0x24], TWENTY_FOUR_HOURS), expected);
        assert_eq!(decode([0x56, 0x34, 0x92, 0x29, 0x02, 0x24], 0), expected);
        assert_eq!(decode([0x56, 0x34, 0x12, 0x29, 0x02, 0x24], 0), expected.map(|noon| noon - 12 * 3600));
        assert_eq!(decode([0, 0, 0, 1, 1, 70], BINARY | TWENTY_FOUR_HOURS), Some(0));
        assert_eq!(decode([59, 59, 23, 31, 12, 69], BINARY | TWENTY_FOUR_HOURS), Some(3_155_759_999));
    }

    #[test]
    fn refuses_what_is_no_time() {
        assert_eq!(decode([0xff; 6], 0xff), None);
        assert_eq!(decode([0; 6], TWENTY_FOUR_HOURS), None);
        assert_eq!(decode([0x5a, 0, 0, 1, 1, 0], TWENTY_FOUR_HOURS), None);
    }

    #[test]
    fn counts_days_through_leap_years() {
        let mut days = 0;
        for year in 1970..2070 {
            for month in 1..=12 {
                assert_eq!(days_before(year, month), days, "{year}-{month}");
                let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                days += match month {
                    2 => 28 + u64::from(leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
            }
        }
    }
}
