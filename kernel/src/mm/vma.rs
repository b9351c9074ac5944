//! The map of a user address space: which ranges of pages are there, how they may be used, and what is behind them.
//!
//! A sorted array: address spaces have tens of ranges, rarely thousands, and a search in an array is faster than in a tree,
//! as are forks. The range found last is remembered, since page faults come in clusters. Every operation that
//! may need memory reserves it first, so it either happens as a whole or not at all.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use platform::{PAGE_SIZE, PageRange, Protection, VirtAddr};

/// What is behind a range.
pub trait Behind: Clone + PartialEq {
    /// The same thing `bytes` further on: what is behind the upper part when a range is split there.
    fn offset_by(&self, bytes: u64) -> Self;
}

bitflags::bitflags! {
    /// Properties of a range besides its protection.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmaFlags: u32 {
        /// Writes are seen by others that map the same thing (`MAP_SHARED`).
        const SHARED = 1 << 0;
        /// It grows downwards when touched just below (a stack).
        const GROWS_DOWN = 1 << 1;
        /// It is the heap that `brk` moves.
        const HEAP = 1 << 2;
        /// Its pages are kept in memory (`mlock`).
        const LOCKED = 1 << 3;
        /// A child does not get it (`MADV_DONTFORK`).
        const NOT_INHERITED = 1 << 4;
        /// A child gets it with zeros (`MADV_WIPEONFORK`).
        const WIPED_ON_FORK = 1 << 5;
        /// It belongs to the kernel and stays (the vDSO).
        const KERNEL_PROVIDED = 1 << 6;
        /// It is private and could be written once, so it may have pages that are not those of what is behind it.
        const MAY_HAVE_COPIES = 1 << 7;
        /// It must never be made writable: a shared mapping of a file not open for writing.
        const NEVER_WRITABLE = 1 << 8;
    }
}

/// A range of whole pages, not empty: addresses in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UserRange {
    start: u64,
    end: u64,
}

impl UserRange {
    /// The range `start..end`, if both are at page borders and something is between them.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start < end && start.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE) {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// The range of `length` bytes from `start`, rounded up to whole pages as system calls do it.
    pub const fn covering(start: u64, length: u64) -> Option<Self> {
        let Some(length) = length.checked_next_multiple_of(PAGE_SIZE) else { return None };
        let Some(end) = start.checked_add(length) else { return None };
        Self::new(start, end)
    }

    /// Its first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The byte after its last.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Its size in bytes.
    pub const fn size(self) -> u64 {
        self.end - self.start
    }

    /// Whether `address` is inside.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

impl From<UserRange> for PageRange {
    fn from(range: UserRange) -> Self {
        Self::new(VirtAddr(range.start), VirtAddr(range.end))
    }
}

/// One range of an address space.
#[derive(Clone, PartialEq, Debug)]
pub struct Vma<B> {
    /// Where it is.
    pub range: UserRange,
    /// What the program may do there.
    pub protection: Protection,
    /// Its other properties.
    pub flags: VmaFlags,
    /// What is behind its first page.
    pub backing: B,
}

impl<B: Behind> Vma<B> {
    /// Cuts the range in two at `address`, which is inside and not at its start; returns the upper part.
    fn split_off(&mut self, address: u64) -> Self {
        let upper = Self {
            range: UserRange { start: address, end: self.range.end },
            backing: self.backing.offset_by(address - self.range.start),
            ..*self
        };
        self.range.end = address;
        upper
    }

    /// Whether `next` goes on where this ends, the same in all respects.
    fn continues_in(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && self.protection == next.protection
            && self.flags == next.flags
            && self.backing.offset_by(self.range.size()) == next.backing
    }
}

/// Why an address space cannot be changed as asked; it is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmaError {
    /// Something is mapped there already.
    Overlap,
    /// Nothing is mapped in a part of it.
    Hole,
    /// There is no memory for the map.
    OutOfMemory,
}

impl core::fmt::Display for VmaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Overlap => "something is mapped there already",
            Self::Hole => "nothing is mapped in a part of it",
            Self::OutOfMemory => "no memory for the map of the address space",
        })
    }
}

impl core::error::Error for VmaError {}

/// Where and how to look for unused addresses. All in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeSearch {
    /// How much is needed, in whole pages.
    pub length: u64,
    /// What the start must be a multiple of: a power of two, at least a page.
    pub alignment: u64,
    /// The lowest address allowed.
    pub low: u64,
    /// The end of the addresses allowed.
    pub high: u64,
    /// How far to keep away from mapped ranges on both sides.
    pub guard: u64,
}

