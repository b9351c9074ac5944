//! Interrupt controllers.

pub(crate) mod io_apic;
pub(crate) mod lines;
pub(crate) mod local_apic;
pub(crate) mod pic;
pub(crate) mod vectors;

use core::marker::PhantomData;

use platform::{CpuId, InterruptError, IrqLine, Kernel, MessageAddress};

/// [`platform::Interrupts`] of a bare PC.
#[derive(Debug)]
pub struct NativeInterrupts<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Interrupts for NativeInterrupts<K> {
    fn route(line: IrqLine, cpu: CpuId) -> Result<(), InterruptError> {
        lines::route(line, cpu)
    }

    fn mask(line: IrqLine) {
        lines::mask(line);
    }

    fn unmask(line: IrqLine) {
        lines::unmask(line);
    }

    #[inline(always)]
    fn end(_line: IrqLine) {
        local_apic::end();
    }

    fn allocate_message(cpu: CpuId) -> Result<(IrqLine, MessageAddress), InterruptError> {
        lines::allocate_message(cpu)
    }

    fn free_message(line: IrqLine) {
        lines::free_message(line);
    }
}
