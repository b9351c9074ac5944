//! Table walks, with no machine in them: where the tables lie and where frames come from is the caller's.
//!
//! A walk over a range descends to each leaf table (2 MiB) once and steps over what is absent at the level where it is
//! absent. Lower tables stay until the whole space is dropped, for a processor may still walk a table that was just
//! emptied; those of the kernel's part, which is never dropped, can be unlinked first and freed once no processor
//! walks them ([`Walker::unlink_empty`]).

use core::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed, fence};

use platform::{
    ForkMode, FrameBatch, Mapping, OutOfFrames, PAGE_SIZE, PageRange, PhysFrame, Protection, VirtAddr,
};

use super::entry::{ENTRIES, Entry, LeafKind, Level};

#[cfg(test)]
mod tests;

/// One table. Atomic, because processors walk it at any moment; relaxed, because they do not mind the order of entries.
pub type Table = [AtomicU64; ENTRIES];

/// Where tables are kept.
pub trait TableMemory {
    /// The table in `frame`.
    ///
    /// # Safety
    /// `frame` holds a table of this memory that is not freed while the reference lives.
    unsafe fn table(&self, frame: PhysFrame) -> &Table;

    /// A frame for a table, content undefined.
    fn allocate(&self) -> Option<PhysFrame>;

    /// Gives back a frame of [`Self::allocate`].
    fn free(&self, frame: PhysFrame);

    /// The empty table in `frame` is about to be linked as one of `level`.
    #[inline(always)]
    fn announce(&self, _frame: PhysFrame, _level: Level) {}

    /// The table in `frame` is one of `level` no more: nothing leads to it.
    #[inline(always)]
    fn release(&self, _frame: PhysFrame, _level: Level) {}

    /// Writes an entry of a table of `level`.
    #[inline(always)]
    fn set(&self, slot: &AtomicU64, entry: Entry, _level: Level) {
        store(slot, entry);
    }

    /// Writes a leaf, within [`Self::batch`]: it need not take effect, nor be there to read, before that ends.
    #[inline(always)]
    fn set_in_batch(&self, slot: &AtomicU64, entry: Entry) {
        store(slot, entry);
    }

    /// Does `work`, which writes leaves of one table.
    #[inline(always)]
    fn batch<R>(&self, work: impl FnOnce() -> R) -> R {
        work()
    }
}

/// Bytes below one entry of a table at `level` (1 for a leaf table).
const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// The first address that an entry after the one of `address` at `level` leads to.
#[inline(always)]
const fn next(address: u64, level: u32) -> u64 {
    (address | (span(level) - 1)) + 1
}

#[inline(always)]
const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}

#[inline(always)]
fn load(slot: &AtomicU64) -> Entry {
    Entry(slot.load(Relaxed))
}

#[inline(always)]
fn store(slot: &AtomicU64, entry: Entry) {
    slot.store(entry.0, Relaxed);
}

/// Empties a table. Not a `memset`: plain stores are quicker than a repeated string instruction where those are
/// emulated.
#[inline]
pub fn clear(table: &Table) {
    for line in table.chunks_exact(8) {
        for slot in line {
            store(slot, Entry::EMPTY);
        }
    }
}

/// Translations under one top-level table.
#[derive(Clone, Copy)]
pub struct Walker<'a, M> {
    memory: &'a M,
    root: PhysFrame,
    kind: LeafKind,
    link: fn(PhysFrame) -> Entry,
}

impl<'a, M: TableMemory> Walker<'a, M> {
    /// The user half of `root`.
    ///
    /// # Safety
    /// `root` holds a top-level table of `memory`, and so does every entry of its lower half, for as long as the walker
    /// lives. Nobody else changes them meanwhile.
    #[inline(always)]
    pub unsafe fn user(memory: &'a M, root: PhysFrame) -> Self {
        Self { memory, root, kind: LeafKind::USER, link: Entry::user_table }
    }

    /// A part of the kernel half of `root` that has no large pages.
    ///
    /// # Safety
    /// As [`Self::user`], for that part.
    #[inline(always)]
    pub unsafe fn kernel(memory: &'a M, root: PhysFrame, kind: LeafKind) -> Self {
        Self { memory, root, kind, link: Entry::kernel_table }
    }

