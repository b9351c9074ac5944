//! Channel 2 of the 8254 as a clock: it counts down once from its largest value. It drives nothing but the speaker, which
//! stays off; where there is none nothing happens, and nothing counts.

use x86_64::instructions::port::Port;

/// Counts a second.
pub const RATE: u64 = 1_193_182;

/// Starts it.
pub fn start() {
    // SAFETY: the ports are the channel's, which is nobody else's.
    unsafe {
        let mut gate = Port::<u8>::new(0x61);
        let value = gate.read();
        gate.write(value & !2 | 1);
        Port::<u8>::new(0x43).write(0xb0); // channel 2, both bytes, count down once
        let mut count = Port::<u8>::new(0x42);
        count.write(0xff);
        count.write(0xff);
    }
}

/// What it has counted, in 16 bits.
pub fn counted() -> u64 {
    // SAFETY: as in `start`; latches the count first.
    unsafe {
        Port::<u8>::new(0x43).write(0x80);
        let mut count = Port::<u8>::new(0x42);
        let low = u64::from(count.read());
        0xffff - (u64::from(count.read()) << 8 | low)
    }
}
