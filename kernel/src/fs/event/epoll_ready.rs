//! Which members of an epoll set may be ready.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::errno::{Errno, KResult};
use crate::sync::IrqLock;

/// A member's place in its set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot(pub u32);

/// The members that may be ready, first come first served, each at most once. What woke up is noted from any context,
/// without allocating: room for every member is made when it joins.
pub struct ReadyList {
    list: IrqLock<List>,
    /// Entries, and one more while somebody goes through them: as long as it is not 0 nobody goes to sleep.
    pending: AtomicUsize,
}

struct List {
    order: VecDeque<Slot>,
    /// A bit for each slot: it is in `order`.
    listed: Vec<u64>,
    scanned: bool,
}

impl List {
    fn pending(&self) -> usize {
        self.order.len() + usize::from(self.scanned)
    }

    /// Notes that the slot is listed; says whether that is news.
    #[inline(always)]
    fn mark(&mut self, slot: Slot) -> bool {
        let Some(word) = self.listed.get_mut(slot.0 as usize / 64) else { return false };
        let bit = 1 << (slot.0 % 64);
        let is_news = *word & bit == 0;
        *word |= bit;
        is_news
    }

    /// Adds the slot at the end unless it is there; says whether it was added.
    fn add(&mut self, slot: Slot) -> bool {
        let is_news = self.mark(slot);
        if is_news {
            self.order.push_back(slot);
        }
        is_news
    }

    #[inline(always)]
    fn add_again(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.add(slot);
        }
    }

    #[inline(always)]
    fn take(&mut self) -> Option<Slot> {
        let slot = self.order.pop_front()?;
        if let Some(word) = self.listed.get_mut(slot.0 as usize / 64) {
            *word &= !(1 << (slot.0 % 64));
        }
        Some(slot)
    }
}

impl ReadyList {
    /// Nothing ready, and no room.
    pub const fn new() -> Self {
        let list = List { order: VecDeque::new(), listed: Vec::new(), scanned: false };
        Self { list: IrqLock::new(list), pending: AtomicUsize::new(0) }
    }

    /// Makes room for the slots below `slots`.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn make_room(&self, slots: usize) -> KResult<()> {
        let mut list = self.list.lock();
        let words = slots.div_ceil(64);
        if words > list.listed.len() {
            let (more_words, more_entries) = (words - list.listed.len(), words * 64 - list.order.len());
            list.order.try_reserve(more_entries).map_err(|_| Errno::ENOMEM)?;
            list.listed.try_reserve(more_words).map_err(|_| Errno::ENOMEM)?;
            list.listed.resize(words, 0);
        }
        Ok(())
    }

    /// Whether there is nothing to look at. A `false` may be out of date, a `true` is not.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// Notes that `slot` may be ready; says whether that is news. Any context.
    #[inline]
    pub fn add(&self, slot: Slot) -> bool {
        let mut list = self.list.lock();
        let added = list.add(slot);
        self.pending.store(list.pending(), Ordering::Release);
        added
    }

    /// Puts `slot` back where [`Self::next`] took it from.
    pub fn put_back(&self, slot: Slot) {
        let mut list = self.list.lock();
        if list.mark(slot) {
            list.order.push_front(slot);
        }
        self.pending.store(list.pending(), Ordering::Release);
    }

    /// Begins to go through the entries: takes the first out, and says how many there were. One at a time.
    #[inline(always)]
    pub fn begin(&self) -> Option<(Slot, usize)> {
        let mut list = self.list.lock();
        list.scanned = true;
        let entries = list.order.len();
        let first = list.take();
        self.pending.store(list.pending(), Ordering::Release);
        Some((first?, entries))
    }

    /// Lists `again` anew, which was taken last and is still ready, and takes the next entry out.
    pub fn next(&self, again: Option<Slot>) -> Option<Slot> {
        let mut list = self.list.lock();
        list.add_again(again);
        let slot = list.take();
        self.pending.store(list.pending(), Ordering::Release);
        slot
    }

    /// Ends what [`Self::begin`] began, with the last entry as for [`Self::next`]; says whether entries are left.
    #[inline(always)]
    pub fn end(&self, again: Option<Slot>) -> bool {
        let mut list = self.list.lock();
        list.add_again(again);
        list.scanned = false;
        self.pending.store(list.pending(), Ordering::Release);
        !list.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_listed_once_and_in_order() {
        let ready = ReadyList::new();
        assert!(!ready.add(Slot(3)), "there is no room yet");
        assert_eq!(ready.make_room(70), Ok(()));
        assert!(ready.is_empty());
        assert!(ready.add(Slot(69)));
        assert!(ready.add(Slot(3)));
        assert!(!ready.add(Slot(69)));
        assert_eq!(ready.begin(), Some((Slot(69), 2)));
        assert!(ready.add(Slot(69)), "what was taken may be listed again");
        assert_eq!(ready.next(None), Some(Slot(3)));
        ready.put_back(Slot(3));
        assert_eq!(ready.next(None), Some(Slot(3)));
        assert_eq!(ready.next(Some(Slot(3))), Some(Slot(69)));
        assert_eq!(ready.next(None), Some(Slot(3)), "what is listed anew comes last");
        assert_eq!(ready.next(None), None);
        assert!(!ready.is_empty(), "nobody sleeps while the list is gone through");
        assert!(!ready.end(None));
        assert!(ready.is_empty());
        assert_eq!(ready.begin(), None);
        assert!(ready.end(Some(Slot(3))));
        assert!(!ready.is_empty());
    }
}
