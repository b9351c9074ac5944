//! The kernel's own translations: direct map, image, and the top-level entries that every space shares.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{
    CacheMode, MemoryRegion, PAGE_SIZE, PhysAddr, PhysFrame, PhysRange, Protection, Unusable, VirtAddr,
};

use crate::layout::{DIRECT_MAP, KERNEL_WINDOW, PLATFORM_WINDOW, direct};
use crate::machine::Machine;
use crate::paging::entry::{ENTRIES, Entry, LeafKind, Level};

/// Frames from the start of one usable range.
pub struct Bump {
    range: PhysRange,
    next: PhysAddr,
}

impl Bump {
    /// # Safety
    /// `range` is free RAM, page aligned and, while this lives, in the direct map.
    pub unsafe fn new(range: PhysRange) -> Self {
        Self { range, next: range.start }
    }

    /// A zeroed frame.
    pub fn frame(&mut self) -> Result<PhysFrame, Unusable> {
        if self.next.0 + PAGE_SIZE > self.range.end.0 {
            return Err(Unusable("too little memory for the kernel's page tables"));
        }
        let frame = self.next.frame();
        self.next = self.next + PAGE_SIZE;
        // SAFETY: free RAM in the direct map.
        unsafe { direct(frame.start()).as_mut_ptr::<u8>().write_bytes(0, PAGE_SIZE as usize) };
        Ok(frame)
    }

    /// What has been used.
    pub fn used(&self) -> PhysRange {
        PhysRange { start: self.range.start, end: self.next }
    }
}

/// Sizes of pages above 4 KiB that the processor has, by level of their entry.
#[derive(Clone, Copy)]
pub struct LargePages {
    /// 1 GiB.
    pub gibibyte: bool,
}

/// Kernel translations under construction, reached through the direct map of the first page tables.
pub struct KernelTables<'a, M> {
    bump: &'a mut Bump,
    root: PhysFrame,
    large: LargePages,
    machine: PhantomData<M>,
}

impl<'a, M: Machine> KernelTables<'a, M> {
    pub fn new(bump: &'a mut Bump, large: LargePages) -> Result<Self, Unusable> {
        let root = bump.frame()?;
        M::announce_table(root, Level::ROOT);
        Ok(Self { bump, root, large, machine: PhantomData })
    }

    /// The frame to load into CR3.
    pub fn root(&self) -> PhysFrame {
        self.root
    }

    /// Maps all RAM, readable and writable. Neighbouring regions are mapped as one, whatever their kinds.
    pub fn direct_map(&mut self, regions: &[MemoryRegion]) -> Result<(), Unusable> {
        let mut at = 0;
        while at < regions.len() {
            let start = regions[at].range.start;
            let mut end = regions[at].range.end;
            while let Some(next) = regions.get(at + 1)
                && next.range.start == end
            {
                end = next.range.end;
                at += 1;
            }
            at += 1;
            let range = PhysRange { start, end };
            self.map(DIRECT_MAP + start.0, range, Protection::READ | Protection::WRITE)?;
        }
        Ok(())
    }

    /// Allocates the tables below the top-level entries of the windows, so that every space that copies the
    /// top level sees what is mapped there later.
    pub fn windows(&mut self) -> Result<(), Unusable> {
        for (start, end) in [KERNEL_WINDOW, PLATFORM_WINDOW] {
            let mut address = start.0;
            while address < end.0 {
                self.next_table(self.root, address, Level(4))?;
                address += 1 << 39;
            }
        }
        Ok(())
    }

    /// Maps `physical` at `start`, in the largest pages that fit.
    pub fn map(
        &mut self,
        start: VirtAddr,
        physical: PhysRange,
        protection: Protection,
    ) -> Result<(), Unusable> {
        let leaf = Entry::leaf(PhysFrame(0), protection, LeafKind::kernel(CacheMode::WriteBack));
        let (mut at, mut from) = (start.0, physical.start.0);
        while from < physical.end.0 {
            let left = physical.end.0 - from;
            let fits = |bytes: u64| (at | from).is_multiple_of(bytes) && left >= bytes;
            let third = self.next_table(self.root, at, Level(4))?;
            let step = if self.large.gibibyte && fits(1 << 30) {
                self.set(third, at, Level(3), Entry(leaf.0 | from | Entry::LARGE));
                1 << 30
            } else {
                let second = self.next_table(third, at, Level(3))?;
                if fits(1 << 21) {
                    self.set(second, at, Level(2), Entry(leaf.0 | from | Entry::LARGE));
                    1 << 21
                } else {
                    let first = self.next_table(second, at, Level(2))?;
                    self.set(first, at, Level(1), Entry(leaf.0 | from));
                    PAGE_SIZE
                }
            };
            at += step;
            from += step;
        }
        Ok(())
    }

    /// The entry for `address` in a table of `level`.
    fn slot(&self, table: PhysFrame, address: u64, level: Level) -> &AtomicU64 {
        let index = (address >> (12 + 9 * (level.0 - 1))) as usize & (ENTRIES - 1);
        // SAFETY: a table of ours, in the direct map.
        unsafe { AtomicU64::from_ptr(direct(table.start()).as_mut_ptr::<u64>().add(index)) }
    }

    fn set(&self, table: PhysFrame, address: u64, level: Level, entry: Entry) {
        M::set_entry(self.slot(table, address, level), entry, level);
    }

    /// The table below the entry for `address` in a table of `level`, made if there is none.
    fn next_table(&mut self, table: PhysFrame, address: u64, level: Level) -> Result<PhysFrame, Unusable> {
        let entry = Entry(self.slot(table, address, level).load(Relaxed));
        if entry.is_present() {
            return Ok(entry.frame());
        }
        let frame = self.bump.frame()?;
        M::announce_table(frame, Level(level.0 - 1));
        self.set(table, address, level, Entry::kernel_table(frame));
        Ok(frame)
    }
}
