//! Hands out small numbers, the lowest free one first, as file descriptors and process ids are.

use alloc::vec::Vec;

/// Bits in a word.
const BITS: u32 = u64::BITS;

/// Why a number cannot be had or given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdError {
    /// All numbers allowed are in use.
    Exhausted,
    /// The number is in use already.
    Taken,
    /// The number is not in use.
    NotTaken,
    /// There is no memory to note it.
    OutOfMemory,
}

impl core::fmt::Display for IdError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "all numbers are in use",
            Self::Taken => "the number is in use already",
            Self::NotTaken => "the number is not in use",
            Self::OutOfMemory => "no memory to note the number",
        })
    }
}

impl core::error::Error for IdError {}

/// The numbers in use, a bit each, with a second bitmap of the words that are full, so that a search looks at 4096
/// numbers per step. Memory grows with the largest number used.
#[derive(Clone, Debug, Default)]
pub struct IdAllocator {
    words: Vec<u64>,
    /// Bit n of word m: word 64 m + n of `words` is full.
    full: Vec<u64>,
    used: u32,
}

impl IdAllocator {
    /// No number is in use.
    pub const fn new() -> Self {
        Self { words: Vec::new(), full: Vec::new(), used: 0 }
    }

    /// Takes the memory for all numbers below `end`: noting those never takes any from then on.
    ///
    /// # Errors
    /// [`IdError::OutOfMemory`].
    pub fn make_room(&mut self, end: u32) -> Result<(), IdError> {
        let words = end.div_ceil(BITS);
        grow(&mut self.words, words as usize)?;
        grow(&mut self.full, words.div_ceil(BITS) as usize)
    }

    /// How many numbers are in use.
    pub fn len(&self) -> u32 {
        self.used
    }

    /// Whether no number is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether `id` is in use.
    pub fn is_taken(&self, id: u32) -> bool {
        self.words.get((id / BITS) as usize).is_some_and(|word| word >> (id % BITS) & 1 != 0)
    }

    /// Takes the lowest free number from `low` up to `end`, which is not included.
    ///
    /// # Errors
    /// [`IdError::Exhausted`], [`IdError::OutOfMemory`].
    pub fn alloc(&mut self, low: u32, end: u32) -> Result<u32, IdError> {
        let id = self.lowest_free(low);
        if id >= u64::from(end) {
            return Err(IdError::Exhausted);
        }
        let id = id as u32;
        self.set(id)?;
        Ok(id)
    }

    /// Takes the lowest free number of `low..end` that is not below `next`, or else the lowest of all of them: with `next`
    /// one above the last result, numbers come back into use as late as possible, as process ids should.
    ///
    /// # Errors
    /// As [`Self::alloc`].
    pub fn alloc_cyclic(&mut self, next: u32, low: u32, end: u32) -> Result<u32, IdError> {
        match self.alloc(next.max(low), end) {
            Err(IdError::Exhausted) => self.alloc(low, end),
            result => result,
        }
    }

    /// Takes one certain number.
    ///
    /// # Errors
    /// [`IdError::Taken`], [`IdError::OutOfMemory`].
    pub fn take(&mut self, id: u32) -> Result<(), IdError> {
        if self.is_taken(id) { Err(IdError::Taken) } else { self.set(id) }
    }

    /// Gives a number back.
    ///
    /// # Errors
    /// [`IdError::NotTaken`].
    pub fn free(&mut self, id: u32) -> Result<(), IdError> {
        if !self.is_taken(id) {
            return Err(IdError::NotTaken);
        }
        let word = id / BITS;
        self.words[word as usize] &= !(1 << (id % BITS));
        self.full[(word / BITS) as usize] &= !(1 << (word % BITS));
        self.used -= 1;
        Ok(())
    }

