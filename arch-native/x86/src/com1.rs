//! COM1, polled. How its registers are reached is the caller's: a [`Backend`] for [`PORT`] and the seven after it.
//!
//! The driver keeps no state that matters: a new one each time needs no lock, which a panic could find taken.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use uart_16550::Uart16550;
pub use uart_16550::backend::Backend;
use uart_16550::spec::registers::IER;

/// The first of its registers.
pub const PORT: u16 = 0x3f8;
/// Its ISA interrupt.
pub const ISA_IRQ: u8 = 4;
/// How often the transmitter is asked whether it has room before its bytes are dropped: seconds on any machine.
const MOST_POLLS: u32 = 4_000_000;

static PRESENT: AtomicBool = AtomicBool::new(false);

fn uart<B: Backend>(registers: B) -> Option<Uart16550<B>> {
    if !PRESENT.load(Relaxed) {
        return None;
    }
    // SAFETY: a backend is one for COM1's registers, which are where every PC has them.
    Some(unsafe { Uart16550::new_with_backend(registers) })
}

/// Sets the port up, if there is one: 115200 baud, eight bits, FIFOs, no interrupts.
pub fn init(mut registers: impl Backend) {
    // SAFETY: registers of COM1; where there is no such port nothing happens.
    unsafe { registers.write(7, 0x5a) };
    // SAFETY: as above.
    if unsafe { registers.read(7) } != 0x5a {
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
        // SAFETY: as above.
        unsafe { registers.write(register, value) };
    }
    PRESENT.store(true, Relaxed);
}

/// Lets input raise an interrupt. None: there is no such port.
pub fn enable_interrupt(registers: impl Backend) -> Option<()> {
    uart(registers)?.enable_interrupts(IER::DATA_READY);
    Some(())
}

/// Takes input, as far as there is any, and says how many bytes.
pub fn read(registers: impl Backend, buffer: &mut [u8]) -> usize {
    uart(registers).map_or(0, |mut uart| uart.receive_bytes(buffer))
}

/// Writes all of `bytes`.
pub fn write(registers: impl Backend, bytes: &[u8]) {
    let Some(mut uart) = uart(registers) else { return };
    let mut left = bytes;
    let mut polls = 0;
    while !left.is_empty() && polls < MOST_POLLS {
        let sent = uart.send_bytes(left);
        left = &left[sent..];
        polls = if sent == 0 { polls + 1 } else { 0 };
    }
}
