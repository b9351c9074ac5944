//! Shadow tables: what the processor walks while a guest runs, made from the guest's tables on demand.
//!
//! A root has two top-level tables: the user's, and the kernel's, which has the kernel half too. They share everything below, so
//! each page is filled once for both modes; in the kernel's, the user half cannot be executed. All roots share what lies
//! below the kernel half's entries. Every table but the top-level ones grants everything: rights are in the leaves.

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::KERNEL_HALF;
use platform::{PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

use super::entry::{ACCESSED, DIRTY, ENTRIES, LARGE, NO_EXECUTE, PRESENT, USER, WRITE, index, span};
use super::guest::{Below, GuestPage, GuestRoot, GuestTable};
use super::pool::{TableId, TablePool};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};

/// Roots whose shadows are kept.
const MOST_ROOTS: usize = 64;
/// Pages that a fill looks at beside the one that is needed: a block of this many, aligned.
const FILL_AROUND: usize = 16;
/// A pool smaller than this cannot hold what one instruction may need.
pub const LEAST_TABLES: usize = 32;

const USER_ENTRIES: usize = ENTRIES / 2;
const LINK: u64 = PRESENT | WRITE | USER | ACCESSED;

/// An access that the processor refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub execute: bool,
    /// From user mode.
    pub user: bool,
}

/// What became of a fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// The access will succeed.
    Filled,
    /// The guest's tables do not allow it; `present` tells whether there is a page.
    Denied {
        /// The guest has a page there.
        present: bool,
    },
}

/// What the processor may still remember of changed shadows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stale {
    /// Nothing.
    Nothing,
    /// One page's translation.
    Page(VirtAddr),
    /// Anything.
    Everything,
}

impl Stale {
    fn add(&mut self, page: VirtAddr) {
        *self = match *self {
            Self::Nothing => Self::Page(page),
            Self::Page(other) if other == page => *self,
            _ => Self::Everything,
        };
    }
}

/// The top-level entry that is the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostEntry {
    /// Its index.
    pub index: usize,
    /// Its value.
    pub value: u64,
}

impl HostEntry {
    /// Whether `address` lies below it.
    #[inline(always)]
    pub fn covers(&self, address: VirtAddr) -> bool {
        address.0 >= KERNEL_HALF && index(address.0, 4) == self.index
    }
}

#[derive(Clone, Copy, Debug)]
struct Root {
    guest: GuestRoot,
    kernel: TableId,
    user: TableId,
    last_used: u64,
}

/// One guest's shadows.
#[derive(Debug)]
pub struct Shadow {
    pool: TablePool,
    host: HostEntry,
    roots: [Option<Root>; MOST_ROOTS],
    /// Which root is loaded.
    current: usize,
    /// Its upper half holds the kernel half's entries, for roots that come.
    kernel_half: TableId,
    uses: u64,
    stale: Stale,
    evictions: u64,
}

/// There is no table left in the pool.
struct PoolEmpty;

impl Shadow {
    /// Shadows for a guest that starts on the boot map.
    ///
    /// # Panics
    /// If the pool has fewer than [`LEAST_TABLES`] tables.
    pub fn new(mut pool: TablePool, host: HostEntry) -> Self {
        assert!(pool.free_count() >= LEAST_TABLES && host.index >= USER_ENTRIES);
        let kernel_half = pool.allocate().expect("the pool has tables");
        pool.table(kernel_half)[host.index].store(host.value, Relaxed);
        let mut shadow = Self {
            pool,
            host,
            roots: [None; MOST_ROOTS],
            current: 0,
            kernel_half,
            uses: 0,
            stale: Stale::Everything,
            evictions: 0,
        };
        shadow.roots[0] = shadow.new_root(GuestRoot::BootMap).ok();
        shadow
    }

    /// Gives the pool back, all tables free.
    pub fn into_pool(mut self) -> TablePool {
        for at in 0..MOST_ROOTS {
            self.drop_root(at);
        }
        self.forget_kernel_half();
        self.pool.free(self.kernel_half);
        self.pool
    }

    fn root(&self) -> &Root {
        self.roots[self.current].as_ref().expect("a root is always loaded")
    }

    /// The guest's loaded root.
    pub fn guest_root(&self) -> GuestRoot {
        self.root().guest
    }

    /// The top-level table for kernel mode.
    pub fn kernel_table(&self) -> PhysAddr {
        self.pool.address(self.root().kernel)
    }

    /// The top-level table for user mode.
    pub fn user_table(&self) -> PhysAddr {
        self.pool.address(self.root().user)
    }

    /// What the processor may remember wrongly of the loaded root; it is expected to forget it now.
    pub fn take_stale(&mut self) -> Stale {
        core::mem::replace(&mut self.stale, Stale::Nothing)
    }

