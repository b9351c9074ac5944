//! Early output and input.

use crate::IrqLine;

/// The console: works from the first instruction of the kernel, in any context.
#[crate::part(console)]
pub trait Console {
    /// Writes all of `bytes` as they are. Variation of: `console->write`. The kernel serializes calls, except in a
    /// panic.
    fn write(bytes: &[u8]);

    /// Takes what input is there, at most `buffer.len()` bytes; returns how many. Variation of: polling a UART. The
    /// kernel serializes calls.
    fn read(buffer: &mut [u8]) -> usize;

    /// Lets input raise an interrupt and says on which line; none if the platform has no such line and input must be
    /// polled. After discovery. Variation of: enabling a UART's receive interrupt.
    fn input_line() -> Option<IrqLine>;
}
