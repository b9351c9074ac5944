//! One record for each physical frame: what it is used for, how many hold it, and its place in a free list.
//!
//! The table covers every frame number below the end of memory, holes too, in memory handed in at start-up.
//! A 16 MiB table (4 GiB of memory) would cost milliseconds to clear, so only the record at the head of each
//! maximal block is written at start; the rest of a block's records are *stale* (arbitrary bytes) until the block
//! is first divided. Whoever looks at a record of unknown origin asks [`FrameTable::lookup`], which knows that.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use super::buddy::{BLOCK_FRAMES, MAX_ORDER, Order};
use platform::PhysFrame;

/// "No frame" in a link.
pub(super) const NO_LINK: u32 = u32::MAX;

/// More holders than this means that somebody takes references and never returns them.
const MAX_HOLDERS: u32 = 1 << 31;

/// What can be wrong with a request about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The frame is not memory that this allocator was given.
    Foreign(PhysFrame),
    /// The frame is not the head of an allocated block: it was freed already, or lies inside a block.
    NotAllocated(PhysFrame),
    /// The block that starts here was allocated with another order.
    WrongOrder {
        /// Head of the block.
        frame: PhysFrame,
        /// The order it was allocated with.
        allocated: Order,
    },
    /// The frame has other holders, so it must not be freed yet.
    StillShared(PhysFrame),
    /// The frame has no holder, so it cannot be shared or let go.
    NoHolder(PhysFrame),
    /// The count of holders is about to overflow.
    TooManyHolders(PhysFrame),
    /// The range to add overlaps memory added before, or lies beyond the table.
    BadRange(PhysFrame),
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Foreign(frame) => write!(f, "frame {:#x} is not managed memory", frame.0),
            Self::NotAllocated(frame) => write!(f, "frame {:#x} is not an allocated block", frame.0),
            Self::WrongOrder { frame, allocated } => {
                write!(f, "frame {:#x} was allocated with order {}", frame.0, allocated.get())
            }
            Self::StillShared(frame) => write!(f, "frame {:#x} is still shared", frame.0),
            Self::NoHolder(frame) => write!(f, "frame {:#x} has no holder", frame.0),
            Self::TooManyHolders(frame) => write!(f, "frame {:#x} has too many holders", frame.0),
            Self::BadRange(frame) => {
                write!(f, "memory range at frame {:#x} overlaps or is out of reach", frame.0)
            }
        }
    }
}

/// What is left after a holder let a frame go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the last holder has to free the frame"]
pub enum Holders {
    /// Others still hold it.
    Some,
    /// That was the last one: the frame is to be freed by the caller.
    None,
}

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameUse {
    /// Not memory of ours.
    Absent,
    /// Inside a block, free or allocated, whose record is at the block's head.
    Interior,
    /// Head of a free block.
    Free(Order),
    /// Head of an allocated block.
    Allocated(Order),
    /// A single frame in a [`super::frame_cache::FrameCache`].
    Cached,
}

const USE_ABSENT: u32 = 0;
const USE_INTERIOR: u32 = 1;
const USE_FREE: u32 = 2;
const USE_ALLOCATED: u32 = 3;
const USE_CACHED: u32 = 4;
const USE_MASK: u32 = 0xff;
const ORDER_SHIFT: u32 = 8;
/// In the record at the head of a maximal block: the other records of that block are stale.
const STALE: u32 = 1 << 16;

/// The record of one frame. Any bytes are a valid record, so the table can lie in memory never written before.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct FrameRecord {
    holders: AtomicU32,
    state: AtomicU32,
    previous: AtomicU32,
    next: AtomicU32,
}

impl FrameRecord {
    pub(super) fn usage(&self) -> FrameUse {
        let state = self.state.load(Ordering::Relaxed);
        let order = Order::masked(state >> ORDER_SHIFT);
        match state & USE_MASK {
            USE_INTERIOR => FrameUse::Interior,
            USE_FREE => FrameUse::Free(order),
            USE_ALLOCATED => FrameUse::Allocated(order),
            USE_CACHED => FrameUse::Cached,
            _ => FrameUse::Absent,
        }
    }

    pub(super) fn set_usage(&self, usage: FrameUse) {
        self.set(usage, 0);
    }

    /// Like [`Self::set_usage`], for the head of a maximal block whose other records are stale.
    pub(super) fn set_usage_of_stale_block(&self, usage: FrameUse) {
        self.set(usage, STALE);
    }

    fn set(&self, usage: FrameUse, flags: u32) {
        let word = match usage {
            FrameUse::Absent => USE_ABSENT,
            FrameUse::Interior => USE_INTERIOR,
            FrameUse::Free(order) => USE_FREE | u32::from(order.get()) << ORDER_SHIFT,
            FrameUse::Allocated(order) => USE_ALLOCATED | u32::from(order.get()) << ORDER_SHIFT,
            FrameUse::Cached => USE_CACHED,
        };
        self.state.store(word | flags, Ordering::Relaxed);
    }

    pub(super) fn is_stale_block(&self) -> bool {
        self.state.load(Ordering::Relaxed) & STALE != 0
    }

    pub(super) fn holders(&self) -> u32 {
        self.holders.load(Ordering::Acquire)
    }

    pub(super) fn set_holders(&self, holders: u32) {
        self.holders.store(holders, Ordering::Relaxed);
    }

    pub(super) fn links(&self) -> (u32, u32) {
        (self.previous.load(Ordering::Relaxed), self.next.load(Ordering::Relaxed))
    }

