//! The time of day: read once from the PC's clock, then counted on.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::machine::{FREQUENCY, tsc};
use super::processor::{in_byte, out_byte};
use crate::scale::Scale;
use crate::time_of_day::{Registers, nanoseconds};

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// Register A: an update is under way.
const UPDATING: u8 = 1 << 7;
/// Reading again and again for longer than an update lasts.
const MOST_READINGS: u32 = 10_000;

/// Nanoseconds since 1970 when [`READ_AT`]; zero if the machine does not know.
static WALL: AtomicU64 = AtomicU64::new(0);
/// The time stamp counter when the clock was read.
static READ_AT: AtomicU64 = AtomicU64::new(0);

fn register(index: u8) -> u8 {
    out_byte(INDEX, index);
    in_byte(DATA)
}

fn registers() -> Registers {
    Registers {
        second: register(0),
        minute: register(2),
        hour: register(4),
        day: register(7),
        month: register(8),
        year: register(9),
        century: register(0x32),
        form: register(0x0b),
    }
}

/// Reads the clock.
pub fn read() {
    for _ in 0..MOST_READINGS {
        let status = register(0x0a);
        if status == 0xff {
            return;
        }
        if status & UPDATING != 0 {
            continue;
        }
        let first = registers();
        // The same twice: no update came between.
        if register(0x0a) & UPDATING == 0 && registers() == first {
            WALL.store(nanoseconds(first).unwrap_or(0), Relaxed);
            READ_AT.store(tsc(), Relaxed);
            return;
        }
    }
}

pub extern "C" fn get_wallclock_time() -> u64 {
    match WALL.load(Relaxed) {
        0 => 0,
        wall => {
            let passed = tsc().wrapping_sub(READ_AT.load(Relaxed));
            wall.wrapping_add(Scale::between(FREQUENCY.load(Relaxed), 1_000_000_000).apply(passed))
        }
    }
}

/// WallclockUpdated: nobody sets it here.
pub extern "C" fn wallclock_updated() -> u64 {
    0
}