/// The ranges of an address space, none overlapping another.
#[derive(Debug)]
pub struct VmaTree<B> {
    vmas: Vec<Vma<B>>,
    /// Index of the range found last; only a hint, so readers may store it concurrently.
    last_found: AtomicUsize,
    mapped: u64,
}

impl<B: Behind> Default for VmaTree<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Behind> VmaTree<B> {
    /// An empty address space.
    pub const fn new() -> Self {
        Self { vmas: Vec::new(), last_found: AtomicUsize::new(0), mapped: 0 }
    }

    /// A copy, as for fork.
    ///
    /// # Errors
    /// [`VmaError::OutOfMemory`].
    pub fn try_clone(&self) -> Result<Self, VmaError> {
        let mut vmas = Vec::new();
        vmas.try_reserve_exact(self.vmas.len()).map_err(|_| VmaError::OutOfMemory)?;
        vmas.extend_from_slice(&self.vmas);
        Ok(Self { vmas, last_found: AtomicUsize::new(0), mapped: self.mapped })
    }

    /// All ranges by rising address.
    pub fn as_slice(&self) -> &[Vma<B>] {
        &self.vmas
    }

    /// Bytes mapped in all.
    pub fn mapped_bytes(&self) -> u64 {
        self.mapped
    }

    /// The range that holds `address`.
    #[inline]
    pub fn find(&self, address: u64) -> Option<&Vma<B>> {
        let hint = self.last_found.load(Ordering::Relaxed);
        if let Some(vma) = self.vmas.get(hint)
            && vma.range.contains(address)
        {
            return Some(vma);
        }
        let index = self.first_ending_after(address);
        let vma = self.vmas.get(index).filter(|vma| vma.range.start <= address)?;
        self.last_found.store(index, Ordering::Relaxed);
        Some(vma)
    }

    /// The lowest range that ends after `address`: the one that holds it, or the next one above.
    pub fn find_at_or_above(&self, address: u64) -> Option<&Vma<B>> {
        self.vmas.get(self.first_ending_after(address))
    }

    /// The ranges that have a page in common with `range`, by rising address.
    pub fn overlapping(&self, range: UserRange) -> &[Vma<B>] {
        &self.vmas[self.overlap(range)]
    }

    /// Whether every page of `range` is mapped.
    pub fn covers(&self, range: UserRange) -> bool {
        let mut reached = range.start;
        for vma in self.overlapping(range) {
            if vma.range.start > reached {
                return false;
            }
            reached = vma.range.end;
        }
        reached >= range.end
    }

    /// Adds a range. It is joined with neighbours that are the same in all respects.
    ///
    /// # Errors
    /// [`VmaError::Overlap`], [`VmaError::OutOfMemory`].
    pub fn insert(&mut self, vma: Vma<B>) -> Result<(), VmaError> {
        let overlap = self.overlap(vma.range);
        if !overlap.is_empty() {
            return Err(VmaError::Overlap);
        }
        let at = overlap.start;
        let size = vma.range.size();
        let joins_previous = at > 0 && self.vmas[at - 1].continues_in(&vma);
        let joins_next = self.vmas.get(at).is_some_and(|next| vma.continues_in(next));
        match (joins_previous, joins_next) {
            (true, true) => {
                let next = self.vmas.remove(at);
                self.vmas[at - 1].range.end = next.range.end;
            }
            (true, false) => self.vmas[at - 1].range.end = vma.range.end,
            (false, true) => {
                self.vmas[at] = Vma { range: UserRange { end: self.vmas[at].range.end, ..vma.range }, ..vma }
            }
            (false, false) => {
                self.reserve(1)?;
                self.vmas.insert(at, vma);
            }
        }
        self.mapped += size;
        Ok(())
    }

    /// Removes what is mapped in `range`, cutting ranges that reach beyond it. Each piece removed goes to `removed`, by
    /// rising address.
    ///
    /// # Errors
    /// [`VmaError::OutOfMemory`] if a range has to be cut in two and there is no memory for that.
    pub fn remove(&mut self, range: UserRange, mut removed: impl FnMut(Vma<B>)) -> Result<(), VmaError> {
        let overlap = self.overlap(range);
        if overlap.is_empty() {
            return Ok(());
        }
        let cuts_start = self.vmas[overlap.start].range.start < range.start;
        let cuts_end = self.vmas[overlap.end - 1].range.end > range.end;
        if overlap.len() == 1 && cuts_start && cuts_end {
            self.reserve(1)?;
            let vma = &mut self.vmas[overlap.start];
            let mut middle = vma.split_off(range.start);
            let upper = middle.split_off(range.end);
            self.vmas.insert(overlap.end, upper);
            self.mapped -= range.size();
            removed(middle);
            return Ok(());
        }
        let mut whole = overlap;
        if cuts_start {
            let piece = self.vmas[whole.start].split_off(range.start);
            self.mapped -= piece.range.size();
            removed(piece);
            whole.start += 1;
        }
        let lower_part = if cuts_end {
            whole.end -= 1;
            let vma = &mut self.vmas[whole.end];
            let upper = vma.split_off(range.end);
            Some(core::mem::replace(vma, upper))
        } else {
            None
        };
        for piece in self.vmas.drain(whole).chain(lower_part) {
            self.mapped -= piece.range.size();
            removed(piece);
        }
        Ok(())
    }

