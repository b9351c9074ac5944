//! Conversion between the counter of the processor and nanoseconds.

use platform::Nanoseconds;

/// A rate: nanoseconds per count, with 32 bits behind the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale(pub u64);

impl Scale {
    /// The rate of a counter that makes `counts` in `time`, neither of them zero.
    pub const fn measured(counts: u64, time: Nanoseconds) -> Self {
        Self((((time.0 as u128) << 32) / counts as u128) as u64)
    }

    /// The time of `counts`, rounded down.
    #[inline]
    pub const fn time(self, counts: u64) -> Nanoseconds {
        Nanoseconds(((counts as u128 * self.0 as u128) >> 32) as u64)
    }

    /// The counts that take at least `time`; the most there can be if it is too long.
    pub const fn counts(self, time: Nanoseconds) -> u64 {
        let counts = ((time.0 as u128) << 32).div_ceil(self.0 as u128) + 1;
        if counts > u64::MAX as u128 { u64::MAX } else { counts as u64 }
    }

    /// Counts in a second, in thousands.
    pub const fn kilohertz(self) -> u64 {
        (1_000_000u64 << 32) / self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_never_too_short(rate in 1_000_000u64..10_000_000_000, time in 0u64..1 << 50) {
            let scale = Scale::measured(rate, Nanoseconds::SECOND);
            let counts = scale.counts(Nanoseconds(time));
            prop_assert!(scale.time(counts).0 >= time);
            prop_assert!(scale.time(counts.saturating_sub(3)).0 <= time);
        }
    }

    #[test]
    fn rates_are_in_thousands() {
        assert_eq!(Scale::measured(1_000_000_000, Nanoseconds::SECOND).kilohertz(), 1_000_000);
    }
}
