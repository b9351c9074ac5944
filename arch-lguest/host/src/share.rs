//! Who runs next: each guest's time is weighed by its share, and the one that has had least runs.

use platform::Nanoseconds;

use crate::archive::{MOST_GUESTS, Share};

/// How long a guest runs before another that wants the processor gets it.
pub const SLICE: Nanoseconds = Nanoseconds(4_000_000);

/// The time guests have had.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    shares: [Share; MOST_GUESTS],
    /// Time had, in nanoseconds at a share of 100.
    weighed: [u64; MOST_GUESTS],
    wanting: [bool; MOST_GUESTS],
}

impl Shares {
    /// Nobody has had any time yet.
    pub fn new(shares: impl Iterator<Item = Share>) -> Self {
        let mut all = [Share(100); MOST_GUESTS];
        all.iter_mut().zip(shares).for_each(|(to, share)| *to = share);
        Self { shares: all, weighed: [0; MOST_GUESTS], wanting: [false; MOST_GUESTS] }
    }

    /// `guest` wants the processor, or no longer does. Who waited of its own will cannot claim that time later.
    pub fn set_wanting(&mut self, guest: usize, wanting: bool) {
        if wanting && !self.wanting[guest] {
            let least =
                (0..MOST_GUESTS).filter(|&other| self.wanting[other]).map(|other| self.weighed[other]).min();
            if let Some(least) = least {
                self.weighed[guest] = self.weighed[guest].max(least.saturating_sub(SLICE.0));
            }
        }
        self.wanting[guest] = wanting;
    }

    /// `guest` has run for `time`.
    pub fn ran(&mut self, guest: usize, time: Nanoseconds) {
        let weighed = u128::from(time.0) * 100 / u128::from(self.shares[guest].0);
        self.weighed[guest] = self.weighed[guest].saturating_add(u64::try_from(weighed).unwrap_or(u64::MAX));
    }

    /// Each of `guests` has had its part of `time`; nobody, if there are none.
    pub fn had_together(&mut self, guests: [bool; MOST_GUESTS], time: Nanoseconds) {
        let those = || (0..MOST_GUESTS).filter(|&guest| guests[guest]);
        let count = those().count() as u64;
        those().for_each(|guest| self.ran(guest, Nanoseconds(time.0.div_ceil(count))));
    }

    /// Who runs next, of those that want to.
    pub fn next(&self) -> Option<usize> {
        (0..MOST_GUESTS).filter(|&guest| self.wanting[guest]).min_by_key(|&guest| self.weighed[guest])
    }

    /// Whether another than `guest` wants the processor.
    pub fn is_contended(&self, guest: usize) -> bool {
        (0..MOST_GUESTS).any(|other| other != guest && self.wanting[other])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(shares: &mut Shares, slices: usize) -> [u64; MOST_GUESTS] {
        let mut had = [0; MOST_GUESTS];
        for _ in 0..slices {
            let guest = shares.next().unwrap();
            shares.ran(guest, SLICE);
            had[guest] += 1;
        }
        had
    }

    proptest! {
        #[test]
        fn time_follows_the_shares(weights in prop::collection::vec(1u32..1000, 1..MOST_GUESTS)) {
            let mut shares = Shares::new(weights.iter().map(|&weight| Share(weight)));
            (0..weights.len()).for_each(|guest| shares.set_wanting(guest, true));
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let had = run(&mut shares, 5000);
            for (guest, &weight) in weights.iter().enumerate() {
                let due = 5000 * u64::from(weight) / total;
                prop_assert!(had[guest].abs_diff(due) <= weights.len() as u64 + 1, "{had:?} for {weights:?}");
            }
        }
    }

    #[test]
    fn time_had_together_is_divided() {
        let mut shares = Shares::new([Share(100), Share(200), Share(100)].into_iter());
        let mut guests = [false; MOST_GUESTS];
        shares.had_together(guests, SLICE);
        assert_eq!(shares.weighed, [0; MOST_GUESTS]);
        (guests[1], guests[2]) = (true, true);
        shares.had_together(guests, SLICE);
        assert_eq!(shares.weighed[..4], [0, SLICE.0 / 4, SLICE.0 / 2, 0]);
    }

    #[test]
    fn a_sleeper_does_not_save_up() {
        let mut shares = Shares::new([Share(100), Share(100)].into_iter());
        shares.set_wanting(0, true);
        run(&mut shares, 1000);
        shares.set_wanting(1, true);
        assert_eq!(shares.next(), Some(1));
        let had = run(&mut shares, 100);
        assert!(had[0].abs_diff(had[1]) <= 2, "{had:?}");
        shares.set_wanting(0, false);
        assert!(!shares.is_contended(1));
    }
}