    pub(super) fn set_links(&self, previous: u32, next: u32) {
        self.previous.store(previous, Ordering::Relaxed);
        self.next.store(next, Ordering::Relaxed);
    }

    pub(super) fn set_previous(&self, previous: u32) {
        self.previous.store(previous, Ordering::Relaxed);
    }

    pub(super) fn set_next(&self, next: u32) {
        self.next.store(next, Ordering::Relaxed);
    }
}

/// The records of all frames. Copies share the records.
#[derive(Clone, Copy, Debug)]
pub struct FrameTable<'m> {
    records: &'m [FrameRecord],
}

impl<'m> FrameTable<'m> {
    /// Bytes that the records of the frames `0..end` take.
    pub const fn bytes_needed(end: PhysFrame) -> u64 {
        end.0 * size_of::<FrameRecord>() as u64
    }

    /// Makes a table whose record `n` describes frame `n`; the contents of `records` do not matter.
    ///
    /// # Panics
    /// If there are more records than a link can number (16 TiB of memory).
    pub fn new(records: &'m [FrameRecord]) -> Self {
        assert!(records.len() < NO_LINK as usize, "too many frames for the frame table");
        for head in records.iter().step_by(BLOCK_FRAMES as usize) {
            head.set_usage_of_stale_block(FrameUse::Absent);
            head.set_holders(0);
        }
        Self { records }
    }

    /// The first frame number that has no record.
    pub fn end(&self) -> PhysFrame {
        PhysFrame(self.records.len() as u64)
    }

    /// The record of a frame that is known to be valid: one this allocator handed out, or a head it wrote.
    pub(super) fn record(&self, frame: PhysFrame) -> &'m FrameRecord {
        &self.records[frame.0 as usize]
    }

    /// What a frame of unknown origin is used for.
    pub(super) fn lookup(&self, frame: PhysFrame) -> Result<FrameUse, FrameError> {
        let record = self.records.get(frame.0 as usize).ok_or(FrameError::Foreign(frame))?;
        let head = block_head(frame);
        if head != frame {
            let head_record = self.record(head);
            if head_record.is_stale_block() {
                return match head_record.usage() {
                    FrameUse::Absent => Err(FrameError::Foreign(frame)),
                    _ => Ok(FrameUse::Interior),
                };
            }
        }
        match record.usage() {
            FrameUse::Absent => Err(FrameError::Foreign(frame)),
            usage => Ok(usage),
        }
    }

    /// Writes the stale records of the maximal block that holds `frame`, as `usage`; the head keeps its own.
    pub(super) fn freshen_block(&self, frame: PhysFrame, usage: FrameUse) {
        let head = block_head(frame);
        let record = self.record(head);
        if !record.is_stale_block() {
            return;
        }
        record.set_usage(record.usage());
        let end = self.records.len().min((head.0 + BLOCK_FRAMES) as usize);
        for interior in &self.records[head.0 as usize + 1..end] {
            interior.set_usage(usage);
            interior.set_holders(0);
        }
    }

    /// Takes one more reference to an allocated frame (or block, by its head), as when a page becomes shared by fork.
    ///
    /// Lock-free, callable from any context by a caller that holds a reference already.
    ///
    /// # Errors
    /// [`FrameError::Foreign`] beyond the table, [`FrameError::NoHolder`], [`FrameError::TooManyHolders`]; the count
    /// is then as it was.
    pub fn get(&self, frame: PhysFrame) -> Result<(), FrameError> {
        let record = self.records.get(frame.0 as usize).ok_or(FrameError::Foreign(frame))?;
        let before = record.holders.fetch_add(1, Ordering::Relaxed);
        if before != 0 && before < MAX_HOLDERS {
            return Ok(());
        }
        record.holders.fetch_sub(1, Ordering::Relaxed);
        Err(if before == 0 { FrameError::NoHolder(frame) } else { FrameError::TooManyHolders(frame) })
    }

    /// Lets go of one reference. The caller that gets [`Holders::None`] owns the frame alone and frees it.
    ///
    /// Lock-free, callable from any context.
    ///
    /// # Errors
    /// [`FrameError::Foreign`] beyond the table, [`FrameError::NoHolder`] for a frame let go already.
    pub fn put(&self, frame: PhysFrame) -> Result<Holders, FrameError> {
        let record = self.records.get(frame.0 as usize).ok_or(FrameError::Foreign(frame))?;
        // Only a holder may take a further reference, so the sole holder cannot race with anyone: no locked operation.
        if record.holders.load(Ordering::Acquire) == 1 {
            record.holders.store(0, Ordering::Relaxed);
            return Ok(Holders::None);
        }
        match record.holders.fetch_sub(1, Ordering::Release) {
            0 => {
                record.holders.fetch_add(1, Ordering::Relaxed);
                Err(FrameError::NoHolder(frame))
            }
            1 => {
                fence(Ordering::Acquire);
                Ok(Holders::None)
            }
            _ => Ok(Holders::Some),
        }
    }

    /// How many hold the frame now. With 1, the caller that holds it may write it in place instead of copying it.
    pub fn holders_of(&self, frame: PhysFrame) -> u32 {
        self.records.get(frame.0 as usize).map_or(0, FrameRecord::holders)
    }
}

/// The head of the maximal block that holds `frame`.
pub(super) const fn block_head(frame: PhysFrame) -> PhysFrame {
    PhysFrame(frame.0 & !(BLOCK_FRAMES - 1))
}

const _: () = assert!(size_of::<FrameRecord>() == 16);
const _: () = assert!(BLOCK_FRAMES == 1 << MAX_ORDER);
