//! The console: COM1, polled.

use core::marker::PhantomData;

use arch_x86::com1::{self, Backend};
use platform::{IrqLine, Kernel};

use crate::interrupts::lines;
use crate::machine::Machine;

/// [`platform::Console`] of a PC.
#[derive(Debug)]
pub struct PcConsole<K, M>(PhantomData<(K, M)>);

/// COM1's registers, for the driver.
#[derive(Debug)]
struct Registers<M>(PhantomData<M>);

impl<M: Machine> Backend for Registers<M> {
    #[inline(always)]
    unsafe fn read(&mut self, register: u8) -> u8 {
        // SAFETY: as the caller promised.
        unsafe { M::in8(com1::PORT + u16::from(register)) }
    }

    #[inline(always)]
    unsafe fn write(&mut self, register: u8, value: u8) {
        // SAFETY: as the caller promised.
        unsafe { M::out8(com1::PORT + u16::from(register), value) }
    }
}

/// Sets the port up, if there is one.
pub(crate) fn init<M: Machine>() {
    com1::init(Registers::<M>(PhantomData));
}

/// Writes all of `bytes`.
pub(crate) fn write<M: Machine>(bytes: &[u8]) {
    com1::write(Registers::<M>(PhantomData), bytes);
}

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Console for PcConsole<K, M> {
    fn write(bytes: &[u8]) {
        write::<M>(bytes);
    }

    fn read(buffer: &mut [u8]) -> usize {
        com1::read(Registers::<M>(PhantomData), buffer)
    }

    fn input_line() -> Option<IrqLine> {
        let line = lines::isa::<M>(com1::ISA_IRQ)?;
        com1::enable_interrupt(Registers::<M>(PhantomData))?;
        Some(line)
    }
}
