//! The console: COM1.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
/// The line of COM1, as an interrupt of the I/O APIC.
pub const LINE: u32 = 4;
/// How often the transmitter is asked whether it has room before its bytes are dropped: seconds on any machine.
const MOST_POLLS: u32 = 4_000_000;

static PRESENT: AtomicBool = AtomicBool::new(false);

fn uart() -> Option<Uart16550<PioBackend>> {
    if !PRESENT.load(Relaxed) {
        return None;
    }
    // SAFETY: COM1's registers are where every PC has them, and this is their only user.
    unsafe { Uart16550::new_port(COM1) }.ok()
}

/// Sets the port up: 115200 baud, eight bits, FIFOs, no interrupts.
pub fn init() {
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

/// Lets input raise an interrupt.
pub fn enable_interrupt() {
    if let Some(mut uart) = uart() {
        uart.enable_interrupts(IER::DATA_READY);
    }
}

/// Takes a byte of input, if there is one.
pub fn read() -> Option<u8> {
    let mut byte = [0];
    (uart()?.receive_bytes(&mut byte) == 1).then_some(byte[0])
}

/// Writes all of `bytes`.
pub fn write(bytes: &[u8]) {
    let Some(mut uart) = uart() else { return };
    let mut left = bytes;
    let mut polls = 0;
    while !left.is_empty() && polls < MOST_POLLS {
        let sent = uart.send_bytes(left);
        left = &left[sent..];
        polls = if sent == 0 { polls + 1 } else { 0 };
    }
}

/// The console as something to format to.
#[derive(Debug)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
