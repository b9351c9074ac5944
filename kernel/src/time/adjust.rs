//! `adjtimex(2)`: this kernel's clock is not steered, and says so.

use super::abi::{Timeval, Timex};
use super::clocks::{ClockId, Form};
use super::realtime;
use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::syscall::{Call, SysResult};

/// Reads the offset and changes nothing.
const ADJ_OFFSET_SS_READ: u32 = 0xa001;
const STA_UNSYNC: i32 = 0x40;
/// The clock is not synchronized.
const TIME_ERROR: u64 = 5;
/// Microseconds: the error Linux starts with.
const UNKNOWN_ERROR: i64 = 16_000_000;
/// Microseconds between ticks at 100 a second, which the interface counts in.
const TICK: i64 = 10_000;
/// Parts per million, shifted by 16.
const TOLERANCE: i64 = 500 << 16;

fn adjust(at: UserAddr) -> SysResult {
    let request = at.read::<Timex>()?;
    if request.modes != 0 && request.modes != ADJ_OFFSET_SS_READ {
        return Err(Errno::EPERM);
    }
    let answer = Timex {
        modes: request.modes,
        max_error: UNKNOWN_ERROR,
        estimated_error: UNKNOWN_ERROR,
        status: STA_UNSYNC,
        constant: 2,
        precision: 1,
        tolerance: TOLERANCE,
        time: Timeval::from(realtime()),
        tick: TICK,
        ..Timex::default()
    };
    at.write(&answer)?;
    Ok(TIME_ERROR)
}

/// `adjtimex(2)`
pub(super) fn adjtimex(call: &mut Call<'_>) -> SysResult {
    adjust(call.user(0))
}

/// `clock_adjtime(2)`
pub(super) fn clock_adjtime(call: &mut Call<'_>) -> SysResult {
    match ClockId::from_number(call.int(0))? {
        ClockId::Realtime(Form::Full) => adjust(call.user(1)),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
