//! Taking away: what the guest has flushed, and what must make room.

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use super::{MOST_ROOTS, Root, Shadow, Stale, USER_ENTRIES};
use crate::memory::GuestPhys;
use crate::rule::{Broken, Rule};
use crate::tables::entry::{ENTRIES, LARGE, PRESENT};
use crate::tables::guest::GuestRoot;

impl Shadow {
    /// FLUSH_TLB: everything, or the loaded root's user half.
    pub fn flush(&mut self, everything: bool) {
        if everything {
            let current = self.current;
            for at in (0..MOST_ROOTS).filter(|at| *at != current) {
                self.drop_root(at);
            }
            self.forget_kernel_half();
        }
        let root = *self.root();
        self.forget_user_half_of(&root, 0..USER_ENTRIES);
    }

    /// SET_PGD: what lies below one entry of the user half of `root`.
    pub fn forget_top(&mut self, root: GuestPhys, at: usize) -> Result<(), Broken> {
        if at >= USER_ENTRIES {
            return Err(Rule::BadArgument.broken_by(at as u64));
        }
        if let Some(root) = self.find(GuestRoot::Table(root)).and_then(|known| self.roots[known]) {
            self.forget_user_half_of(&root, at..at + 1);
        }
        Ok(())
    }

    /// Takes tables from what is least needed. Each call frees at least one or leaves nothing but the loaded root.
    pub(super) fn make_room(&mut self) {
        self.evictions += 1;
        if let Some(oldest) = self.oldest() {
            self.drop_root(oldest);
            return;
        }
        let before = self.pool.free_count();
        let root = *self.root();
        self.forget_user_half_of(&root, 0..USER_ENTRIES);
        if self.pool.free_count() == before {
            self.forget_kernel_half();
        }
    }

    pub(super) fn forget_user_half_of(&mut self, root: &Root, entries: Range<usize>) {
        for at in entries {
            let entry = self.pool.table(root.user)[at].swap(0, Relaxed);
            if entry & PRESENT != 0 {
                self.pool.table(root.kernel)[at].store(0, Relaxed);
                self.free_below(entry, 3);
            }
        }
        self.stale = Stale::Everything;
    }

    pub(super) fn forget_kernel_half(&mut self) {
        let host = self.host.index;
        for at in (USER_ENTRIES..ENTRIES).filter(|at| *at != host) {
            let entry = self.pool.table(self.kernel_half)[at].load(Relaxed);
            if entry & PRESENT != 0 {
                self.set_top(at, 0);
                self.free_below(entry, 3);
            }
        }
        self.stale = Stale::Everything;
    }

    /// Frees the tree of tables below `entry`, whose table is at `level`.
    pub(super) fn free_below(&mut self, entry: u64, level: u32) {
        let id = self.pool.below(entry);
        if level > 1 {
            for slot in self.pool.table(id) {
                let below = slot.load(Relaxed);
                if below & PRESENT != 0 && below & LARGE == 0 {
                    self.free_below(below, level - 1);
                }
            }
        }
        self.pool.free(id);
    }
}
