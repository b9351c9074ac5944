//! The entries of a directory: found by name, listed in the order in which they were made.

use alloc::vec::Vec;

use super::name::{Name, hash};
use crate::errno::{Errno, KResult};

/// Directories of up to this many entries are searched from end to end.
const LINEAR: usize = 8;
const FREE: u32 = u32::MAX;

struct Entry<T> {
    hash: u32,
    sequence: u64,
    name: Name,
    value: T,
}

/// Names and what they stand for.
///
/// Entries lie in a vector by rising sequence number, which never changes, so that a listing that goes on from where it
/// stopped neither skips nor repeats an entry that stays. Removed entries leave gaps that are closed when there are more
/// gaps than entries. Beside the vector there is an open-addressed index by hash.
pub struct NameTable<T> {
    entries: Vec<Option<Entry<T>>>,
    /// Positions in `entries`; a power of two of them, or none while the table is small.
    index: Vec<u32>,
    used: usize,
    next_sequence: u64,
}

/// The sequence number of the first entry ever made in a table: the two below are for `.` and `..`.
pub const FIRST_SEQUENCE: u64 = 2;

impl<T> NameTable<T> {
    /// No entries.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), index: Vec::new(), used: 0, next_sequence: FIRST_SEQUENCE }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// What `name` stands for.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        self.position(name).and_then(|at| self.entries[at].as_ref()).map(|entry| &entry.value)
    }

    /// What `name` stands for, to change.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        let at = self.position(name)?;
        self.entries[at].as_mut().map(|entry| &mut entry.value)
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let hash = hash(name);
        let matches = |at: usize| matches!(&self.entries[at], Some(entry) if entry.hash == hash && entry.name.as_bytes() == name);
        if self.index.is_empty() {
            return (0..self.entries.len()).find(|&at| matches(at));
        }
        let mask = self.index.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            match self.index[slot] {
                FREE => return None,
                at if matches(at as usize) => return Some(at as usize),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// Adds an entry. The name must not be there.
    ///
    /// # Errors
    /// ENOMEM; then nothing has changed.
    pub fn insert(&mut self, name: Name, value: T) -> KResult<()> {
        debug_assert!(self.position(name.as_bytes()).is_none());
        self.entries.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let at = self.entries.len();
        let hash = hash(name.as_bytes());
        let sequence = self.next_sequence;
        // Half full at most, gaps counted.
        if at >= LINEAR && (at + 1) * 2 > self.index.len() {
            self.rebuild(1)?;
        }
        let at = self.entries.len();
        self.entries.push(Some(Entry { hash, sequence, name, value }));
        if !self.index.is_empty() {
            self.link(hash, at as u32);
        }
        self.next_sequence += 1;
        self.used += 1;
        Ok(())
    }

    fn link(&mut self, hash: u32, at: u32) {
        let mask = self.index.len() - 1;
        let mut slot = hash as usize & mask;
        while self.index[slot] != FREE {
            slot = (slot + 1) & mask;
        }
        self.index[slot] = at;
    }

    /// Closes the gaps and makes the index anew, with room for `more` entries.
    fn rebuild(&mut self, more: usize) -> KResult<()> {
        let wanted = self.used + more;
        let slots = if wanted <= LINEAR { 0 } else { (wanted * 4).next_power_of_two() };
        let mut index = Vec::new();
        index.try_reserve_exact(slots).map_err(|_| Errno::ENOMEM)?;
        index.resize(slots, FREE);
        self.close_gaps(more);
        self.index = index;
        if slots > 0 {
            for at in 0..self.entries.len() {
                if let Some(entry) = &self.entries[at] {
                    let hash = entry.hash;
                    self.link(hash, at as u32);
                }
            }
        }
        Ok(())
    }

    /// Moves the entries together; if that leaves a lot of room, to a smaller piece of memory with room for `more`. If there is
    /// none, they stay where they are.
    fn close_gaps(&mut self, more: usize) {
        let wanted = self.used + more;
        let mut closed = Vec::new();
        if self.entries.capacity() > 4 * wanted && closed.try_reserve_exact(wanted).is_ok() {
            closed.extend(self.entries.drain(..).filter(Option::is_some));
            self.entries = closed;
        } else {
            self.entries.retain(Option::is_some);
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let at = self.position(name)?;
        let entry = self.entries[at].take()?;
        self.used -= 1;
        if !self.index.is_empty() {
            self.unlink(entry.hash, at as u32);
        }
        while matches!(self.entries.last(), Some(None)) {
            self.entries.pop();
        }
        let half_empty = self.entries.len() > 2 * self.used + LINEAR;
        if half_empty || (self.used <= LINEAR / 2 && !self.index.is_empty()) {
            // For lack of memory the gaps simply stay.
            let _ = self.rebuild(0);
        }
        if self.used == 0 {
            self.entries = Vec::new();
        }
        Some(entry.value)
    }

    /// Frees the slot that leads to `at`, moving up what lies behind it so that no search ends too early.
    fn unlink(&mut self, hash: u32, at: u32) {
        let mask = self.index.len() - 1;
        let mut hole = hash as usize & mask;
        while self.index[hole] != at {
            hole = (hole + 1) & mask;
        }
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            let other = self.index[slot];
            if other == FREE {
                break;
            }
            let Some(entry) = &self.entries[other as usize] else { break };
            let home = entry.hash as usize & mask;
            // It may move to the hole if that is not before its home, seen from where it is.
            if (slot.wrapping_sub(home) & mask) >= (slot.wrapping_sub(hole) & mask) {
                self.index[hole] = other;
                hole = slot;
            }
        }
        self.index[hole] = FREE;
    }

    /// Entries with sequence number `from` or higher, by rising number.
    pub fn iter_from(&self, from: u64) -> impl Iterator<Item = (u64, &Name, &T)> {
        // Gaps have no number of their own, so the start is found among the entries before and after.
        let mut low = 0;
        let mut high = self.entries.len();
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entries[middle..high].iter().position(Option::is_some) {
                None => high = middle,
                Some(skip) => match &self.entries[middle + skip] {
                    Some(entry) if entry.sequence < from => low = middle + skip + 1,
                    _ => high = middle,
                },
            }
        }
        self.entries[low..].iter().flatten().map(|entry| (entry.sequence, &entry.name, &entry.value))
    }

    /// Takes all entries out.
    pub fn take_all(&mut self) -> Vec<T> {
        self.used = 0;
        self.index = Vec::new();
        core::mem::take(&mut self.entries).into_iter().flatten().map(|entry| entry.value).collect()
    }
}

