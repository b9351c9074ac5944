//! Filling: an access that the processor refused, and what is likely to come after it.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::KERNEL_HALF;
use platform::{PAGE_SIZE, VirtAddr};

use super::leaf::leaf_entry;
use super::{Access, Fill, LINK, PoolEmpty, Shadow, Stale, USER_ENTRIES};
use crate::memory::GuestMemory;
use crate::rule::{Broken, Rule};
use crate::tables::entry::{ACCESSED, DIRTY, LARGE, NO_EXECUTE, PRESENT, index, span};
use crate::tables::guest::{Below, GuestRoot, GuestTable};
use crate::tables::pool::TableId;

/// Pages that a fill looks at beside the one that is needed: a block of this many, aligned.
const FILL_AROUND: usize = 16;

/// When a fill looks at the neighbours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Always,
    IfNextIsNew,
}

impl Shadow {
    /// Makes `access` to `address` possible if the guest's tables allow it, and fills what is likely to be used next. The
    /// address is canonical and not the host's.
    pub fn fill(&mut self, memory: &GuestMemory, address: VirtAddr, access: Access) -> Result<Fill, Broken> {
        self.fill_with(memory, address, access, Around::Always)
    }

    /// The same before the access, for a page that the guest has just mapped: its neighbours are seldom new too.
    pub fn fill_ahead(
        &mut self,
        memory: &GuestMemory,
        address: VirtAddr,
        access: Access,
    ) -> Result<Fill, Broken> {
        self.fill_with(memory, address, access, Around::IfNextIsNew)
    }

    fn fill_with(
        &mut self,
        memory: &GuestMemory,
        address: VirtAddr,
        access: Access,
        around: Around,
    ) -> Result<Fill, Broken> {
        let root = self.guest_root();
        let user_half = address.0 < KERNEL_HALF;
        if access.user && !user_half {
            return Ok(Fill::Denied { present: false });
        }
        let (leaf_table, page) = match root {
            GuestRoot::BootMap => (None, root.page(memory, address)?),
            GuestRoot::Table(at) => match GuestTable::top(at, address).lowest(memory, address)? {
                Some(Below::Table(table)) => (Some(table), table.page(memory, index(address.0, 1))?),
                Some(Below::LargePage(page)) => (None, Some(page)),
                None => (None, None),
            },
        };
        let Some(mut page) = page else { return Ok(Fill::Denied { present: false }) };
        let kernel_in_user_half = user_half && !access.user && root != GuestRoot::BootMap;
        if (access.write && !page.writable) || (access.execute && (!page.executable || kernel_in_user_half)) {
            return Ok(Fill::Denied { present: true });
        }
        if !page.accessed || (access.write && !page.dirty) {
            page.dirty |= access.write;
            if let Some(at) = page.entry_at {
                memory.set_bits(at, ACCESSED | if access.write { DIRTY } else { 0 })?;
            }
        }
        let level = if page.large { 2 } else { 1 };
        let id = self.table_with_room(address, level);
        let at = index(address.0, level);
        let Some(entry) = leaf_entry(memory, &page) else {
            return Err(Rule::FrameOutsideMemory.broken_by(page.frame.0));
        };
        let before = self.pool.table(id)[at].swap(entry, Relaxed);
        if page.large {
            if before & PRESENT != 0 && before & LARGE == 0 {
                // Small pages were here, and the guest has not said that they are gone.
                self.free_below(before, 1);
                self.stale = Stale::Everything;
            }
            return Ok(Fill::Filled);
        }
        if before & PRESENT != 0 && (before ^ entry) & !(ACCESSED | DIRTY) != 0 {
            self.stale.add(Stale::Page(address.page()));
        }
        if around == Around::Always || self.next_is_new(memory, leaf_table, id, at) {
            self.fill_around(memory, leaf_table, id, address);
        }
        Ok(Fill::Filled)
    }

    /// Whether the guest has, behind the page with index `at`, one that the shadow does not have.
    fn next_is_new(&self, memory: &GuestMemory, guest: Option<GuestTable>, id: TableId, at: usize) -> bool {
        let (Some(guest), Some(slot)) = (guest, self.pool.table(id).get(at + 1)) else { return false };
        slot.load(Relaxed) & PRESENT == 0
            && guest.page(memory, at + 1).is_ok_and(|page| page.is_some_and(|page| page.accessed))
    }

    /// Fills absent neighbours that the guest has marked accessed: it would fault on them soon.
    fn fill_around(
        &mut self,
        memory: &GuestMemory,
        guest: Option<GuestTable>,
        id: TableId,
        address: VirtAddr,
    ) {
        let first = index(address.0, 1) & !(FILL_AROUND - 1);
        let block = &self.pool.table(id)[first..first + FILL_AROUND];
        for (at, slot) in (first..).zip(block) {
            if slot.load(Relaxed) & PRESENT != 0 {
                continue;
            }
            // What is broken here is not used yet.
            let page = match guest {
                Some(guest) => guest.page(memory, at).ok().flatten(),
                None => {
                    let beside = (address.page().0 & !(span(2) - 1)) + at as u64 * PAGE_SIZE;
                    GuestRoot::BootMap.page(memory, VirtAddr(beside)).ok().flatten()
                }
            };
            if let Some(page) = page
                && page.accessed
                && let Some(entry) = leaf_entry(memory, &page)
            {
                slot.store(entry, Relaxed);
            }
        }
    }

    /// The table at `lowest` (1 for the leaf table) for `address` under the loaded root; the tables on the way are made.
    fn table_for(&mut self, address: VirtAddr, lowest: u32) -> Result<TableId, PoolEmpty> {
        let mut id = self.root().kernel;
        for level in (lowest + 1..=4).rev() {
            let at = index(address.0, level);
            let entry = self.pool.table(id)[at].load(Relaxed);
            id = if entry & PRESENT != 0 && entry & LARGE == 0 {
                self.pool.below(entry)
            } else {
                let below = self.pool.allocate().ok_or(PoolEmpty)?;
                let link = self.pool.address(below).0 | LINK;
                if level == 4 {
                    self.set_top(at, link);
                } else {
                    self.pool.table(id)[at].store(link, Relaxed);
                }
                below
            };
        }
        Ok(id)
    }

    fn table_with_room(&mut self, address: VirtAddr, lowest: u32) -> TableId {
        loop {
            match self.table_for(address, lowest) {
                Ok(id) => return id,
                Err(PoolEmpty) => self.make_room(),
            }
        }
    }

    /// Sets an entry of the top level wherever it stands.
    pub(super) fn set_top(&mut self, at: usize, entry: u64) {
        if at < USER_ENTRIES {
            let root = *self.root();
            // The boot map's kernel runs where it likes.
            let limit = if root.guest == GuestRoot::BootMap { 0 } else { NO_EXECUTE };
            self.pool.table(root.user)[at].store(entry, Relaxed);
            self.pool.table(root.kernel)[at].store(if entry == 0 { 0 } else { entry | limit }, Relaxed);
        } else {
            self.pool.table(self.kernel_half)[at].store(entry, Relaxed);
            for root in self.roots.iter().flatten() {
                self.pool.table(root.kernel)[at].store(entry, Relaxed);
            }
        }
    }
}
