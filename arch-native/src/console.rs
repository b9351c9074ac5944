//! The console: COM1, polled.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use platform::{IrqLine, Kernel};
use uart_16550::Uart16550;
use uart_16550::backend::Backend;
use uart_16550::spec::registers::IER;

use crate::interrupts::lines;
use crate::machine::Machine;

/// [`platform::Console`] of a PC.
#[derive(Debug)]
pub struct PcConsole<K, M>(PhantomData<(K, M)>);

const COM1: u16 = 0x3f8;
const COM1_ISA_IRQ: u8 = 4;
/// How often the transmitter is asked whether it has room before its bytes are dropped: seconds on any machine.
const MOST_POLLS: u32 = 4_000_000;

static PRESENT: AtomicBool = AtomicBool::new(false);

/// COM1's registers, for the driver.
#[derive(Debug)]
struct Com1<M>(PhantomData<M>);

impl<M: Machine> Backend for Com1<M> {
    #[inline(always)]
    unsafe fn read(&mut self, register: u8) -> u8 {
        // SAFETY: as the caller promised.
        unsafe { M::in8(COM1 + u16::from(register)) }
    }

    #[inline(always)]
    unsafe fn write(&mut self, register: u8, value: u8) {
        // SAFETY: as the caller promised.
        unsafe { M::out8(COM1 + u16::from(register), value) }
    }
}

/// The driver keeps no state that matters: a new one each time needs no lock, which a panic could find taken.
fn uart<M: Machine>() -> Option<Uart16550<Com1<M>>> {
    if !PRESENT.load(Relaxed) {
        return None;
    }
    // SAFETY: COM1's registers are where every PC has them, and this is their only user.
    Some(unsafe { Uart16550::new_with_backend(Com1(PhantomData)) })
}

/// Sets the port up: 115200 baud, eight bits, FIFOs, no interrupts.
pub(crate) fn init<M: Machine>() {
    let write = |register: u16, value: u8| {
        // SAFETY: a register of COM1; where there is no such port nothing happens.
        unsafe { M::out8(COM1 + register, value) };
    };
    write(7, 0x5a);
    // SAFETY: as above.
    if unsafe { M::in8(COM1 + 7) } != 0x5a {
        return;
    }
    for (register, value) in [
        (1, 0),    // no interrupts
        (3, 0x80), // divisor latch
        (0, 1),    // 115200 baud
        (1, 0),
        (3, 3),    // eight bits, no parity, one stop bit
        (2, 0xc7), // FIFOs, emptied; interrupt at 14 bytes or after a pause
        (4, 0x0b), // ready, interrupts may reach the controller
    ] {
        write(register, value);
    }
    PRESENT.store(true, Relaxed);
}

/// Writes all of `bytes`.
pub(crate) fn write<M: Machine>(bytes: &[u8]) {
    let Some(mut uart) = uart::<M>() else { return };
    let mut left = bytes;
    let mut polls = 0;
    while !left.is_empty() && polls < MOST_POLLS {
        let sent = uart.send_bytes(left);
        left = &left[sent..];
        polls = if sent == 0 { polls + 1 } else { 0 };
    }
}

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Console for PcConsole<K, M> {
    fn write(bytes: &[u8]) {
        write::<M>(bytes);
    }

    fn read(buffer: &mut [u8]) -> usize {
        uart::<M>().map_or(0, |mut uart| uart.receive_bytes(buffer))
    }

    fn input_line() -> Option<IrqLine> {
        let line = lines::isa::<M>(COM1_ISA_IRQ)?;
        uart::<M>()?.enable_interrupts(IER::DATA_READY);
        Some(line)
    }
}
