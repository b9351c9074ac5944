//! Frames and the heap.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use buddy_system_allocator::LockedHeap;
use platform::{BootInfo, MemoryKind, PAGE_SIZE, PhysAddr, PhysFrame, VirtAddr};

use crate::hook::cpu;

/// What the heap takes of the largest region, in bytes.
const HEAP_BYTES: u64 = 4 << 20;

#[global_allocator]
static HEAP: LockedHeap<32> = LockedHeap::empty();

static DIRECT_MAP: AtomicU64 = AtomicU64::new(0);
/// The kernel window's first free page; nothing is given back.
static KERNEL_WINDOW: AtomicU64 = AtomicU64::new(0);
static USER_TOP: AtomicU64 = AtomicU64::new(0);
static FRAMES: spin::Mutex<Frames> =
    spin::Mutex::new(Frames { next: 0, end: 0, free: Vec::new(), pieces: Vec::new() });
/// Table frames in the platform's hands.
static TABLES: AtomicUsize = AtomicUsize::new(0);
/// How many more table frames the platform gets.
static TABLES_LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Frames {
    next: u64,
    end: u64,
    free: Vec<PhysFrame>,
    /// Free ones of several frames, by the first and their number.
    pieces: Vec<(PhysFrame, u64)>,
}

/// Takes the largest usable region for heap and frames.
pub fn init(info: &BootInfo) {
    DIRECT_MAP.store(info.direct_map.0, Ordering::Relaxed);
    KERNEL_WINDOW.store(info.kernel_window.0.0, Ordering::Relaxed);
    USER_TOP.store(info.user_top.0, Ordering::Relaxed);
    let usable = info.memory.iter().filter(|region| region.kind == MemoryKind::Usable);
    let Some(region) = usable.max_by_key(|region| region.range.bytes()) else {
        panic!("the memory map has nothing usable")
    };
    assert!(region.range.bytes() > 2 * HEAP_BYTES, "there is too little memory");
    let heap = region.range.start;
    // SAFETY: usable RAM that nothing else uses, shown by the direct map.
    unsafe { HEAP.lock().init(direct(heap).0 as usize, HEAP_BYTES as usize) };
    let mut frames = FRAMES.lock();
    frames.next = PhysAddr(heap.0 + HEAP_BYTES).frame().0;
    frames.end = region.range.end.frame().0;
}

/// Where the direct map shows `address`.
pub fn direct(address: PhysAddr) -> VirtAddr {
    VirtAddr(DIRECT_MAP.load(Ordering::Relaxed) + address.0)
}

/// One past the highest user address.
pub fn user_top() -> VirtAddr {
    VirtAddr(USER_TOP.load(Ordering::Relaxed))
}

/// Kernel addresses for `pages` pages, used by nobody else.
pub fn kernel_pages(pages: u64) -> VirtAddr {
    VirtAddr(KERNEL_WINDOW.fetch_add(pages * PAGE_SIZE, Ordering::Relaxed))
}

/// A frame of zeros.
pub fn frame() -> PhysFrame {
    let frame = take().unwrap_or_else(|| panic!("memory has run out"));
    // SAFETY: the frame is nobody else's.
    unsafe { direct(frame.start()).as_mut_ptr::<[u64; 512]>().write([0; 512]) };
    frame
}

/// Gives back a frame that nothing maps any more.
pub fn put(frame: PhysFrame) {
    locked(|frames| frames.free.push(frame));
}

/// Word `index` of a frame, as all CPUs see it.
pub fn word(frame: PhysFrame, index: usize) -> &'static AtomicU64 {
    assert!(index < 512);
    // SAFETY: all RAM stays in the direct map for ever; what programs do there at the same time are whole accesses of
    // aligned words.
    unsafe { &*direct(frame.start()).as_ptr::<AtomicU64>().add(index) }
}

