//! The console: COM1, polled.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use platform::{IrqLine, Kernel};
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use x86_64::instructions::port::Port;

use crate::interrupts::lines;

/// [`platform::Console`] of a bare PC.
#[derive(Debug)]
pub struct NativeConsole<K>(PhantomData<K>);

const COM1: u16 = 0x3f8;
const COM1_ISA_IRQ: u8 = 4;
/// How often the transmitter is asked whether it has room before its bytes are dropped: seconds on any machine.
const MOST_POLLS: u32 = 4_000_000;

static PRESENT: AtomicBool = AtomicBool::new(false);

/// The driver keeps no state that matters: a new one each time needs no lock, which a panic could find taken.
fn uart() -> Option<Uart16550<PioBackend>> {
    if !PRESENT.load(Relaxed) {
        return None;
    }
    // SAFETY: COM1's registers are where every PC has them, and this is their only user.
    unsafe { Uart16550::new_port(COM1) }.ok()
}

/// Sets the port up: 115200 baud, eight bits, FIFOs, no interrupts.
pub(crate) fn init() {
    let write = |register: u16, value: u8| {
        // SAFETY: a register of COM1; where there is no such port nothing happens.
        unsafe { Port::new(COM1 + register).write(value) };
    };
    write(7, 0x5a);
    // SAFETY: as above.
    if unsafe { Port::<u8>::new(COM1 + 7).read() } != 0x5a {
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
pub(crate) fn write(bytes: &[u8]) {
    let Some(mut uart) = uart() else { return };
    let mut left = bytes;
    let mut polls = 0;
    while !left.is_empty() && polls < MOST_POLLS {
        let sent = uart.send_bytes(left);
        left = &left[sent..];
        polls = if sent == 0 { polls + 1 } else { 0 };
    }
}

#[platform::backend]
impl<K: Kernel> platform::Console for NativeConsole<K> {
    fn write(bytes: &[u8]) {
        write(bytes);
    }

    fn read(buffer: &mut [u8]) -> usize {
        uart().map_or(0, |mut uart| uart.receive_bytes(buffer))
    }

    fn input_line() -> Option<IrqLine> {
        let line = lines::isa(COM1_ISA_IRQ)?;
        uart()?.enable_interrupts(IER::DATA_READY);
        Some(line)
    }
}