impl<T> Default for NameTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((any::<bool>(), 0u32..60), 0..400)) {
            let mut table = NameTable::new();
            let mut model = BTreeMap::new();
            let mut order = Vec::new();
            for (step, (add, number)) in steps.into_iter().enumerate() {
                let name = std::format!("{}{number}", "long-".repeat(number as usize % 7));
                let name = name.as_bytes();
                if add && !model.contains_key(name) {
                    table.insert(Name::new(name).unwrap(), step).unwrap();
                    model.insert(name.to_vec(), step);
                    order.push(step);
                } else if !add {
                    let gone = table.remove(name);
                    prop_assert_eq!(gone, model.remove(name));
                    order.retain(|&step| Some(step) != gone);
                }
                prop_assert_eq!(table.len(), model.len());
                for (name, value) in &model {
                    prop_assert_eq!(table.get(name), Some(value));
                }
            }
            let listed: Vec<usize> = table.iter_from(0).map(|(_, _, &value)| value).collect();
            prop_assert_eq!(&listed, &order);
            for (at, (sequence, _, _)) in table.iter_from(0).enumerate() {
                let rest: Vec<usize> = table.iter_from(sequence).map(|(_, _, &value)| value).collect();
                prop_assert_eq!(&rest[..], &order[at..]);
            }
        }
    }

    #[test]
    fn a_listing_survives_removals() {
        let mut table = NameTable::new();
        for number in 0..100u32 {
            table.insert(Name::new(&number.to_le_bytes()).unwrap(), number).unwrap();
        }
        let mut seen = Vec::new();
        let mut from = 0;
        loop {
            let next = table.iter_from(from).next().map(|(sequence, _, &value)| (sequence, value));
            let Some((sequence, value)) = next else { break };
            seen.push(value);
            from = sequence + 1;
            table.remove(&value.to_le_bytes());
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(table.is_empty());
    }

    #[test]
    fn long_names_are_refused() {
        assert!(Name::new(&[b'x'; NAME_LIMIT]).is_ok());
        assert_eq!(Name::new(&[b'x'; NAME_LIMIT + 1]).err(), Some(Errno::ENAMETOOLONG));
    }

    const NAME_LIMIT: usize = super::super::name::NAME_MAX;
}
