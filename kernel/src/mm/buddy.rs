//! The buddy allocator of physical frames: blocks of 2^order frames, aligned to their size.
//!
//! Not locked: the caller wraps it. Every operation is O(orders); the records it touches are in the
//! [`FrameTable`], so free memory itself is never read or written.

use super::frame_table::{FrameError, FrameTable, FrameUse, NO_LINK, block_head};
use platform::PhysFrame;

/// The largest order.
pub const MAX_ORDER: u8 = 10;
/// Frames in a block of the largest order.
pub const BLOCK_FRAMES: u64 = 1 << MAX_ORDER;

/// Size of a block: 2^order frames, 0 to [`MAX_ORDER`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// A single frame.
    pub const FRAME: Self = Self(0);
    /// The largest block.
    pub const MAX: Self = Self(MAX_ORDER);

    /// The order `order`, if there is such a block.
    pub const fn new(order: u8) -> Option<Self> {
        if order <= MAX_ORDER { Some(Self(order)) } else { None }
    }

    /// The smallest order whose block has at least `frames` frames.
    pub const fn fitting(frames: u64) -> Option<Self> {
        if frames > BLOCK_FRAMES {
            None
        } else {
            Some(Self(frames.next_power_of_two().trailing_zeros() as u8))
        }
    }

    /// The order as a number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Frames in a block of this order.
    pub const fn frames(self) -> u64 {
        1 << self.0
    }

    pub(super) fn masked(bits: u32) -> Self {
        Self((bits as u8 & 0xf).min(MAX_ORDER))
    }
}

/// Frames known to a [`Buddy`], in frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameCounts {
    /// All that were added.
    pub total: u64,
    /// Those in free blocks.
    pub free: u64,
}

/// The allocator. It owns the `state` and link fields of the frame table's records.
#[derive(Debug)]
pub struct Buddy<'m> {
    table: FrameTable<'m>,
    heads: [u32; MAX_ORDER as usize + 1],
    blocks: [u32; MAX_ORDER as usize + 1],
    /// Bit n is set while the list of order n has a block.
    nonempty: u32,
    counts: FrameCounts,
}

impl<'m> Buddy<'m> {
    /// An allocator with no memory yet. There must be one per table.
    pub fn new(table: FrameTable<'m>) -> Self {
        Self {
            table,
            heads: [NO_LINK; MAX_ORDER as usize + 1],
            blocks: [0; MAX_ORDER as usize + 1],
            nonempty: 0,
            counts: FrameCounts::default(),
        }
    }

