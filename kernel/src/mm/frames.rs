//! The machine's frames: one allocator for all, with a few frames kept close to each CPU.

use core::sync::atomic::{AtomicBool, Ordering};

use platform::{BootInfo, MemoryKind, PAGE_SIZE, PhysFrame};
use spin::Once;

use super::buddy::{Buddy, Order};
use super::direct;
use super::frame_cache::FrameCache;
use super::frame_table::{FrameRecord, FrameTable, Holders};
use crate::percpu::{self, this_cpu};
use crate::sync::IrqLock;
use crate::util::words;

/// The frames kept close to one CPU.
pub struct CpuFrames(FrameCache);

impl Default for CpuFrames {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuFrames {
    /// None.
    pub const fn new() -> Self {
        Self(FrameCache::new())
    }
}

static BUDDY: IrqLock<Option<Buddy<'static>>> = IrqLock::new(None);
static TABLE: Once<FrameTable<'static>> = Once::new();
static ZERO: Once<PhysFrame> = Once::new();
static RESERVE: Once<u64> = Once::new();
/// The allocator was seen to be down to the reserve. It may have recovered since.
static SHORT: AtomicBool = AtomicBool::new(false);
/// The allocator was seen to be down to [`LOW`] times the reserve. It may have recovered since.
static SEEN_LOW: AtomicBool = AtomicBool::new(false);
/// Files are not written any more when this many times the reserve is left, so that programs can still run.
const LOW: u64 = 3;

/// The least and the most that the kernel keeps for itself.
const RESERVE_LIMITS: (u64, u64) = (64, 1024);
/// The largest block that may come from the reserve: the kernel's small objects lie in such.
const LARGEST_FROM_RESERVE: u64 = 8;

/// Why frames cannot be managed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitError {
    /// No range of usable memory has room for the frame table.
    TooLittleMemory,
    /// The memory map contradicts itself.
    BadMemoryMap,
}

/// Takes over the usable memory of the machine. Once, on the boot CPU.
pub fn init(info: &BootInfo) -> Result<(), InitError> {
    let ram = |kind| matches!(kind, MemoryKind::Usable | MemoryKind::Reclaimable | MemoryKind::Initramfs);
    let end = info.memory.iter().filter(|region| ram(region.kind)).map(|region| region.range.end.0).max();
    let end = PhysFrame(end.unwrap_or(0) / PAGE_SIZE);
    let table_bytes = FrameTable::bytes_needed(end).next_multiple_of(PAGE_SIZE);
    // The table goes to the end of the highest usable range that has room, to leave low memory alone.
    let home = info
        .memory
        .iter()
        .rfind(|region| region.kind == MemoryKind::Usable && region.range.bytes() >= table_bytes)
        .ok_or(InitError::TooLittleMemory)?;
    let table_at = home.range.end - table_bytes;
    // SAFETY: the range is usable RAM, reachable through the direct map, and kept out of the allocator below. Any bytes
    // are valid records.
    let records =
        unsafe { core::slice::from_raw_parts(direct(table_at).as_ptr::<FrameRecord>(), end.0 as usize) };
    let table = *TABLE.call_once(|| FrameTable::new(records));
    let mut buddy = Buddy::new(table);
    for region in info.memory.iter().filter(|region| region.kind == MemoryKind::Usable) {
        let last = if region.range == home.range { table_at } else { region.range.end };
        buddy.add_range(region.range.start.frame(), last.frame()).map_err(|_| InitError::BadMemoryMap)?;
    }
    RESERVE.call_once(|| (buddy.counts().total / 64).clamp(RESERVE_LIMITS.0, RESERVE_LIMITS.1));
    *BUDDY.lock() = Some(buddy);
    let zero = allocate().ok_or(InitError::TooLittleMemory)?;
    clear(zero);
    ZERO.call_once(|| zero);
    Ok(())
}

/// Adds memory that became free after boot.
pub fn add(start: PhysFrame, end: PhysFrame) -> Result<(), InitError> {
    with_buddy(|buddy| buddy.add_range(start, end)).map_err(|_| InitError::BadMemoryMap)
}

/// Makes frames of RAM that were never given to the allocator look allocated, one holder each: whoever drops one frees
/// it.
pub fn adopt(start: PhysFrame, end: PhysFrame) -> Result<(), InitError> {
    with_buddy(|buddy| buddy.adopt_range(start, end)).map_err(|_| InitError::BadMemoryMap)
}

fn with_buddy<R>(work: impl FnOnce(&mut Buddy<'static>) -> R) -> R {
    match BUDDY.lock().as_mut() {
        Some(buddy) => work(buddy),
        None => panic!("frames are used before they are managed"),
    }
}

#[inline]
fn table() -> FrameTable<'static> {
    match TABLE.get() {
        Some(table) => *table,
        None => panic!("frames are used before they are managed"),
    }
}

/// A frame with one holder and undefined content, from the last reserve if need be. For the kernel's own use.
#[inline]
pub fn allocate() -> Option<PhysFrame> {
    let mut near = this_cpu().frames.lock();
    if let Some(frame) = near.0.pop(table()) {
        return Some(frame);
    }
    refill(&mut near);
    if let Some(frame) = near.0.pop(table()) {
        return Some(frame);
    }
    drop(near);
    allocate_last()
}

fn reserve() -> u64 {
    RESERVE.get().copied().unwrap_or(0)
}

fn refill(near: &mut CpuFrames) {
    with_buddy(|buddy| {
        near.0.refill(buddy);
        let free = buddy.counts().free;
        if free <= LOW * reserve() {
            SEEN_LOW.store(true, Ordering::Relaxed);
            SHORT.store(free <= reserve(), Ordering::Relaxed);
        }
    });
}

