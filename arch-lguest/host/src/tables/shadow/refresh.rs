//! Looking again: what the guest has announced as changed.

use core::sync::atomic::Ordering::Relaxed;

use platform::{PAGE_SIZE, PageRange, VirtAddr};

use super::leaf::leaf_entry;
use super::{Shadow, Stale, USER_ENTRIES};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::Broken;
use crate::tables::entry::{ACCESSED, DIRTY, LARGE, PRESENT, index, span};
use crate::tables::guest::{Below, GuestPage, GuestRoot, GuestTable};
use crate::tables::pool::TableId;

impl Shadow {
    /// Looks at the guest's entries of `pages` again, which lie in one half: SET_PTE and SET_RANGE. `root` is the one they
    /// belong to; none stands for the kernel half.
    pub fn refresh(
        &mut self,
        memory: &GuestMemory,
        root: Option<GuestPhys>,
        pages: PageRange,
    ) -> Result<(), Broken> {
        if pages.is_empty() || self.guest_root() == GuestRoot::BootMap {
            return Ok(());
        }
        let (guest, table) = match root {
            Some(at) => match self.find(GuestRoot::Table(at)).and_then(|known| self.roots[known]) {
                Some(root) => (at, root.kernel),
                // Nobody remembers anything of it.
                None => return Ok(()),
            },
            None => match self.guest_root() {
                GuestRoot::Table(at) => (at, self.kernel_half),
                GuestRoot::BootMap => return Ok(()),
            },
        };
        let guest = GuestTable::top(guest, pages.start);
        let last = VirtAddr(pages.end.0.wrapping_sub(1));
        let mut next = Some(pages.start);
        while let Some(first) = next {
            let below = self.refresh_below(memory, table, guest, first, last)?;
            next = Some(VirtAddr((first.0 | (below - 1)).wrapping_add(1)))
                .filter(|next| next.0 > first.0 && next.0 <= last.0);
        }
        Ok(())
    }

    /// Looks again at what one leaf table has from the page of `first` on, up to that of `last`; or at the entry above it
    /// that leads to none. Returns how many bytes there are below what was looked at.
    fn refresh_below(
        &mut self,
        memory: &GuestMemory,
        top: TableId,
        top_of_guest: GuestTable,
        first: VirtAddr,
        last: VirtAddr,
    ) -> Result<u64, Broken> {
        let (mut id, mut guest) = (top, top_of_guest);
        for level in [4, 3, 2] {
            let at = index(first.0, level);
            let entry = self.pool.table(id)[at].load(Relaxed);
            if entry & PRESENT == 0 || (level == 4 && at == self.host.index) {
                return Ok(span(level));
            }
            match guest.below(memory, level, at)? {
                Some(Below::Table(below)) if entry & LARGE == 0 => guest = below,
                Some(Below::LargePage(page)) if entry & LARGE != 0 => {
                    self.refresh_leaf(memory, id, at, Some(page), Stale::Everything);
                    return Ok(span(level));
                }
                _ => {
                    // Another kind of entry than the guest has now; the next fill makes what is right.
                    self.unlink(id, at, level);
                    self.stale = Stale::Everything;
                    if entry & LARGE == 0 {
                        self.free_below(entry, level - 1);
                    }
                    return Ok(span(level));
                }
            }
            id = self.pool.below(entry);
        }
        let end = (first.0 | (span(2) - 1)).min(last.0);
        for at in index(first.0, 1)..=index(end, 1) {
            if self.pool.table(id)[at].load(Relaxed) & PRESENT != 0 {
                let page = guest.page(memory, at)?;
                let address = (first.0 & !(span(2) - 1)) + at as u64 * PAGE_SIZE;
                self.refresh_leaf(memory, id, at, page, Stale::Page(VirtAddr(address)));
            }
        }
        Ok(span(2))
    }

    /// Makes a present entry that maps `page`, or none, what it must be now; if it was not, `stale` is.
    fn refresh_leaf(
        &mut self,
        memory: &GuestMemory,
        id: TableId,
        at: usize,
        page: Option<GuestPage>,
        stale: Stale,
    ) {
        let slot = &self.pool.table(id)[at];
        let page = page.filter(|page| page.accessed);
        let new = page.and_then(|page| leaf_entry(memory, &page)).unwrap_or(0);
        if (new ^ slot.load(Relaxed)) & !(ACCESSED | DIRTY) != 0 {
            slot.store(new, Relaxed);
            self.stale.add(stale);
        }
    }

    /// Empties an entry that leads to a table.
    fn unlink(&mut self, id: TableId, at: usize, level: u32) {
        self.pool.table(id)[at].store(0, Relaxed);
        if level < 4 {
            return;
        }
        for root in self.roots.iter().flatten() {
            if root.kernel == id {
                self.pool.table(root.user)[at].store(0, Relaxed);
            } else if at >= USER_ENTRIES {
                self.pool.table(root.kernel)[at].store(0, Relaxed);
            }
        }
    }
}