    #[inline(always)]
    fn table(&self, frame: PhysFrame) -> &'a Table {
        // SAFETY: the constructors' caller promised that every frame reached from the root is a table.
        unsafe { self.memory.table(frame) }
    }

    #[inline(always)]
    fn descend(&self, address: u64) -> Option<&'a Table> {
        let mut table = self.table(self.root);
        let mut level = 4;
        while level > 1 {
            table = self.below(table, address, level)?;
            level -= 1;
        }
        Some(table)
    }

    #[inline(always)]
    fn descend_or_allocate(&self, address: u64) -> Result<&'a Table, OutOfFrames> {
        let mut table = self.table(self.root);
        let mut level = 4;
        while level > 1 {
            let slot = &table[index(address, level)];
            let entry = load(slot);
            table =
                if entry.is_present() { self.table(entry.frame()) } else { self.grow(slot, Level(level))? };
            level -= 1;
        }
        Ok(table)
    }

    /// Puts an empty table below `slot`, which is in one of `level`.
    #[cold]
    fn grow(&self, slot: &AtomicU64, level: Level) -> Result<&'a Table, OutOfFrames> {
        let frame = self.memory.allocate().ok_or(OutOfFrames)?;
        // SAFETY: the frame is ours and becomes a table here.
        let table = unsafe { self.memory.table(frame) };
        clear(table);
        self.memory.announce(frame, Level(level.0 - 1));
        // The processor must not see the link before the empty table.
        fence(Ordering::Release);
        self.memory.set(slot, (self.link)(frame), level);
        Ok(table)
    }

    /// Calls `visit` with each piece of a leaf table that exists in `pages`, and its first address, until it says where
    /// it stopped; returns that or the end.
    #[inline(always)]
    fn visit(
        &self,
        pages: PageRange,
        mut visit: impl FnMut(&'a [AtomicU64], u64) -> Option<u64>,
    ) -> VirtAddr {
        let end = pages.end.0;
        let mut address = pages.start.0;
        let table4 = self.table(self.root);
        while address < end {
            let end4 = next(address, 4).min(end);
            let Some(table3) = self.below(table4, address, 4) else {
                address = end4;
                continue;
            };
            while address < end4 {
                let end3 = next(address, 3).min(end4);
                let Some(table2) = self.below(table3, address, 3) else {
                    address = end3;
                    continue;
                };
                while address < end3 {
                    let end2 = next(address, 2).min(end3);
                    if let Some(table1) = self.below(table2, address, 2) {
                        let first = index(address, 1);
                        let count = ((end2 - address) / PAGE_SIZE) as usize;
                        if let Some(stopped) = visit(&table1[first..first + count], address) {
                            return VirtAddr(stopped);
                        }
                    }
                    address = end2;
                }
            }
        }
        pages.end
    }

    /// The table that `table`'s entry for `address` leads to.
    #[inline(always)]
    fn below(&self, table: &Table, address: u64, level: u32) -> Option<&'a Table> {
        let entry = load(&table[index(address, level)]);
        entry.is_present().then(|| self.table(entry.frame()))
    }

    /// [`platform::Paging::map`].
    #[inline]
    pub fn map(
        &self,
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
    ) -> Result<u64, OutOfFrames> {
        let mut mapped = 0;
        let mut done = 0;
        while done < frames.len() {
            let address = page.0 + done as u64 * PAGE_SIZE;
            let table = self.descend_or_allocate(address)?;
            let first = index(address, 1);
            self.memory.batch(|| {
                for slot in table[first..].iter().take(frames.len() - done) {
                    if !load(slot).is_mapped() {
                        self.memory.set_in_batch(slot, Entry::leaf(frames[done], protection, self.kind));
                        mapped |= 1 << done;
                    }
                    done += 1;
                }
            });
        }
        Ok(mapped)
    }

    /// [`platform::Paging::replace`].
    #[inline]
    pub fn replace(&self, page: VirtAddr, frame: PhysFrame, protection: Protection) -> bool {
        let Some(table) = self.descend(page.0) else { return false };
        let slot = &table[index(page.0, 1)];
        if !load(slot).is_mapped() {
            return false;
        }
        self.memory.set(slot, Entry::leaf(frame, protection, self.kind), Level::LEAF);
        true
    }

    /// [`platform::Paging::query`].
    #[inline]
    pub fn query(&self, page: VirtAddr) -> Option<Mapping> {
        load(&self.descend(page.0)?[index(page.0, 1)]).mapping()
    }

    /// [`platform::Paging::protect`].
    #[inline]
    pub fn protect(&self, pages: PageRange, protection: Protection) {
        self.visit(pages, |slots, _| {
            self.memory.batch(|| {
                for slot in slots {
                    let entry = load(slot);
                    if entry.is_mapped() {
                        self.memory.set_in_batch(slot, entry.restricted(protection));
                    }
                }
            });
            None
        });
    }

    /// [`platform::Paging::unmap`].
    #[inline]
    pub fn unmap(&self, pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        if taken.is_full() {
            return pages.start;
        }
        self.visit(pages, |slots, start| {
            self.memory.batch(|| {
                for (n, slot) in slots.iter().enumerate() {
                    let entry = load(slot);
                    if entry.is_mapped() {
                        self.memory.set_in_batch(slot, Entry::EMPTY);
                        taken.push(entry.frame());
                        if taken.is_full() {
                            return Some(start + (n as u64 + 1) * PAGE_SIZE);
                        }
                    }
                }
                None
            })
        })
    }

    /// Takes the leaf tables that `pages` reach into and that are empty out of the tables above, and gives them to `take`:
    /// processors may go on to walk them until they have dropped all they know of tables.
    pub fn unlink_empty(&self, pages: PageRange, mut take: impl FnMut(PhysFrame)) {
        let mut address = pages.start.0;
        while address < pages.end.0 {
            let mut table = Some(self.table(self.root));
            for level in [4, 3] {
                table = table.and_then(|table| self.below(table, address, level));
            }
            if let Some(slot) = table.map(|table| &table[index(address, 2)]) {
                let entry = load(slot);
                let is_empty = |frame| self.table(frame).iter().all(|slot| load(slot) == Entry::EMPTY);
                if entry.is_present() && is_empty(entry.frame()) {
                    self.memory.set(slot, Entry::EMPTY, Level(2));
                    self.memory.release(entry.frame(), Level::LEAF);
                    take(entry.frame());
                }
            }
            address = next(address, 2);
        }
    }

    /// [`platform::Paging::fork`], with this walker as the parent.
    #[inline]
    pub fn fork(
        &self,
        child: &Walker<'_, M>,
        pages: PageRange,
        mode: ForkMode,
        shared: &mut FrameBatch,
    ) -> Result<VirtAddr, OutOfFrames> {
        if shared.is_full() {
            return Ok(pages.start);
        }
        let mut outcome = Ok(());
        let reached = self.visit(pages, |slots, start| {
            // The child's table is made before the batch, which allocates nothing.
            let first = slots.iter().position(|slot| load(slot).is_mapped())?;
            let to = match child.descend_or_allocate(start) {
                Ok(table) => &table[index(start, 1)..],
                Err(error) => {
                    outcome = Err(error);
                    return Some(start + first as u64 * PAGE_SIZE);
                }
            };
            self.memory.batch(|| {
                for (n, slot) in slots.iter().enumerate().skip(first) {
                    let mut entry = load(slot);
                    if !entry.is_mapped() {
                        continue;
                    }
                    if mode == ForkMode::CopyOnWrite && entry != entry.without_write() {
                        entry = entry.without_write();
                        self.memory.set_in_batch(slot, entry);
                    }
                    self.memory.set_in_batch(&to[n], entry);
                    shared.push(entry.frame());
                    if shared.is_full() {
                        return Some(start + (n as u64 + 1) * PAGE_SIZE);
                    }
                }
                None
            })
        });
        outcome.map(|()| reached)
    }

    /// Frees every table below the first `entries` entries of the root; no leaf is mapped there.
    pub fn free_tables(&self, entries: usize) {
        for slot in &self.table(self.root)[..entries] {
            let entry = load(slot);
            if entry.is_present() {
                self.memory.set(slot, Entry::EMPTY, Level::ROOT);
                self.free(entry.frame(), Level(3));
            }
        }
    }

    /// Frees a table to which nothing leads, and all below it.
    fn free(&self, frame: PhysFrame, level: Level) {
        self.memory.release(frame, level);
        if level > Level::LEAF {
            for slot in self.table(frame) {
                let below = load(slot);
                if below.is_present() {
                    self.free(below.frame(), Level(level.0 - 1));
                }
            }
        }
        self.memory.free(frame);
    }
}