    /// How often shadows had to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The host's entry.
    pub fn host(&self) -> HostEntry {
        self.host
    }

    fn new_root(&mut self, guest: GuestRoot) -> Result<Root, PoolEmpty> {
        let kernel = self.pool.allocate().ok_or(PoolEmpty)?;
        let Some(user) = self.pool.allocate() else {
            self.pool.free(kernel);
            return Err(PoolEmpty);
        };
        let from = self.pool.table(self.kernel_half);
        let to = self.pool.table(kernel);
        for at in USER_ENTRIES..ENTRIES {
            to[at].store(from[at].load(Relaxed), Relaxed);
        }
        self.pool.table(user)[self.host.index].store(self.host.value, Relaxed);
        Ok(Root { guest, kernel, user, last_used: self.uses })
    }

    /// NEW_PGTABLE: loads the root at `at`, making its shadow if there is none.
    pub fn load(&mut self, memory: &GuestMemory, at: GuestPhys) -> Result<(), Broken> {
        if !at.0.is_multiple_of(PAGE_SIZE) || at.0 == 0 {
            return Err(Rule::UnalignedAddress.broken_by(at.0));
        }
        memory.check(at, PAGE_SIZE)?;
        let entry = memory.read(GuestPhys(at.0 + self.host.index as u64 * 8))?;
        if entry & PRESENT != 0 {
            return Err(Rule::HostRange.broken_by(entry));
        }
        self.uses += 1;
        let wanted = GuestRoot::Table(at);
        if let Some(known) = self.find(wanted) {
            self.current = known;
        } else {
            let root = loop {
                match self.new_root(wanted) {
                    Ok(root) => break root,
                    Err(PoolEmpty) => self.make_room(),
                }
            };
            let place = self.roots.iter().position(Option::is_none).unwrap_or_else(|| {
                let oldest = self.oldest().expect("every place is taken");
                self.drop_root(oldest);
                oldest
            });
            self.roots[place] = Some(root);
            // The boot map is over.
            let boot = self.find(GuestRoot::BootMap);
            self.current = place;
            if let Some(boot) = boot {
                self.drop_root(boot);
                self.forget_kernel_half();
            }
        }
        let now = self.uses;
        if let Some(root) = &mut self.roots[self.current] {
            root.last_used = now;
        }
        Ok(())
    }

    fn find(&self, guest: GuestRoot) -> Option<usize> {
        self.roots.iter().position(|root| root.is_some_and(|root| root.guest == guest))
    }

    /// The root, not the loaded one, that was loaded least recently.
    fn oldest(&self) -> Option<usize> {
        let others = self.roots.iter().enumerate().filter(|(at, _)| *at != self.current);
        others
            .filter_map(|(at, root)| Some((at, root.as_ref()?.last_used)))
            .min_by_key(|found| found.1)
            .map(|found| found.0)
    }

    /// RELEASE_PGD.
    pub fn release(&mut self, at: GuestPhys) -> Result<(), Broken> {
        let guest = GuestRoot::Table(at);
        if self.guest_root() == guest {
            return Err(Rule::ReleasedRoot.broken_by(at.0));
        }
        if let Some(known) = self.find(guest) {
            self.drop_root(known);
        }
        Ok(())
    }

    fn drop_root(&mut self, at: usize) {
        let Some(root) = self.roots[at].take() else { return };
        self.forget_user_half_of(&root, 0..USER_ENTRIES);
        self.pool.free(root.kernel);
        self.pool.free(root.user);
    }

    fn forget_user_half_of(&mut self, root: &Root, entries: Range<usize>) {
        for at in entries {
            let entry = self.pool.table(root.user)[at].swap(0, Relaxed);
            if entry & PRESENT != 0 {
                self.pool.table(root.kernel)[at].store(0, Relaxed);
                self.free_below(entry, 3);
            }
        }
        self.stale = Stale::Everything;
    }

