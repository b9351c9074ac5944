//! Linux's time structures (include/uapi/linux/time.h, time_types.h, timex.h) and their conversion.

use platform::Nanoseconds;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};

const SECOND: u64 = Nanoseconds::SECOND.0;

/// `struct timespec`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds beside them, below a thousand million.
    pub nanoseconds: i64,
}

impl Timespec {
    /// The time it means. What is too long to represent becomes the last representable time, which is centuries away.
    ///
    /// # Errors
    /// EINVAL where it is negative or its nanoseconds are a second or more.
    pub fn duration(self) -> KResult<Nanoseconds> {
        let seconds = u64::try_from(self.seconds).map_err(|_| Errno::EINVAL)?;
        let nanoseconds = u64::try_from(self.nanoseconds).map_err(|_| Errno::EINVAL)?;
        if nanoseconds >= SECOND {
            return Err(Errno::EINVAL);
        }
        Ok(Nanoseconds::from_seconds(seconds).saturating_add(Nanoseconds(nanoseconds)))
    }
}

impl From<Nanoseconds> for Timespec {
    fn from(time: Nanoseconds) -> Self {
        Self { seconds: time.seconds() as i64, nanoseconds: time.subsec().into() }
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub seconds: i64,
    /// Microseconds beside them, below a million.
    pub microseconds: i64,
}

impl Timeval {
    /// As [`Timespec::duration`].
    ///
    /// # Errors
    /// EINVAL where it is negative or its microseconds are a second or more.
    pub fn duration(self) -> KResult<Nanoseconds> {
        if !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        Timespec { seconds: self.seconds, nanoseconds: self.microseconds * 1000 }.duration()
    }
}

impl From<Nanoseconds> for Timeval {
    fn from(time: Nanoseconds) -> Self {
        Self { seconds: time.seconds() as i64, microseconds: i64::from(time.subsec() / 1000) }
    }
}

/// `struct timezone`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timezone {
    /// Minutes west of Greenwich.
    pub minutes_west: i32,
    /// Kind of daylight saving time; long out of use.
    pub daylight_saving: i32,
}

/// `struct itimerspec`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Itimerspec {
    /// Time between expirations.
    pub interval: Timespec,
    /// Time to the next, or of the next.
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Itimerval {
    /// Time between expirations.
    pub interval: Timeval,
    /// Time to the next.
    pub value: Timeval,
}

/// `struct tms`, in hundredths of a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tms {
    /// Time in user mode.
    pub user: i64,
    /// Time in the kernel.
    pub system: i64,
    /// The same of children waited for.
    pub children_user: i64,
    /// As above.
    pub children_system: i64,
}

/// Hundredths of a second: Linux's USER_HZ.
pub fn clock_ticks(time: Nanoseconds) -> i64 {
    (time.0 / 10_000_000) as i64
}

/// `struct sigevent` up to what the kernel reads (include/uapi/asm-generic/siginfo.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigevent {
    /// What the handler is given.
    pub value: u64,
    /// Signal.
    pub signal: i32,
    /// SIGEV_…
    pub notify: i32,
    /// Thread for SIGEV_THREAD_ID.
    pub thread: i32,
    /// Not read.
    pub padding: [i32; 11],
}

/// `struct timex` (include/uapi/linux/timex.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Timex {
    pub modes: u32,
    pub padding0: u32,
    pub offset: i64,
    pub frequency: i64,
    pub max_error: i64,
    pub estimated_error: i64,
    pub status: i32,
    pub padding1: i32,
    pub constant: i64,
    pub precision: i64,
    pub tolerance: i64,
    pub time: Timeval,
    pub tick: i64,
    pub pps_frequency: i64,
    pub jitter: i64,
    pub shift: i32,
    pub padding2: i32,
    pub stability: i64,
    pub jitter_count: i64,
    pub calibration_count: i64,
    pub error_count: i64,
    pub stability_count: i64,
    pub tai: i32,
    pub padding3: [i32; 11],
}

const _: () = {
    assert!(size_of::<Timex>() == 208);
    assert!(size_of::<Sigevent>() == 64);
    assert!(size_of::<Itimerspec>() == 32);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_convert_both_ways() {
        let time = Nanoseconds(5_000_000_007);
        assert_eq!(Timespec::from(time), Timespec { seconds: 5, nanoseconds: 7 });
        assert_eq!(Timespec::from(time).duration(), Ok(time));
        assert_eq!(Timeval::from(Nanoseconds(1_002_003_004)), Timeval { seconds: 1, microseconds: 2003 });
        assert_eq!(Timeval { seconds: 1, microseconds: 2003 }.duration(), Ok(Nanoseconds(1_002_003_000)));
    }

    #[test]
    fn bad_times_are_refused_and_long_ones_cut() {
        for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i64::MIN)] {
            assert_eq!(Timespec { seconds, nanoseconds }.duration(), Err(Errno::EINVAL));
        }
        for microseconds in [-1, 1_000_000, i64::MAX] {
            assert_eq!(Timeval { seconds: 0, microseconds }.duration(), Err(Errno::EINVAL));
        }
        assert_eq!(Timespec { seconds: i64::MAX, nanoseconds: 999_999_999 }.duration(), Ok(Nanoseconds::MAX));
    }
}
