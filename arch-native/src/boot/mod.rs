//! From the loader to [`platform::Kernel::boot`], and the discovery of the machine.

#[cfg(feature = "pc")]
mod discover;
#[cfg(all(target_os = "none", feature = "pc"))]
pub(crate) mod entry;
#[cfg(target_os = "none")]
pub mod image;
pub mod memory_map;
#[cfg(all(target_os = "none", feature = "pc"))]
pub(crate) mod secondary;
#[cfg(all(target_os = "none", feature = "pc"))]
mod start;
#[cfg(target_os = "none")]
pub mod tables;

#[cfg(feature = "pc")]
pub use discover::PcBoot;
#[cfg(all(target_os = "none", feature = "pc"))]
pub use start::start;
