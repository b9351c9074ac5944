//! The kernel heap as the global allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use platform::{PhysAddr, VirtAddr};

use super::buddy::Order;
use super::slab::{Heap, HeapStatistics, PageSource};
use super::{direct, frames};
use crate::sync::IrqLock;

/// The heap's pages, from the machine's frames through the direct map.
struct Frames;

// SAFETY: blocks of frames are aligned to their size, in physical memory and so through the direct map, whose base is
// aligned to far more; they belong to whoever allocated them.
unsafe impl PageSource for Frames {
    fn alloc_pages(&mut self, order: u8) -> Option<NonNull<u8>> {
        let frame = match Order::new(order)? {
            Order::FRAME => frames::allocate()?,
            order => frames::allocate_block(order)?,
        };
        NonNull::new(direct(frame.start()).as_mut_ptr())
    }

    unsafe fn free_pages(&mut self, block: NonNull<u8>, order: u8) {
        let base = direct(PhysAddr(0));
        let frame = PhysAddr(VirtAddr(block.as_ptr() as u64) - base).frame();
        match Order::new(order) {
            Some(Order::FRAME) | None => frames::put(frame),
            Some(order) => frames::free_block(frame, order),
        }
    }
}

/// The kernel heap.
pub struct KernelHeap(IrqLock<Heap<Frames>>);

impl KernelHeap {
    /// A heap that holds nothing yet.
    pub const fn new() -> Self {
        Self(IrqLock::new(Heap::new(Frames)))
    }

    /// Gives back the slabs that are empty.
    pub fn shrink(&self) {
        self.0.lock().shrink();
    }

    /// How it is used.
    pub fn statistics(&self) -> HeapStatistics {
        self.0.lock().statistics()
    }
}

impl Default for KernelHeap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the heap hands out each piece of memory once until it is given back, and the lock orders the calls.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock();
        if let Some(memory) = heap.alloc(layout) {
            return memory.as_ptr();
        }
        heap.shrink();
        heap.alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: the caller's promise: it came from `alloc` with this layout.
            unsafe { self.0.lock().dealloc(memory, layout) };
        }
    }
}

/// The one heap of the image. On the build machine tests use their own allocator.
#[cfg_attr(target_os = "none", global_allocator)]
pub static HEAP: KernelHeap = KernelHeap::new();
