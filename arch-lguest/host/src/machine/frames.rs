//! Physical memory: handed out once, at the start, in blocks of whole pages that are never given back.

use arch_x86::start_info::StartInfo;
use platform::{PAGE_SIZE, PhysAddr, PhysRange};

use super::paging::{self, DIRECT_LIMIT};

const MOST_BLOCKS: usize = 32;

/// RAM that nobody uses yet.
#[derive(Debug)]
pub struct Frames {
    free: [PhysRange; MOST_BLOCKS],
    count: usize,
}

impl Frames {
    /// The loader's RAM above 1 MiB, without the image, the module and the loader's own structures.
    pub fn new(given: &StartInfo) -> Self {
        let mut frames = Self { free: [PhysRange::default(); MOST_BLOCKS], count: 0 };
        for ram in given.map.iter().filter(|entry| entry.is_ram()).map(|entry| entry.range()) {
            frames.add(ram.start.0.max(1 << 20), ram.end.0.min(DIRECT_LIMIT.0));
        }
        for used in given.own_memory.iter().copied().chain(given.module).chain([paging::image()]) {
            frames.carve(used);
        }
        frames
    }

    fn add(&mut self, start: u64, end: u64) {
        let (start, end) = (start.next_multiple_of(PAGE_SIZE), end & !(PAGE_SIZE - 1));
        if start < end && self.count < MOST_BLOCKS {
            self.free[self.count] = PhysRange { start: PhysAddr(start), end: PhysAddr(end) };
            self.count += 1;
        }
    }

    fn carve(&mut self, used: PhysRange) {
        for at in 0..self.count {
            let block = self.free[at];
            if used.end <= block.start || block.end <= used.start {
                continue;
            }
            self.free[at].end = PhysAddr(used.start.0.clamp(block.start.0, block.end.0) & !(PAGE_SIZE - 1));
            self.free[at].end = self.free[at].end.max(block.start);
            self.add(used.end.0.max(block.start.0), block.end.0);
        }
    }

    /// One past the highest byte.
    pub fn end(&self) -> PhysAddr {
        self.free[..self.count].iter().map(|block| block.end).max().unwrap_or_default()
    }

    /// Takes `bytes` bytes (whole pages) in one piece, on a boundary of `alignment`, below `limit`. What is skipped for that
    /// stays free.
    fn take_below(&mut self, bytes: u64, alignment: u64, limit: PhysAddr) -> Option<PhysRange> {
        let at = (0..self.count)
            .filter(|&at| {
                let block = self.free[at];
                let start = block.start.0.checked_next_multiple_of(alignment);
                let end = start.and_then(|start| start.checked_add(bytes));
                end.is_some_and(|end| end <= block.end.min(limit).0)
            })
            .min_by_key(|&at| self.free[at].bytes())?;
        let block = self.free[at];
        let start = PhysAddr(block.start.0.next_multiple_of(alignment));
        self.free[at].start = start + bytes;
        self.add(block.start.0, start.0);
        Some(PhysRange { start, end: start + bytes })
    }

    /// Takes `bytes` bytes (whole pages) in one piece, on a boundary of `alignment`.
    pub fn take(&mut self, bytes: u64, alignment: u64) -> Option<PhysRange> {
        self.take_below(bytes, alignment, DIRECT_LIMIT)
    }

    /// Takes a page that the first page tables show.
    pub fn take_low_page(&mut self) -> Option<PhysRange> {
        self.take_below(PAGE_SIZE, PAGE_SIZE, PhysAddr(1 << 32))
    }
}
