//! The 8259 interrupt controllers of the first PCs: moved out of the exceptions' way and masked.

use super::vectors::LINES_END;
use crate::machine::Machine;

const COMMAND: [u16; 2] = [0x20, 0xa0];
const DATA: [u16; 2] = [0x21, 0xa1];

/// Masks both. Where there are none the writes go nowhere.
pub fn silence<M: Machine>() {
    let write = |port: u16, value: u8| {
        // SAFETY: the controllers' ports on every PC; nothing relies on them.
        unsafe { M::out8(port, value) };
    };
    for (n, wiring) in [(0, 1 << 2), (1, 2)] {
        write(COMMAND[n], 0x11); // initialize, four words
        // A spurious interrupt cannot be masked: its vector must be no exception's.
        write(DATA[n], LINES_END - 16 + 8 * n as u8);
        write(DATA[n], wiring);
        write(DATA[n], 1); // 8086 mode
        write(DATA[n], 0xff);
    }
}
