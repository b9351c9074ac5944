//! The PC's clock of the time of day (MC146818): from its registers to nanoseconds since 1970.

/// What the clock's registers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    pub second: u8,
    pub minute: u8,
    pub hour: u8,
    pub day: u8,
    pub month: u8,
    pub year: u8,
    /// Of ACPI's choice, at 0x32 as on every PC.
    pub century: u8,
    /// Register B: the form of the others.
    pub form: u8,
}

const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;

/// Nanoseconds from 1970 to what the registers say, if that is a time.
pub fn nanoseconds(registers: Registers) -> Option<u64> {
    let number = |value: u8| {
        if registers.form & BINARY != 0 {
            return Some(u64::from(value));
        }
        (value & 0xf < 10 && value >> 4 < 10).then(|| u64::from(value >> 4) * 10 + u64::from(value & 0xf))
    };
    let mut hour;
    if registers.form & HOURS_24 != 0 {
        hour = number(registers.hour)?;
    } else {
        hour = number(registers.hour & !AFTERNOON)? % 12;
        if registers.hour & AFTERNOON != 0 {
            hour += 12;
        }
    }
    let (second, minute) = (number(registers.second)?, number(registers.minute)?);
    let (day, month, year) = (number(registers.day)?, number(registers.month)?, number(registers.year)?);
    // A machine without the century's register shows something that is no century.
    let century = number(registers.century).filter(|century| matches!(century, 19..=22)).unwrap_or(20);
    let valid = second < 60
        && minute < 60
        && hour < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && year < 100;
    let year = century * 100 + year;
    if !valid || year < 1970 {
        return None;
    }
    Some((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000)
}

/// Days from 1970-01-01. The year is taken to begin in March, so that the leap day is its last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn registers(form: u8, time: [u8; 7]) -> Registers {
        let [century, year, month, day, hour, minute, second] = time;
        Registers { second, minute, hour, day, month, year, century, form }
    }

    #[test]
    fn all_forms_of_a_time() {
        // 2026-11-25 19:30:05 UTC
        let expected = Some(1_795_635_005 * 1_000_000_000);
        assert_eq!(nanoseconds(registers(BINARY | HOURS_24, [20, 26, 11, 25, 19, 30, 5])), expected);
        assert_eq!(nanoseconds(registers(HOURS_24, [0x20, 0x26, 0x11, 0x25, 0x19, 0x30, 5])), expected);
        assert_eq!(nanoseconds(registers(0, [0x20, 0x26, 0x11, 0x25, 0x87, 0x30, 5])), expected);
        assert_eq!(nanoseconds(registers(HOURS_24, [0xff, 0x26, 0x11, 0x25, 0x19, 0x30, 5])), expected);
    }

    #[test]
    fn days_of_leap_years() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2100, 3, 1) - days(2100, 2, 28), 1);
    }

    #[test]
    fn noon_and_midnight_of_twelve_hours() {
        let hour = |hour| nanoseconds(registers(BINARY, [19, 70, 1, 1, hour, 0, 0]));
        assert_eq!(hour(12), Some(0));
        assert_eq!(hour(12 | AFTERNOON), Some(12 * 3600 * 1_000_000_000));
    }

    #[test]
    fn what_is_no_time() {
        assert_eq!(nanoseconds(registers(0xff, [0xff; 7])), None, "no clock");
        assert_eq!(nanoseconds(registers(0, [0; 7])), None);
        assert_eq!(nanoseconds(registers(BINARY, [20, 26, 13, 1, 1, 0, 0])), None);
        assert_eq!(nanoseconds(registers(HOURS_24, [0x20, 0x26, 0x1a, 0x25, 0x19, 0x30, 5])), None);
    }
}
