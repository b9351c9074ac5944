//! Conversion between rates by one multiplication.

/// A factor with 32 bits behind the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale(pub u64);

impl Scale {
    /// Converts counts at rate `from` (per second, not zero) to counts at rate `to`. The result is at most one part in
    /// 2^32 of a `to` too small a count.
    pub const fn between(from: u64, to: u64) -> Self {
        Self((((to as u128) << 32) / from as u128) as u64)
    }

    /// The converted count, rounded down.
    #[inline(always)]
    pub const fn apply(self, count: u64) -> u64 {
        ((count as u128 * self.0 as u128) >> 32) as u64
    }

    /// The converted count, rounded up and one more: never less than exact.
    #[inline(always)]
    pub const fn apply_up(self, count: u64) -> u64 {
        let exact = (count as u128 * (self.0 as u128 + 1)) >> 32;
        if exact >= u64::MAX as u128 { u64::MAX } else { exact as u64 + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_close_and_never_on_the_wrong_side(
            from in 1_000_000u64..10_000_000_000,
            to in 1_000_000u64..10_000_000_000,
            count in 0u64..1 << 50,
        ) {
            let scale = Scale::between(from, to);
            let exact = count as u128 * to as u128 / from as u128;
            prop_assert!(u128::from(scale.apply(count)) <= exact);
            prop_assert!(exact - u128::from(scale.apply(count)) <= (u128::from(count) >> 32) + 1);
            prop_assert!(u128::from(scale.apply_up(count)) >= (count as u128 * to as u128).div_ceil(from as u128));
            prop_assert!(u128::from(scale.apply_up(count)) <= exact + (u128::from(count) >> 32) + 3);
        }

        #[test]
        fn is_monotonic(rate in 1_000_000u64..10_000_000_000, count in 0u64..u64::MAX / 2, more in 0u64..1 << 40) {
            let scale = Scale::between(rate, 1_000_000_000);
            prop_assert!(scale.apply(count) <= scale.apply(count + more));
        }
    }
}
