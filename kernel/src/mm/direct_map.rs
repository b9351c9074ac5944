//! Where the kernel finds physical memory.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{PhysAddr, VirtAddr};

static BASE: AtomicU64 = AtomicU64::new(0);

/// Sets where physical address 0 would be found. Once, at boot.
pub fn set_direct_map(base: VirtAddr) {
    BASE.store(base.0, Ordering::Relaxed);
}

/// Where the kernel finds the RAM at `address`.
#[inline]
pub fn direct(address: PhysAddr) -> VirtAddr {
    VirtAddr(BASE.load(Ordering::Relaxed) + address.0)
}
