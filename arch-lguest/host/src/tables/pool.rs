//! Frames for shadow tables: as many as a guest's budget has, and no more.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{PAGE_SIZE, PhysAddr};

use super::entry::{ADDRESS, ENTRIES};

/// A table.
pub type Table = [AtomicU64; ENTRIES];

/// A table of a pool, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableId(u32);

/// The budget: tables, and which are free.
#[derive(Debug)]
pub struct TablePool {
    tables: &'static [Table],
    host: PhysAddr,
    /// The first free table's number and one; its first entry has the next one's. 0 ends the list.
    free: u64,
    free_count: usize,
}

impl TablePool {
    /// A pool of `tables`, which lie at host-physical address `host`. All are free.
    pub fn new(tables: &'static [Table], host: PhysAddr) -> Self {
        let mut pool = Self { tables, host, free: 0, free_count: 0 };
        for number in (0..tables.len() as u32).rev() {
            pool.free(TableId(number));
        }
        pool
    }

    /// How many are free.
    pub fn free_count(&self) -> usize {
        self.free_count
    }

    /// An empty table, if one is free.
    pub fn allocate(&mut self) -> Option<TableId> {
        let id = TableId(u32::try_from(self.free.checked_sub(1)?).ok()?);
        let table = &self.tables[id.0 as usize];
        self.free = table[0].load(Relaxed);
        self.free_count -= 1;
        for line in table.chunks_exact(8) {
            for entry in line {
                entry.store(0, Relaxed);
            }
        }
        Some(id)
    }

    /// Gives back a table of [`Self::allocate`].
    pub fn free(&mut self, id: TableId) {
        self.tables[id.0 as usize][0].store(self.free, Relaxed);
        self.free = u64::from(id.0) + 1;
        self.free_count += 1;
    }

    /// The table `id`.
    #[inline(always)]
    pub fn table(&self, id: TableId) -> &'static Table {
        &self.tables[id.0 as usize]
    }

    /// Where it is.
    #[inline(always)]
    pub fn address(&self, id: TableId) -> PhysAddr {
        PhysAddr(self.host.0 + u64::from(id.0) * PAGE_SIZE)
    }

    /// The table that `entry`, of a table of this pool, leads to.
    #[inline(always)]
    pub fn below(&self, entry: u64) -> TableId {
        TableId((((entry & ADDRESS) - self.host.0) / PAGE_SIZE) as u32)
    }
}