    fn forget_kernel_half(&mut self) {
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
    fn free_below(&mut self, entry: u64, level: u32) {
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
    fn make_room(&mut self) {
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

    /// Sets an entry of the top level wherever it stands.
    fn set_top(&mut self, at: usize, entry: u64) {
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

    /// Makes `access` to `address` possible if the guest's tables allow it, and fills what is likely to be used next. The
    /// address is canonical and not the host's.
    pub fn fill(&mut self, memory: &GuestMemory, address: VirtAddr, access: Access) -> Result<Fill, Broken> {
        self.fill_with(memory, address, access, true)
    }

    /// The same for one page, which the guest has just changed: its neighbours have not.
    pub fn fill_one(
        &mut self,
        memory: &GuestMemory,
        address: VirtAddr,
        access: Access,
    ) -> Result<Fill, Broken> {
        self.fill_with(memory, address, access, false)
    }

    fn fill_with(
        &mut self,
        memory: &GuestMemory,
        address: VirtAddr,
        access: Access,
        around: bool,
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
        let first = index(address.0, level);
        let Some(entry) = leaf_entry(memory, &page) else {
            return Err(Rule::FrameOutsideMemory.broken_by(page.frame.0));
        };
        if page.large {
            let before = self.pool.table(id)[first].load(Relaxed);
            if before & PRESENT != 0 && before & LARGE == 0 {
                // Small pages were here, and the guest has not said that they are gone.
                self.free_below(before, 1);
                self.stale = Stale::Everything;
            }
            self.pool.table(id)[first].store(entry, Relaxed);
            return Ok(Fill::Filled);
        }
        self.pool.table(id)[first].store(entry, Relaxed);
        if around {
            self.fill_around(memory, leaf_table, id, address);
        }
        Ok(Fill::Filled)
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
        let table = self.pool.table(id);
        for (at, slot) in table.iter().enumerate().skip(first).take(FILL_AROUND) {
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
        self.refresh_table(memory, table, 4, guest, pages.start, last)
    }

    /// Looks again at what one shadow table has from the page of `first` to that of `last`.
    fn refresh_table(
        &mut self,
        memory: &GuestMemory,
        id: TableId,
        level: u32,
        guest: GuestTable,
        first: VirtAddr,
        last: VirtAddr,
    ) -> Result<(), Broken> {
        let table = self.pool.table(id);
        let mut start = first;
        let entries = index(first.0, level)..=index(last.0, level);
        for (at, slot) in table.iter().enumerate().take(entries.end() + 1).skip(*entries.start()) {
            let end = VirtAddr((start.0 | (span(level) - 1)).min(last.0));
            let here = start;
            start = VirtAddr(end.0.wrapping_add(1));
            let entry = slot.load(Relaxed);
            if entry & PRESENT == 0 || (level == 4 && at == self.host.index) {
                continue;
            }
            let below = if level > 1 { guest.below(memory, level, at)? } else { None };
            if level == 1 || entry & LARGE != 0 {
                let page = match below {
                    Some(Below::LargePage(page)) => Some(page),
                    _ if level == 1 => guest.page(memory, at)?,
                    _ => None,
                };
                let new =
                    page.filter(|page| page.accessed).and_then(|page| leaf_entry(memory, &page)).unwrap_or(0);
                if (new ^ entry) & !(ACCESSED | DIRTY) != 0 {
                    slot.store(new, Relaxed);
                    if level == 1 {
                        self.stale.add(here.page());
                    } else {
                        self.stale = Stale::Everything;
                    }
                }
                continue;
            }
            let Some(Below::Table(below)) = below else {
                self.unlink(id, at, level);
                self.stale = Stale::Everything;
                self.free_below(entry, level - 1);
                continue;
            };
            self.refresh_table(memory, self.pool.below(entry), level - 1, below, here, end)?;
        }
        Ok(())
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

    /// Finds the shadow's leaf entry for `address` under the loaded root, as the processor does in the given mode.
    #[cfg(test)]
    pub(super) fn processor_walk(&self, address: VirtAddr, user: bool) -> Option<(u64, bool)> {
        let mut id = if user { self.root().user } else { self.root().kernel };
        let mut executable = true;
        for level in [4, 3, 2] {
            let entry = self.pool.table(id)[index(address.0, level)].load(Relaxed);
            if entry & PRESENT == 0 {
                return None;
            }
            executable &= entry & NO_EXECUTE == 0;
            if entry & LARGE != 0 {
                return Some((entry + address.0 % span(2) / PAGE_SIZE * PAGE_SIZE, executable));
            }
            id = self.pool.below(entry);
        }
        let entry = self.pool.table(id)[index(address.0, 1)].load(Relaxed);
        (entry & PRESENT != 0).then_some((entry, executable && entry & NO_EXECUTE == 0))
    }
}

/// The shadow of a guest's page; a page that is not dirty cannot be written, so that the first write is seen.
#[inline(always)]
fn leaf_entry(memory: &GuestMemory, page: &GuestPage) -> Option<u64> {
    let host = memory.host_address(page.frame)?;
    let write = if page.writable && page.dirty { WRITE | DIRTY } else { 0 };
    let execute = if page.executable { 0 } else { NO_EXECUTE };
    let large = if page.large { LARGE } else { 0 };
    Some(host.0 | PRESENT | USER | ACCESSED | write | execute | large)
}
