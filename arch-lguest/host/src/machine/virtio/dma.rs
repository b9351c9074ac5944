//! Memory that the machine's devices share with their drivers.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{PAGE_SIZE, PhysAddr, Unusable, VirtAddr};
use virtio_drivers::{BufferDirection, Hal, PhysAddr as BusAddress};

use super::super::frames::Frames;
use super::super::paging::{direct, physical};
use crate::devices::port::QUEUE_PAGES;

/// The next page for a queue, and the end of those there are.
static NEXT: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// The pages for queues. Devices see physical memory as it is, and drivers' buffers are all in the direct map.
#[derive(Debug)]
pub struct Pool;

impl Pool {
    /// Takes the pages for one more device.
    pub fn fill(frames: &mut Frames) -> Result<(), Unusable> {
        let taken = frames.take(QUEUE_PAGES * PAGE_SIZE, PAGE_SIZE);
        let taken = taken.ok_or(Unusable("too little memory for the hypervisor's drivers"))?;
        NEXT.store(taken.start.0, Relaxed);
        END.store(taken.end.0, Relaxed);
        Ok(())
    }
}

// SAFETY: pages are handed out once, in the direct map, and zeroed here; the only virtual addresses of buffers are those of
// the direct map.
unsafe impl Hal for Pool {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (BusAddress, NonNull<u8>) {
        let bytes = pages as u64 * PAGE_SIZE;
        let start = NEXT.fetch_add(bytes, Relaxed);
        assert!(start + bytes <= END.load(Relaxed), "a device's queues take more than {QUEUE_PAGES} pages");
        let at = direct(PhysAddr(start)).as_mut_ptr::<u8>();
        // SAFETY: within the pages taken for this.
        unsafe { at.write_bytes(0, bytes as usize) };
        (start, NonNull::new(at).expect("the direct map is not at zero"))
    }

    unsafe fn dma_dealloc(_: BusAddress, _: NonNull<u8>, _: usize) -> i32 {
        // A device is given up only when the host cannot go on.
        0
    }

    unsafe fn mmio_phys_to_virt(address: BusAddress, _: usize) -> NonNull<u8> {
        NonNull::new(direct(PhysAddr(address)).as_mut_ptr()).expect("the direct map is not at zero")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> BusAddress {
        physical(VirtAddr(buffer.as_ptr().cast::<u8>() as u64)).0
    }

    unsafe fn unshare(_: BusAddress, _: NonNull<[u8]>, _: BufferDirection) {}
}