/// Whether even of the kernel's reserve little is left: what a system call needs in passing comes from there.
pub fn is_nearly_gone() -> bool {
    with_buddy(|buddy| buddy.counts().free) <= reserve() / 2
}

/// Whether memory may be short: to be asked often. [`is_short`] knows.
#[inline]
pub fn may_be_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Whether no more than the kernel's reserve is left.
#[inline]
pub fn is_short() -> bool {
    may_be_short() && !has_recovered()
}

#[cold]
fn has_recovered() -> bool {
    // Frames kept close to CPUs do not count: they lie one by one, and the heap needs some behind one another.
    let recovered = with_buddy(|buddy| buddy.counts().free) > reserve();
    if recovered {
        SHORT.store(false, Ordering::Relaxed);
    }
    recovered
}

#[cold]
fn allocate_last() -> Option<PhysFrame> {
    for cpu in percpu::online().iter().filter_map(percpu::of) {
        let mut near = cpu.frames.lock();
        if let Some(frame) = near.0.pop(table()) {
            return Some(frame);
        }
    }
    None
}

/// A frame with one holder and undefined content for what programs ask for; none if only the kernel's reserve is left.
#[inline]
pub fn allocate_user() -> Option<PhysFrame> {
    if is_short() { None } else { allocate() }
}

/// A frame with one holder and undefined content for what is written to a file; none while programs need the little that is
/// left.
#[inline]
pub fn allocate_for_file() -> Option<PhysFrame> {
    if SEEN_LOW.load(Ordering::Relaxed) && is_low() { None } else { allocate_user() }
}

#[cold]
fn is_low() -> bool {
    let low = with_buddy(|buddy| buddy.counts().free) <= LOW * reserve();
    if !low {
        SEEN_LOW.store(false, Ordering::Relaxed);
    }
    low
}

/// 2^order frames that lie behind one another, at a multiple of their size, with one holder. Large blocks do not come
/// from the reserve.
pub fn allocate_block(order: Order) -> Option<PhysFrame> {
    with_buddy(|buddy| {
        let free = buddy.counts().free;
        if order.frames() > LARGEST_FROM_RESERVE && free < reserve() + order.frames() {
            return None;
        }
        buddy.alloc(order)
    })
}

/// Gives back a block of [`allocate_block`].
///
/// # Panics
/// If it is not one: somebody's frames would be given away twice.
pub fn free_block(frame: PhysFrame, order: Order) {
    if let Err(error) = with_buddy(|buddy| buddy.free(frame, order)) {
        panic!("a block of frames was freed wrongly: {error}");
    }
}

/// One more holder of a frame.
#[inline]
pub fn get(frame: PhysFrame) {
    if let Err(error) = table().get(frame) {
        panic!("a frame was shared wrongly: {error}");
    }
}

/// One holder less; the last one frees the frame.
///
/// # Panics
/// If the frame has no holder: it would be given away twice.
#[inline]
pub fn put(frame: PhysFrame) {
    match table().put(frame) {
        Ok(Holders::Some) => {}
        Ok(Holders::None) => release(frame),
        Err(error) => panic!("a frame was let go wrongly: {error}"),
    }
}

fn release(frame: PhysFrame) {
    let mut near = this_cpu().frames.lock();
    let table = table();
    let kept = match near.0.push(table, frame) {
        Ok(true) => Ok(true),
        Ok(false) => with_buddy(|buddy| near.0.drain(buddy)).and_then(|()| near.0.push(table, frame)),
        Err(error) => Err(error),
    };
    if !matches!(kept, Ok(true)) {
        panic!("a frame was freed wrongly: {kept:?}");
    }
}

/// How many hold a frame.
#[inline]
pub fn holders(frame: PhysFrame) -> u32 {
    table().holders_of(frame)
}

/// The frame that is zero and stays so. It has a holder of its own; those who map it are counted like others.
#[inline]
pub fn zero_frame() -> PhysFrame {
    match ZERO.get() {
        Some(frame) => *frame,
        None => panic!("the zero frame is used before there is one"),
    }
}

/// A frame for a translation table, which programs can ask for as they can for pages.
pub fn allocate_table() -> Option<PhysFrame> {
    allocate_user()
}

/// Gives back a frame of [`allocate_table`].
pub fn free_table(frame: PhysFrame) {
    put(frame);
}

/// Writes zeros over a frame.
#[inline]
pub fn clear(frame: PhysFrame) {
    let at = direct(frame.start());
    // SAFETY: the caller holds the frame; it is RAM and reachable through the direct map.
    unsafe { words::clear(at.as_mut_ptr(), WORDS) };
}

/// Copies a frame's content.
#[inline]
pub fn copy(from: PhysFrame, to: PhysFrame) {
    let (from, to) = (direct(from.start()), direct(to.start()));
    // SAFETY: the caller holds both frames, which differ; both are RAM and reachable through the direct map.
    unsafe { words::copy(to.as_mut_ptr(), from.as_ptr(), WORDS) };
}

/// 64-bit words in a frame.
const WORDS: usize = PAGE_SIZE as usize / size_of::<u64>();

/// Whether so many bytes are more than the machine has, so that it would be wrong to promise them.
pub fn can_never_hold(bytes: u64) -> bool {
    bytes / PAGE_SIZE > totals().0
}

/// Frames in all, and frames free now.
pub fn totals() -> (u64, u64) {
    let counts = with_buddy(|buddy| buddy.counts());
    let near: u64 =
        percpu::online().iter().filter_map(percpu::of).map(|cpu| cpu.frames.lock().0.len() as u64).sum();
    (counts.total, counts.free + near)
}
