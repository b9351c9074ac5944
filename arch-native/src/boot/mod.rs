//! From the loader to [`platform::Kernel::boot`], and the discovery of the machine.

#[cfg(target_os = "none")]
pub(crate) mod entry;
pub mod memory_map;
pub mod start_info;
#[cfg(target_os = "none")]
mod tables;

use core::marker::PhantomData;

use platform::{Kernel, Machine, Unusable};

#[cfg(target_os = "none")]
pub use start::start;

/// [`platform::Boot`] of a bare PC.
#[derive(Debug)]
pub struct NativeBoot<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Boot for NativeBoot<K> {
    #[cold]
    fn discover() -> Result<Machine, Unusable> {
        discover::machine::<K>()
    }
}

mod discover;
#[cfg(target_os = "none")]
mod start;
