//! Where things are in the upper half of every address space.

use platform::{PhysAddr, VirtAddr};

/// One past the highest user page: the last canonical page of the lower half stays empty, so that no `syscall`
/// instruction can be followed by a non-canonical address.
pub const USER_TOP: VirtAddr = VirtAddr(0x0000_7fff_ffff_f000);
/// Physical address 0 as the kernel sees it.
pub const DIRECT_MAP: VirtAddr = VirtAddr(0xffff_8000_0000_0000);
/// Physical memory beyond this is left off: the direct map has room for 64 TiB.
pub const DIRECT_MAP_LIMIT: PhysAddr = PhysAddr(64 << 40);
/// What the kernel may map for itself.
pub const KERNEL_WINDOW: (VirtAddr, VirtAddr) =
    (VirtAddr(0xffff_c800_0000_0000), VirtAddr(0xffff_c880_0000_0000));
/// What this backend maps for itself: device registers and firmware tables.
pub const PLATFORM_WINDOW: (VirtAddr, VirtAddr) =
    (VirtAddr(0xffff_c900_0000_0000), VirtAddr(0xffff_c980_0000_0000));
/// The image lies this much above its physical address (`IMAGE_BASE` of the linker script).
pub const IMAGE_BASE: VirtAddr = VirtAddr(0xffff_ffff_8000_0000);

/// Where the direct map shows `address`.
#[inline(always)]
pub const fn direct(address: PhysAddr) -> VirtAddr {
    VirtAddr(DIRECT_MAP.0 + address.0)
}
