//! Addresses.

/// From here on, all roots of a guest are the same: top-level entries 256 to 511.
pub const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
/// One past the highest address at which user mode may run.
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;
/// Where the boot map shows guest-physical address 0 a second time.
pub const BOOT_IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// How much of memory it shows there.
pub const BOOT_IMAGE_LIMIT: u64 = 1 << 30;
