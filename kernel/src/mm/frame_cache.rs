//! A processor's own stack of free frames, so that most allocations need neither the lock nor the buddy lists.

use super::buddy::{Buddy, Order};
use super::frame_table::{FrameError, FrameTable, FrameUse};
use platform::PhysFrame;

/// Frames a cache can hold.
pub const CACHE_FRAMES: usize = 64;
/// Frames moved at once between a cache and the allocator.
pub const CACHE_BATCH: usize = CACHE_FRAMES / 2;

/// A stack of single frames that are free for the owner alone. The last frame freed is the next one used: its memory
/// is likely in the processor's cache.
#[derive(Debug)]
pub struct FrameCache {
    frames: [PhysFrame; CACHE_FRAMES],
    len: usize,
}

impl Default for FrameCache {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameCache {
    /// An empty cache.
    pub const fn new() -> Self {
        Self { frames: [PhysFrame(0); CACHE_FRAMES], len: 0 }
    }

    /// Frames held now.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether [`Self::pop`] would find nothing: time to [`Self::refill`].
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether [`Self::push`] would find no room: time to [`Self::drain`].
    pub const fn is_full(&self) -> bool {
        self.len == CACHE_FRAMES
    }

    /// Takes a frame with one holder.
    pub fn pop(&mut self, table: FrameTable<'_>) -> Option<PhysFrame> {
        self.len = self.len.checked_sub(1)?;
        let frame = self.frames[self.len];
        let record = table.record(frame);
        record.set_usage(FrameUse::Allocated(Order::FRAME));
        record.set_holders(1);
        Some(frame)
    }

    /// Frees a frame that has no holder but the caller. `Ok(false)`: the cache is full, nothing was done.
    ///
    /// # Errors
    /// As [`Buddy::free`].
    pub fn push(&mut self, table: FrameTable<'_>, frame: PhysFrame) -> Result<bool, FrameError> {
        if self.is_full() {
            return Ok(false);
        }
        match table.lookup(frame)? {
            FrameUse::Allocated(Order::FRAME) => {}
            FrameUse::Allocated(allocated) => return Err(FrameError::WrongOrder { frame, allocated }),
            _ => return Err(FrameError::NotAllocated(frame)),
        }
        let record = table.record(frame);
        if record.holders() > 1 {
            return Err(FrameError::StillShared(frame));
        }
        record.set_usage(FrameUse::Cached);
        record.set_holders(0);
        self.frames[self.len] = frame;
        self.len += 1;
        Ok(true)
    }

    /// Brings up to [`CACHE_BATCH`] frames from the allocator, as far as it has them; says how many.
    pub fn refill(&mut self, buddy: &mut Buddy<'_>) -> usize {
        let wanted = CACHE_BATCH.min(CACHE_FRAMES - self.len);
        let table = buddy.table();
        for brought in 0..wanted {
            let Some(frame) = buddy.alloc(Order::FRAME) else { return brought };
            let record = table.record(frame);
            record.set_usage(FrameUse::Cached);
            record.set_holders(0);
            self.frames[self.len] = frame;
            self.len += 1;
        }
        wanted
    }

    /// Gives the [`CACHE_BATCH`] frames that lay here longest back to the allocator.
    ///
    /// # Errors
    /// As [`Buddy::free`]: the records were overwritten by somebody.
    pub fn drain(&mut self, buddy: &mut Buddy<'_>) -> Result<(), FrameError> {
        self.give_back(buddy, CACHE_BATCH)
    }

    /// Gives all frames back, as when memory runs short.
    ///
    /// # Errors
    /// As [`Self::drain`].
    pub fn drain_all(&mut self, buddy: &mut Buddy<'_>) -> Result<(), FrameError> {
        self.give_back(buddy, CACHE_FRAMES)
    }

    fn give_back(&mut self, buddy: &mut Buddy<'_>, count: usize) -> Result<(), FrameError> {
        let count = count.min(self.len);
        let table = buddy.table();
        for &frame in &self.frames[..count] {
            table.record(frame).set_usage(FrameUse::Allocated(Order::FRAME));
            buddy.free(frame, Order::FRAME)?;
        }
        self.frames.copy_within(count..self.len, 0);
        self.len -= count;
        Ok(())
    }
}
