//! The console: COM1.

use core::fmt;

use arch_x86::com1::{self, Backend};
use x86_64::instructions::port::Port;

/// The line of COM1, as an interrupt of the I/O APIC.
pub const LINE: u32 = com1::ISA_IRQ as u32;

struct Registers;

impl Backend for Registers {
    unsafe fn read(&mut self, register: u8) -> u8 {
        // SAFETY: as the caller promised.
        unsafe { Port::new(com1::PORT + u16::from(register)).read() }
    }

    unsafe fn write(&mut self, register: u8, value: u8) {
        // SAFETY: as the caller promised.
        unsafe { Port::new(com1::PORT + u16::from(register)).write(value) };
    }
}

/// Sets the port up, if there is one.
pub fn init() {
    com1::init(Registers);
}

/// Lets input raise an interrupt.
pub fn enable_interrupt() {
    com1::enable_interrupt(Registers);
}

/// Takes a byte of input, if there is one.
pub fn read() -> Option<u8> {
    let mut byte = [0];
    (com1::read(Registers, &mut byte) == 1).then_some(byte[0])
}

/// Writes all of `bytes`.
pub fn write(bytes: &[u8]) {
    com1::write(Registers, bytes);
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
