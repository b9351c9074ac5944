//! Other CPUs: there are none.

use core::marker::PhantomData;

use platform::{CpuId, CpuSet, Kernel, Message, SecondaryStart, StartError};

/// [`platform::Smp`] of an lguest guest.
#[derive(Debug)]
pub struct LguestSmp<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Smp for LguestSmp<K> {
    fn start(_: CpuId, _: SecondaryStart) -> Result<(), StartError> {
        Err(StartError::NoSuchCpu)
    }

    #[inline(always)]
    fn send(_: CpuSet, _: Message) {}
}
