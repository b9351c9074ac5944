//! From the host to [`platform::Kernel::boot`], and what there is to discover.

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod start;

use core::marker::PhantomData;

use lguest_abi::VIRQ_TIMER;
use platform::{CpuSet, Kernel, Machine, Unusable};

use crate::cpu::extended_state;
use crate::interrupts;

#[cfg(target_os = "none")]
pub use start::start;

/// [`platform::Boot`] of an lguest guest.
#[derive(Debug)]
pub struct LguestBoot<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Boot for LguestBoot<K> {
    #[cold]
    fn discover() -> Result<Machine, Unusable> {
        extended_state::discover();
        interrupts::unblock(VIRQ_TIMER);
        Ok(Machine { cpus: CpuSet::first(1), description: "lguest" })
    }
}