/// Copies bytes to the start of a frame.
pub fn fill(frame: PhysFrame, bytes: &[u8]) {
    assert!(bytes.len() <= PAGE_SIZE as usize);
    // SAFETY: the frame is in the direct map, and the length was checked.
    unsafe {
        direct(frame.start()).as_mut_ptr::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
}

/// Memory in one piece that is shared with a device, zero at first. It is given back when this is dropped; no device uses it
/// then, and should one do so all the same, it hits no more than the next that is shared.
pub struct Shared {
    first: PhysFrame,
    frames: u64,
}

impl Shared {
    /// Whole pages with room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        let frames = (bytes as u64).div_ceil(PAGE_SIZE);
        let first = locked(|pool| {
            if let Some(free) = pool.pieces.iter().position(|piece| piece.1 == frames) {
                return Some(pool.pieces.swap_remove(free).0);
            }
            let first = pool.next;
            (frames <= pool.end - first).then(|| {
                pool.next += frames;
                PhysFrame(first)
            })
        });
        let Some(first) = first else { panic!("memory has run out") };
        let piece = Self { first, frames };
        piece.fill(0);
        piece
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        (self.frames * PAGE_SIZE) as usize
    }

    /// Where a device finds the byte at `offset`.
    pub fn at(&self, offset: usize) -> PhysAddr {
        assert!(offset < self.bytes());
        self.first.start() + offset as u64
    }

    fn pointer<T>(&self, offset: usize) -> *const T {
        assert!(offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.bytes());
        direct(self.first.start() + offset as u64).as_ptr()
    }

    /// The byte at `offset`.
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: within the piece, which lives as long as `self`; whoever shares it uses whole accesses, too.
        unsafe { &*self.pointer(offset) }
    }

    /// The 16 bits at `offset`.
    pub fn half(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: as in `byte`, and aligned.
        unsafe { &*self.pointer(offset) }
    }

    /// The 32 bits at `offset`.
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as in `byte`, and aligned.
        unsafe { &*self.pointer(offset) }
    }

    /// The 64 bits at `offset`.
    pub fn long(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `byte`, and aligned.
        unsafe { &*self.pointer(offset) }
    }

    /// Copies bytes to `offset`.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        (offset..).zip(bytes).for_each(|(at, byte)| self.byte(at).store(*byte, Ordering::Relaxed));
    }

    /// Sets every byte.
    pub fn fill(&self, byte: u8) {
        let word = u64::from_ne_bytes([byte; 8]);
        (0..self.bytes()).step_by(8).for_each(|at| self.long(at).store(word, Ordering::Relaxed));
    }

    /// Where the first byte is that is not `byte`.
    pub fn find_other(&self, byte: u8) -> Option<usize> {
        let word = u64::from_ne_bytes([byte; 8]);
        let mut words = (0..self.bytes()).step_by(8);
        let at = words.find(|&at| self.long(at).load(Ordering::Relaxed) != word)?;
        (at..at + 8).find(|&at| self.byte(at).load(Ordering::Relaxed) != byte)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        locked(|pool| pool.pieces.push((self.first, self.frames)));
    }
}

/// [`platform::Kernel::allocate_table_frame`]. The content is undefined by contract: here it is as wrong as can be.
pub fn allocate_table() -> Option<PhysFrame> {
    let left = TABLES_LEFT.load(Ordering::Relaxed);
    if left == 0 {
        return None;
    }
    if left != usize::MAX {
        TABLES_LEFT.store(left - 1, Ordering::Relaxed);
    }
    let frame = take()?;
    // SAFETY: the frame is nobody else's.
    unsafe { direct(frame.start()).as_mut_ptr::<[u64; 512]>().write([u64::MAX; 512]) };
    TABLES.fetch_add(1, Ordering::Relaxed);
    Some(frame)
}

/// [`platform::Kernel::free_table_frame`].
pub fn free_table(frame: PhysFrame) {
    TABLES.fetch_sub(1, Ordering::Relaxed);
    put(frame);
}

/// How many table frames the platform holds.
pub fn tables() -> usize {
    TABLES.load(Ordering::Relaxed)
}

/// Lets the platform have only so many more table frames; `None` lifts the limit.
pub fn limit_tables(left: Option<usize>) {
    TABLES_LEFT.store(left.unwrap_or(usize::MAX), Ordering::Relaxed);
}

fn take() -> Option<PhysFrame> {
    locked(|frames| {
        frames.free.pop().or_else(|| {
            (frames.next < frames.end).then(|| {
                frames.next += 1;
                PhysFrame(frames.next - 1)
            })
        })
    })
}

/// Hooks may ask for frames with interrupts disabled, so nothing may interrupt whoever holds the lock.
fn locked<R>(work: impl FnOnce(&mut Frames) -> R) -> R {
    let state = cpu::irq_save();
    let result = work(&mut FRAMES.lock());
    cpu::irq_restore(state);
    result
}
