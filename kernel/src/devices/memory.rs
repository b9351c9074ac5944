//! Memory that devices use: frames, which lie behind one another and are found in the direct map.

use core::ptr::NonNull;

use platform::{PAGE_SIZE, PhysAddr, PhysFrame, VirtAddr};
use virtio_drivers::{BufferDirection, Hal};

use crate::mm::buddy::Order;
use crate::mm::{direct, frames};

/// Memory for the crate's queues.
pub struct DeviceMemory;

fn order_for(bytes: usize) -> Option<Order> {
    Order::fitting((bytes as u64).div_ceil(PAGE_SIZE))
}

fn clear(block: PhysFrame, order: Order) {
    (block.0..block.0 + order.frames()).map(PhysFrame).for_each(frames::clear);
}

// SAFETY: blocks of frames are aligned to their size and belong to whoever allocated them, and the direct map shows them.
unsafe impl Hal for DeviceMemory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (virtio_drivers::PhysAddr, NonNull<u8>) {
        let block = order_for(pages * PAGE_SIZE as usize).and_then(|order| {
            let block = frames::allocate_block(order)?;
            clear(block, order);
            Some(block)
        });
        // Address 0, which no block has, says that there was no memory.
        let at = block.map_or(PhysAddr(0), PhysFrame::start);
        (at.0, NonNull::new(direct(at).as_mut_ptr()).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(paddr: virtio_drivers::PhysAddr, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        if let Some(order) = order_for(pages * PAGE_SIZE as usize) {
            frames::free_block(PhysAddr(paddr).frame(), order);
        }
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: virtio_drivers::PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("registers are the platform's")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> virtio_drivers::PhysAddr {
        // Drivers pass parts of a `Buffer` only.
        VirtAddr(buffer.cast::<u8>().as_ptr() as u64) - direct(PhysAddr(0))
    }

    unsafe fn unshare(_: virtio_drivers::PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// A block of frames that a device reads or writes.
pub struct Buffer {
    block: PhysFrame,
    order: Order,
}

impl Buffer {
    /// A buffer with room for at least `bytes`, with undefined content.
    pub fn new(bytes: usize) -> Option<Self> {
        let order = order_for(bytes)?;
        Some(Self { block: frames::allocate_block(order)?, order })
    }

    /// A buffer with room for `wanted` bytes, or for fewer if memory is short or in pieces, but not fewer than `least`.
    pub fn of_at_most(wanted: usize, least: usize) -> Option<Self> {
        let mut bytes = wanted.max(least);
        loop {
            match Self::new(bytes) {
                Some(buffer) => return Some(buffer),
                None if bytes / 2 < least || bytes <= PAGE_SIZE as usize => return None,
                None => bytes /= 2,
            }
        }
    }

    /// Bytes there is room for.
    pub fn len(&self) -> usize {
        (self.order.frames() * PAGE_SIZE) as usize
    }

    /// Its bytes. What a device does to them at the same time is nobody's promise, so they are only looked at when it
    /// has given the buffer back.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is this value's own RAM, in the direct map; any bytes are valid ones.
        unsafe { core::slice::from_raw_parts(direct(self.block.start()).as_ptr(), self.len()) }
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and it is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(direct(self.block.start()).as_mut_ptr(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        frames::free_block(self.block, self.order);
    }
}
