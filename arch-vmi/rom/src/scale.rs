//! A ratio of two rates as a fixed-point number.

/// Multiplies by a ratio, with 32 bits behind the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale(pub u64);

impl Scale {
    /// From counts at `from` a second to counts at `to` a second. A ratio too large saturates; nothing comes of `from` 0.
    ///
    /// Division bit by bit: that of 128 bits is a function of the compiler's library, which the ROM does not call.
    pub fn between(from: u64, to: u64) -> Self {
        let Some(whole) = to.checked_div(from) else { return Self(0) };
        if whole >> 32 != 0 {
            return Self(u64::MAX);
        }
        let mut ratio = whole;
        let mut rest = to.wrapping_sub(whole.wrapping_mul(from));
        for _ in 0..32 {
            let carry = rest >> 63 != 0;
            rest <<= 1;
            ratio <<= 1;
            if carry || rest >= from {
                rest = rest.wrapping_sub(from);
                ratio |= 1;
            }
        }
        Self(ratio)
    }

    /// `count` in the other rate, rounded down.
    pub fn apply(self, count: u64) -> u64 {
        ((u128::from(count) * u128::from(self.0)) >> 32) as u64
    }

    /// The same rounded up, and never more than `u64::MAX`.
    pub fn apply_up(self, count: u64) -> u64 {
        let product = u128::from(count) * u128::from(self.0);
        let rounded = (product >> 32) + u128::from(product as u32 != 0);
        u64::try_from(rounded).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let scale = Scale::between(1_000_000_000, 2_500_000_000);
        assert_eq!(scale.apply(4), 10);
        assert_eq!(Scale::between(3, 1).apply(3), 0, "the ratio is rounded down");
        assert_eq!(Scale::between(3, 1).apply_up(3), 1);
        assert_eq!(Scale::between(1, 1).apply_up(u64::MAX), u64::MAX);
        assert_eq!(Scale::between(1, 2).apply_up(u64::MAX), u64::MAX);
        assert_eq!(Scale::between(0, 1), Scale(0));
        assert_eq!(Scale::between(1, 1 << 32), Scale(u64::MAX));
    }

    #[test]
    fn as_with_128_bits() {
        let numbers =
            [1, 2, 3, 7, 1000, 1_193_182, 1 << 31, 3_000_000_001, u64::MAX / 3, u64::MAX - 1, u64::MAX];
        for from in numbers {
            for to in numbers {
                let exact = (u128::from(to) << 32) / u128::from(from);
                assert_eq!(
                    Scale::between(from, to).0,
                    u64::try_from(exact).unwrap_or(u64::MAX),
                    "{from} {to}"
                );
            }
        }
    }
}