    /// Gives all pages of `range` another protection.
    ///
    /// # Errors
    /// [`VmaError::Hole`] if a part of it is not mapped, [`VmaError::OutOfMemory`].
    pub fn protect(&mut self, range: UserRange, protection: Protection) -> Result<(), VmaError> {
        self.change(range, |vma| vma.protection = protection)
    }

    /// Notes that private ranges in `range` may get pages of their own.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn set_private_copies(&mut self, range: UserRange) -> Result<(), VmaError> {
        self.change(range, |vma| {
            if !vma.flags.contains(VmaFlags::SHARED) {
                vma.flags |= VmaFlags::MAY_HAVE_COPIES;
            }
        })
    }

    /// Gives all pages of `range` other properties.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn set_flags(&mut self, range: UserRange, set: VmaFlags, clear: VmaFlags) -> Result<(), VmaError> {
        self.change(range, |vma| vma.flags = (vma.flags - clear) | set)
    }

    fn change(&mut self, range: UserRange, change: impl Fn(&mut Vma<B>)) -> Result<(), VmaError> {
        if !self.covers(range) {
            return Err(VmaError::Hole);
        }
        self.reserve(2)?;
        let mut inside = self.overlap(range);
        if self.vmas[inside.start].range.start < range.start {
            let upper = self.vmas[inside.start].split_off(range.start);
            self.vmas.insert(inside.start + 1, upper);
            inside = inside.start + 1..inside.end + 1;
        }
        if self.vmas[inside.end - 1].range.end > range.end {
            let upper = self.vmas[inside.end - 1].split_off(range.end);
            self.vmas.insert(inside.end, upper);
        }
        self.vmas[inside.clone()].iter_mut().for_each(change);
        self.join(inside.start.saturating_sub(1)..(inside.end + 1).min(self.vmas.len()));
        Ok(())
    }

    /// Joins ranges of `among` that go on in their neighbours.
    fn join(&mut self, among: Range<usize>) {
        let mut kept = among.start;
        for next in among.start + 1..among.end {
            if self.vmas[kept].continues_in(&self.vmas[next]) {
                self.vmas[kept].range.end = self.vmas[next].range.end;
            } else {
                kept += 1;
                self.vmas.swap(kept, next);
            }
        }
        self.vmas.drain(kept + 1..among.end);
    }

    /// The highest start of an unused stretch as `search` describes it.
    pub fn find_free_top_down(&self, search: FreeSearch) -> Option<u64> {
        let mut end = search.high;
        let mut index = self.first_ending_after(search.high.saturating_add(search.guard));
        // A range may reach over the upper limit, or come closer to it than the guard.
        if let Some(vma) = self.vmas.get(index) {
            end = end.min(vma.range.start.saturating_sub(search.guard));
        }
        loop {
            let below =
                index.checked_sub(1).map(|below| self.vmas[below].range.end.saturating_add(search.guard));
            let bottom = below.unwrap_or(0).max(search.low);
            if let Some(start) = end.checked_sub(search.length) {
                let start = start & !(search.alignment - 1);
                if start >= bottom {
                    return Some(start);
                }
            }
            index = index.checked_sub(1)?;
            end = end.min(self.vmas[index].range.start.saturating_sub(search.guard));
            if end <= search.low {
                return None;
            }
        }
    }

    fn first_ending_after(&self, address: u64) -> usize {
        self.vmas.partition_point(|vma| vma.range.end <= address)
    }

    fn overlap(&self, range: UserRange) -> Range<usize> {
        let first = self.first_ending_after(range.start);
        // What is asked for is mostly in one or two ranges: walk rather than search again.
        let count = self.vmas[first..].iter().take_while(|vma| vma.range.start < range.end).count();
        first..first + count
    }

    fn reserve(&mut self, additional: usize) -> Result<(), VmaError> {
        self.vmas.try_reserve(additional).map_err(|_| VmaError::OutOfMemory)
    }
}

#[cfg(test)]
#[path = "vma_tests.rs"]
mod tests;