    /// The numbers in use, by rising value.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, index)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(index * BITS + bit)
            })
        })
    }

    /// The lowest number not in use from `low` on; above all that are, every number is free.
    fn lowest_free(&self, low: u32) -> u64 {
        let word = low / BITS;
        let Some(&bits) = self.words.get(word as usize) else { return u64::from(low) };
        if let Some(bit) = lowest_zero(bits, low % BITS) {
            return u64::from(word * BITS + bit);
        }
        let from = word + 1;
        let mut start = from % BITS;
        for index in (from / BITS) as usize..self.full.len() {
            if let Some(bit) = lowest_zero(self.full[index], start) {
                let word = index as u64 * u64::from(BITS) + u64::from(bit);
                let bits = self.words.get(word as usize).copied().unwrap_or(0);
                return word * u64::from(BITS) + u64::from(bits.trailing_ones());
            }
            start = 0;
        }
        // Every word there is, is full, and so is the bitmap of them.
        self.words.len() as u64 * u64::from(BITS)
    }

    fn set(&mut self, id: u32) -> Result<(), IdError> {
        let word = id / BITS;
        grow(&mut self.words, word as usize + 1)?;
        grow(&mut self.full, (word / BITS) as usize + 1)?;
        let bits = &mut self.words[word as usize];
        *bits |= 1 << (id % BITS);
        if *bits == u64::MAX {
            self.full[(word / BITS) as usize] |= 1 << (word % BITS);
        }
        self.used += 1;
        Ok(())
    }
}

/// The lowest zero bit of `bits` from bit `start` on.
fn lowest_zero(bits: u64, start: u32) -> Option<u32> {
    let zeros = !bits >> start << start;
    (zeros != 0).then(|| zeros.trailing_zeros())
}

fn grow(words: &mut Vec<u64>, length: usize) -> Result<(), IdError> {
    if words.len() < length {
        words.try_reserve(length - words.len()).map_err(|_| IdError::OutOfMemory)?;
        words.resize(length, 0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Alloc(u32, u32),
        Cyclic(u32, u32, u32),
        Take(u32),
        Free(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let id = || prop_oneof![3 => 0u32..200, 1 => 4000u32..4200];
        let step = prop_oneof![
            6 => (id(), id()).prop_map(|(low, end)| Step::Alloc(low, end)),
            2 => (id(), id(), id()).prop_map(|(next, low, end)| Step::Cyclic(next, low, end)),
            1 => id().prop_map(Step::Take),
            4 => id().prop_map(Step::Free),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(filled in prop_oneof![Just(0u32), 60u32..70, Just(4090u32), Just(4096)], steps in steps()) {
            let mut ids = IdAllocator::new();
            let mut set: BTreeSet<u32> = (0..filled).collect();
            for id in 0..filled {
                prop_assert_eq!(ids.alloc(0, u32::MAX), Ok(id));
            }
            for step in steps {
                let lowest = |set: &BTreeSet<u32>, low, end| (low..end).find(|id| !set.contains(id));
                match step {
                    Step::Alloc(low, end) => {
                        let expected = lowest(&set, low, end);
                        prop_assert_eq!(ids.alloc(low, end), expected.ok_or(IdError::Exhausted));
                        set.extend(expected);
                    }
                    Step::Cyclic(next, low, end) => {
                        let expected = lowest(&set, next.max(low), end).or(lowest(&set, low, end));
                        prop_assert_eq!(ids.alloc_cyclic(next, low, end), expected.ok_or(IdError::Exhausted));
                        set.extend(expected);
                    }
                    Step::Take(id) => {
                        let result = ids.take(id);
                        prop_assert_eq!(result, if set.insert(id) { Ok(()) } else { Err(IdError::Taken) });
                    }
                    Step::Free(id) => {
                        let result = ids.free(id);
                        prop_assert_eq!(result, if set.remove(&id) { Ok(()) } else { Err(IdError::NotTaken) });
                    }
                }
                prop_assert_eq!(ids.len() as usize, set.len());
            }
            prop_assert!(ids.iter().eq(set.iter().copied()));
            prop_assert!((0..5000).all(|id| ids.is_taken(id) == set.contains(&id)));
        }
    }

    #[test]
    fn a_long_run_of_full_words_is_passed_over() {
        let mut ids = IdAllocator::new();
        for id in 0..70_000 {
            assert_eq!(ids.alloc(0, 70_000), Ok(id));
        }
        assert_eq!(ids.alloc(0, 70_000), Err(IdError::Exhausted));
        for id in [69_999, 4096, 0] {
            ids.free(id).unwrap();
            assert_eq!(ids.alloc(0, 70_000), Ok(id));
        }
        assert_eq!(ids.alloc(5, u32::MAX), Ok(70_000));
    }
}