    /// The table whose frames this allocates.
    pub fn table(&self) -> FrameTable<'m> {
        self.table
    }

    /// All frames and free frames, exactly; frames held in a cache count as not free.
    pub fn counts(&self) -> FrameCounts {
        self.counts
    }

    /// Free blocks of each order.
    pub fn free_blocks(&self) -> &[u32; MAX_ORDER as usize + 1] {
        &self.blocks
    }

    /// Gives the allocator the usable frames `start..end`. Ranges may come in any order.
    ///
    /// # Errors
    /// [`FrameError::BadRange`] if the range lies beyond the table or overlaps one added before; nothing is added then.
    pub fn add_range(&mut self, start: PhysFrame, end: PhysFrame) -> Result<(), FrameError> {
        if end > self.table.end() || start > end {
            return Err(FrameError::BadRange(start));
        }
        self.check_absent(start, end)?;
        let mut frame = start;
        while frame < end {
            let order = largest_block(frame, end);
            self.counts.total += order.frames();
            if order == Order::MAX && self.table.record(frame).is_stale_block() {
                self.counts.free += order.frames();
                self.push(frame, order, true);
            } else {
                self.table.freshen_block(frame, FrameUse::Absent);
                for inside in 0..order.frames() {
                    self.table.record(frame + inside).set_usage(FrameUse::Interior);
                }
                self.release(frame, order);
            }
            frame = frame + order.frames();
        }
        Ok(())
    }

    /// Makes the frames `start..end`, which were never added, look allocated one by one, each with one holder: they
    /// join the free ones when they are freed.
    ///
    /// # Errors
    /// As [`Self::add_range`].
    pub fn adopt_range(&mut self, start: PhysFrame, end: PhysFrame) -> Result<(), FrameError> {
        if end > self.table.end() || start > end {
            return Err(FrameError::BadRange(start));
        }
        self.check_absent(start, end)?;
        let mut frame = start;
        while frame < end {
            self.table.freshen_block(frame, FrameUse::Absent);
            let record = self.table.record(frame);
            record.set_usage(FrameUse::Allocated(Order::FRAME));
            record.set_holders(1);
            self.counts.total += 1;
            frame = frame + 1;
        }
        Ok(())
    }

    fn check_absent(&self, start: PhysFrame, end: PhysFrame) -> Result<(), FrameError> {
        let mut frame = start;
        while frame < end {
            match self.table.lookup(frame) {
                Err(FrameError::Foreign(_)) => {}
                _ => return Err(FrameError::BadRange(frame)),
            }
            // A stale block is one thing throughout: step over the rest of it.
            let head = block_head(frame);
            let step =
                if self.table.record(head).is_stale_block() { head.0 + BLOCK_FRAMES - frame.0 } else { 1 };
            frame = frame + step;
        }
        Ok(())
    }

    /// Takes a block of 2^order frames with one holder; `None` if no block is large enough.
    pub fn alloc(&mut self, order: Order) -> Option<PhysFrame> {
        let candidates = self.nonempty >> order.0;
        if candidates == 0 {
            return None;
        }
        let mut found = Order(order.0 + candidates.trailing_zeros() as u8);
        let frame = PhysFrame(u64::from(self.heads[usize::from(found.0)]));
        let record = self.table.record(frame);
        let stale = record.is_stale_block();
        self.unlink(frame, found);
        if stale && found > order {
            self.table.freshen_block(frame, FrameUse::Interior);
        }
        while found > order {
            found = Order(found.0 - 1);
            self.push(frame + found.frames(), found, false);
        }
        if stale && order == Order::MAX {
            record.set_usage_of_stale_block(FrameUse::Allocated(order));
        } else {
            record.set_usage(FrameUse::Allocated(order));
        }
        record.set_holders(1);
        self.counts.free -= order.frames();
        Some(frame)
    }

    /// Returns a block that was taken with the same order and has at most the caller as holder.
    ///
    /// # Errors
    /// [`FrameError::Foreign`], [`FrameError::NotAllocated`] (a double free), [`FrameError::WrongOrder`] or
    /// [`FrameError::StillShared`]; nothing is changed then.
    pub fn free(&mut self, frame: PhysFrame, order: Order) -> Result<(), FrameError> {
        match self.table.lookup(frame)? {
            FrameUse::Allocated(allocated) if allocated == order => {}
            FrameUse::Allocated(allocated) => return Err(FrameError::WrongOrder { frame, allocated }),
            _ => return Err(FrameError::NotAllocated(frame)),
        }
        let record = self.table.record(frame);
        if record.holders() > 1 {
            return Err(FrameError::StillShared(frame));
        }
        record.set_holders(0);
        self.release(frame, order);
        Ok(())
    }

    /// Turns an allocated block into single frames, each with one holder, to be freed one by one.
    ///
    /// # Errors
    /// As [`Self::free`]; nothing is changed then.
    pub fn split(&mut self, frame: PhysFrame, order: Order) -> Result<(), FrameError> {
        match self.table.lookup(frame)? {
            FrameUse::Allocated(allocated) if allocated == order => {}
            FrameUse::Allocated(allocated) => return Err(FrameError::WrongOrder { frame, allocated }),
            _ => return Err(FrameError::NotAllocated(frame)),
        }
        if self.table.record(frame).holders() > 1 {
            return Err(FrameError::StillShared(frame));
        }
        self.table.freshen_block(frame, FrameUse::Interior);
        for inside in 0..order.frames() {
            let record = self.table.record(frame + inside);
            record.set_usage(FrameUse::Allocated(Order::FRAME));
            record.set_holders(1);
        }
        Ok(())
    }

    /// Puts a block on its list, joined with its buddies as far as they are free.
    fn release(&mut self, mut frame: PhysFrame, mut order: Order) {
        self.counts.free += order.frames();
        // Only a block of the largest order can be stale, and such a block has no buddy to join.
        let stale = order == Order::MAX && self.table.record(frame).is_stale_block();
        while order < Order::MAX {
            let buddy = PhysFrame(frame.0 ^ order.frames());
            if buddy >= self.table.end() || self.table.record(buddy).usage() != FrameUse::Free(order) {
                break;
            }
            self.unlink(buddy, order);
            let (low, high) = if frame < buddy { (frame, buddy) } else { (buddy, frame) };
            self.table.record(high).set_usage(FrameUse::Interior);
            frame = low;
            order = Order(order.0 + 1);
        }
        self.push(frame, order, stale);
    }

    fn push(&mut self, frame: PhysFrame, order: Order, stale: bool) {
        let list = usize::from(order.0);
        let first = self.heads[list];
        let record = self.table.record(frame);
        if stale {
            record.set_usage_of_stale_block(FrameUse::Free(order));
        } else {
            record.set_usage(FrameUse::Free(order));
        }
        record.set_holders(0);
        record.set_links(NO_LINK, first);
        if first != NO_LINK {
            self.table.record(PhysFrame(u64::from(first))).set_previous(frame.0 as u32);
        }
        self.heads[list] = frame.0 as u32;
        self.blocks[list] += 1;
        self.nonempty |= 1 << list;
    }

    fn unlink(&mut self, frame: PhysFrame, order: Order) {
        let list = usize::from(order.0);
        let (previous, next) = self.table.record(frame).links();
        if previous == NO_LINK {
            self.heads[list] = next;
            if next == NO_LINK {
                self.nonempty &= !(1 << list);
            }
        } else {
            self.table.record(PhysFrame(u64::from(previous))).set_next(next);
        }
        if next != NO_LINK {
            self.table.record(PhysFrame(u64::from(next))).set_previous(previous);
        }
        self.blocks[list] -= 1;
    }
}

/// The largest aligned block that starts at `frame` and does not pass `end`.
fn largest_block(frame: PhysFrame, end: PhysFrame) -> Order {
    let by_alignment = frame.0.trailing_zeros().min(u32::from(MAX_ORDER));
    let by_length = (end.0 - frame.0).ilog2();
    Order(by_alignment.min(by_length) as u8)
}

#[cfg(test)]
#[path = "buddy_tests.rs"]
mod tests;
