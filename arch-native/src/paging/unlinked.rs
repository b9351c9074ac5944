//! Tables of the kernel's part that were emptied and that processors may still walk, until the next flush.
//!
//! Each holds the next one's frame number in its first entry, which is not present.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::PhysFrame;

use super::direct_table;
use super::entry::Entry;

/// The first one's entry. Frame 0 is no table.
static FIRST: AtomicU64 = AtomicU64::new(Entry::EMPTY.0);

/// Adds a table that is empty and that nothing leads to any more. Calls are serialized, as what empties tables is.
pub fn add(table: PhysFrame) {
    // SAFETY: it was a table of the kernel's until now, and is not freed before `Unlinked::for_each`.
    let entries = unsafe { direct_table(table) };
    entries[0].store(FIRST.load(Ordering::Relaxed), Ordering::Relaxed);
    FIRST.store(table.start().0, Ordering::Release);
}

/// Takes all that were added.
pub fn take() -> Unlinked {
    if FIRST.load(Ordering::Relaxed) == Entry::EMPTY.0 {
        return Unlinked(Entry::EMPTY);
    }
    Unlinked(Entry(FIRST.swap(Entry::EMPTY.0, Ordering::Acquire)))
}

/// Tables that were taken.
pub struct Unlinked(Entry);

impl Unlinked {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0 == Entry::EMPTY
    }

    /// Gives each to `free`. No processor may walk them any more.
    pub fn for_each(self, free: impl Fn(PhysFrame)) {
        let mut entry = self.0;
        while entry != Entry::EMPTY {
            let table = entry.frame();
            // SAFETY: as in `add`.
            entry = Entry(unsafe { direct_table(table) }[0].load(Ordering::Relaxed));
            free(table);
        }
    }
}
