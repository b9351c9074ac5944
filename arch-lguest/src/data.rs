//! The page shared with the host.

use lguest_abi::LguestData;
use platform::PhysAddr;

use arch_native::layout::IMAGE_BASE;

/// The page of the only virtual CPU.
pub static DATA: LguestData = LguestData::new();

/// Guest-physical address of something in the image.
pub fn physical<T: ?Sized>(what: *const T) -> PhysAddr {
    PhysAddr(what.cast::<u8>() as u64 - IMAGE_BASE.0)
}
