//! The kernel's own translations: direct map, image, and the top-level entries that every space shares.

use platform::{
    CacheMode, MemoryRegion, PAGE_SIZE, PhysAddr, PhysFrame, PhysRange, Protection, Unusable, VirtAddr,
};

use crate::layout::{DIRECT_MAP, KERNEL_WINDOW, PLATFORM_WINDOW};
use crate::paging::entry::{ENTRIES, Entry, LeafKind};

/// Frames from the start of one usable range that is mapped at its own address.
#[derive(Debug)]
pub struct Bump {
    range: PhysRange,
    next: PhysAddr,
}

impl Bump {
    /// # Safety
    /// `range` is free RAM, page aligned and, while this lives, mapped at its own address.
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
        // SAFETY: free RAM, mapped at its own address.
        unsafe { core::ptr::write_bytes(frame.start().0 as *mut u8, 0, PAGE_SIZE as usize) };
        Ok(frame)
    }

    /// What has been used.
    pub fn used(&self) -> PhysRange {
        PhysRange { start: self.range.start, end: self.next }
    }
}

/// Sizes of pages above 4 KiB that may be used.
#[derive(Clone, Copy, Debug)]
pub struct LargePages {
    /// 2 MiB.
    pub two_mebibyte: bool,
    /// 1 GiB.
    pub gibibyte: bool,
}

impl LargePages {
    /// All pages have 4 KiB.
    pub const NONE: Self = Self { two_mebibyte: false, gibibyte: false };
}

/// Kernel translations under construction, reached at their own addresses.
#[derive(Debug)]
pub struct KernelTables<'a> {
    bump: &'a mut Bump,
    root: PhysFrame,
    large: LargePages,
}

impl<'a> KernelTables<'a> {
    /// Tables with nothing in them.
    pub fn new(bump: &'a mut Bump, large: LargePages) -> Result<Self, Unusable> {
        let root = bump.frame()?;
        Ok(Self { bump, root, large })
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
                self.next_table(self.root, index(address, 4))?;
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
            let third = self.next_table(self.root, index(at, 4))?;
            let step = if self.large.gibibyte && fits(1 << 30) {
                self.set(third, index(at, 3), leaf.0 | from | Entry::LARGE);
                1 << 30
            } else {
                let second = self.next_table(third, index(at, 3))?;
                if self.large.two_mebibyte && fits(1 << 21) {
                    self.set(second, index(at, 2), leaf.0 | from | Entry::LARGE);
                    1 << 21
                } else {
                    let first = self.next_table(second, index(at, 2))?;
                    self.set(first, index(at, 1), leaf.0 | from);
                    PAGE_SIZE
                }
            };
            at += step;
            from += step;
        }
        Ok(())
    }

    fn slot(&mut self, table: PhysFrame, index: usize) -> *mut u64 {
        debug_assert!(index < ENTRIES);
        (table.start().0 as *mut u64).wrapping_add(index)
    }

    fn set(&mut self, table: PhysFrame, index: usize, entry: u64) {
        let slot = self.slot(table, index);
        // SAFETY: a table of ours, mapped at its own address.
        unsafe { slot.write(entry) };
    }

    fn next_table(&mut self, table: PhysFrame, index: usize) -> Result<PhysFrame, Unusable> {
        let slot = self.slot(table, index);
        // SAFETY: a table of ours, mapped at its own address.
        let entry = Entry(unsafe { slot.read() });
        if entry.is_present() {
            return Ok(entry.frame());
        }
        let frame = self.bump.frame()?;
        self.set(table, index, Entry::kernel_table(frame).0);
        Ok(frame)
    }
}

const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}
