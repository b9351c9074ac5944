//! From the loader to [`platform::Kernel::boot`], and the discovery of the machine.

#[cfg(target_os = "none")]
pub(crate) mod entry;
pub mod memory_map;
#[cfg(target_os = "none")]
pub(crate) mod secondary;
pub mod start_info;
#[cfg(target_os = "none")]
mod tables;

use core::marker::PhantomData;

use platform::{Kernel, Unusable};

#[cfg(target_os = "none")]
pub use start::start;

use crate::machine::Machine;

/// [`platform::Boot`] of a PC.
#[derive(Debug)]
pub struct PcBoot<K, M>(PhantomData<(K, M)>);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Boot for PcBoot<K, M> {
    #[cold]
    fn discover() -> Result<platform::Machine, Unusable> {
        discover::machine::<K, M>()
    }
}

mod discover;
#[cfg(target_os = "none")]
mod start;
