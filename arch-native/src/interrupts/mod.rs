//! Interrupt controllers.

pub(crate) mod io_apic;
pub(crate) mod lines;
pub mod local_apic;
pub(crate) mod pic;
pub mod vectors;

use core::marker::PhantomData;

use platform::{CpuId, InterruptError, IrqLine, Kernel, MessageAddress};

use crate::machine::Machine;

/// [`platform::Interrupts`] of a PC.
#[derive(Debug)]
pub struct PcInterrupts<K, M>(PhantomData<(K, M)>);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Interrupts for PcInterrupts<K, M> {
    fn route(line: IrqLine, cpu: CpuId) -> Result<(), InterruptError> {
        lines::route::<M>(line, cpu)
    }

    fn mask(line: IrqLine) {
        lines::mask::<M>(line);
    }

    fn unmask(line: IrqLine) {
        lines::unmask::<M>(line);
    }

    #[inline(always)]
    fn end(_line: IrqLine) {
        local_apic::end::<M>();
    }

    fn allocate_message(cpu: CpuId) -> Result<(IrqLine, MessageAddress), InterruptError> {
        lines::allocate_message::<M>(cpu)
    }

    fn free_message(line: IrqLine) {
        lines::free_message::<M>(line);
    }
}
