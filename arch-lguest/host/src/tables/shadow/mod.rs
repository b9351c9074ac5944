//! Shadow tables: what the processor walks while a guest runs, made from the guest's tables on demand.
//!
//! A root has two top-level tables: the user's, and the kernel's, which has the kernel half too. They share everything below, so
//! each page is filled once for both modes; in the kernel's, the user half cannot be executed. All roots share what lies
//! below the kernel half's entries. Every table but the top-level ones grants everything: rights are in the leaves.

mod fill;
mod leaf;
mod refresh;
mod room;
mod roots;
#[cfg(test)]
mod walk;

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::KERNEL_HALF;
use platform::{PhysAddr, VirtAddr};

use super::entry::{ACCESSED, ENTRIES, PRESENT, USER, WRITE, index};
use super::guest::GuestRoot;
use super::pool::{TableId, TablePool};

/// Roots whose shadows are kept.
const MOST_ROOTS: usize = 64;
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
    fn add(&mut self, other: Self) {
        *self = match (*self, other) {
            (Self::Nothing, other) => other,
            (before, other) if before == other || other == Self::Nothing => before,
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
    /// The tables that the processor has been given.
    given: Option<[TableId; 2]>,
    /// Those, once their root has been dropped: the host runs on them until the processor is given others.
    left: Option<[TableId; 2]>,
}

/// What the processor is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// The top-level table for kernel mode.
    pub kernel: PhysAddr,
    /// The top-level table for user mode.
    pub user: PhysAddr,
    /// What the processor may remember wrongly of them.
    pub stale: Stale,
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
            given: None,
            left: None,
        };
        shadow.roots[0] = shadow.new_root(GuestRoot::BootMap).ok();
        shadow
    }

    /// Gives the pool back, all tables free. The processor must run on none of them.
    pub fn into_pool(mut self) -> TablePool {
        for at in 0..MOST_ROOTS {
            self.drop_root(at);
        }
        self.forget_kernel_half();
        self.free_left();
        self.pool.free(self.kernel_half);
        self.pool
    }

    #[inline]
    fn root(&self) -> &Root {
        self.roots[self.current].as_ref().expect("a root is always loaded")
    }

    /// The guest's loaded root.
    pub fn guest_root(&self) -> GuestRoot {
        self.root().guest
    }

    /// The loaded root for the processor, which is expected to run on it from now on and to forget what is stale. Whatever the
    /// guest does then, these tables keep the host's entry until the next call of this.
    pub fn give(&mut self) -> Given {
        self.free_left();
        let &Root { kernel, user, .. } = self.root();
        self.given = Some([kernel, user]);
        let stale = core::mem::replace(&mut self.stale, Stale::Nothing);
        Given { kernel: self.pool.address(kernel), user: self.pool.address(user), stale }
    }

    #[inline]
    fn free_left(&mut self) {
        self.left.take().into_iter().flatten().for_each(|table| self.pool.free(table));
    }

    /// How often shadows had to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The host's entry.
    pub fn host(&self) -> HostEntry {
        self.host
    }
}
