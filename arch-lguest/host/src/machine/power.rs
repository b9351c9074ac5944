//! The end, and the channel to whoever started the machine.

use core::fmt::{self, Write};

use lguest_abi::MOST_TEXT;
use platform::Unusable;
use x86_64::instructions::port::Port;

use super::uart;

/// QEMU's `isa-debugcon`: reads as its own number.
const DEBUG_CONSOLE: u16 = 0xe9;
/// QEMU's `isa-debug-exit`.
const DEBUG_EXIT: u16 = 0xf4;

/// Exit value for a hypervisor or guest that failed.
pub const PANIC: u8 = 101;
/// Exit value for a boot that could not go on.
pub const UNUSABLE: u8 = 102;

/// The channel beside the console.
#[derive(Debug)]
pub struct Channel;

impl Channel {
    /// Writes a line.
    pub fn line(line: fmt::Arguments<'_>) {
        // It cannot fail.
        let _ = Self.write_fmt(line);
        Self::bytes(b"\n");
    }

    /// Writes bytes.
    pub fn bytes(bytes: &[u8]) {
        let mut port = Port::<u8>::new(DEBUG_CONSOLE);
        // SAFETY: reading the port has no effect on a machine without the device.
        if unsafe { port.read() } != DEBUG_CONSOLE as u8 {
            return;
        }
        for &byte in bytes {
            // SAFETY: the device is there.
            unsafe { port.write(byte) };
        }
    }
}

impl Write for Channel {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Self::bytes(text.as_bytes());
        Ok(())
    }
}

/// How a guest says that it ended, kept until it is known that it does not start again.
pub struct EndLine {
    bytes: [u8; MOST_TEXT as usize],
    length: usize,
}

impl EndLine {
    /// Nothing has been said.
    pub const fn new() -> Self {
        Self { bytes: [0; MOST_TEXT as usize], length: 0 }
    }

    /// Keeps a line, no longer than a call's text, instead of the one before.
    pub fn set(&mut self, line: &[u8]) {
        self.length = line.len().min(self.bytes.len());
        self.bytes[..self.length].copy_from_slice(&line[..self.length]);
    }

    /// Passes the line on, if there is one.
    pub fn tell(&self) -> bool {
        if self.length > 0 {
            Channel::bytes(&self.bytes[..self.length]);
            Channel::bytes(b"\n");
        }
        self.length > 0
    }
}

/// Says why the host cannot go on, and ends the machine.
pub fn unusable(reason: Unusable) -> ! {
    let _ = write!(uart::Console, "lguest-host: {}\r\n", reason.0);
    Channel::line(format_args!("unusable {}", reason.0));
    end(UNUSABLE)
}

/// Ends the machine with this status.
pub fn end(status: u8) -> ! {
    // SAFETY: under an emulator this is its exit device; elsewhere nothing answers.
    unsafe { Port::new(DEBUG_EXIT).write(u32::from(status)) };
    // The emulator ends a moment later; without one, the chipset resets the machine.
    for _ in 0..100_000_000u32 {
        core::hint::spin_loop();
    }
    // SAFETY: the machine is to be reset; where there is no such port the write is lost.
    unsafe { Port::<u8>::new(0xcf9).write(0x06) };
    loop {
        // SAFETY: waits for ever.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
