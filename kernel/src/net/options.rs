//! Options that all sockets have (`socket(7)`).

use super::unix::DEFAULT_BUFFER;
use super::waiting::TimeLimit;
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::time::abi::Timeval;

/// Level of the options of all sockets.
pub const SOL_SOCKET: i32 = 1;

/// Numbers of options (Linux include/uapi/asm-generic/socket.h).
#[allow(missing_docs)]
pub mod number {
    pub const DEBUG: i32 = 1;
    pub const REUSE_ADDRESS: i32 = 2;
    pub const TYPE: i32 = 3;
    pub const ERROR: i32 = 4;
    pub const DONT_ROUTE: i32 = 5;
    pub const BROADCAST: i32 = 6;
    pub const SEND_BUFFER: i32 = 7;
    pub const RECEIVE_BUFFER: i32 = 8;
    pub const KEEP_ALIVE: i32 = 9;
    pub const OUT_OF_BAND_INLINE: i32 = 10;
    pub const NO_CHECK: i32 = 11;
    pub const PRIORITY: i32 = 12;
    pub const LINGER: i32 = 13;
    pub const REUSE_PORT: i32 = 15;
    pub const PASS_CREDENTIALS: i32 = 16;
    pub const PEER_CREDENTIALS: i32 = 17;
    pub const RECEIVE_LOW_WATER: i32 = 18;
    pub const SEND_LOW_WATER: i32 = 19;
    pub const RECEIVE_TIMEOUT: i32 = 20;
    pub const SEND_TIMEOUT: i32 = 21;
    pub const PEER_NAME: i32 = 28;
    pub const TIMESTAMP: i32 = 29;
    pub const ACCEPTS_CONNECTIONS: i32 = 30;
    pub const SEND_BUFFER_FORCE: i32 = 32;
    pub const RECEIVE_BUFFER_FORCE: i32 = 33;
    pub const PASS_SECURITY: i32 = 34;
    pub const TIMESTAMP_NANOSECONDS: i32 = 35;
    pub const PROTOCOL: i32 = 38;
    pub const DOMAIN: i32 = 39;
    pub const RECEIVE_TIMEOUT_NEW: i32 = 66;
    pub const SEND_TIMEOUT_NEW: i32 = 67;
}

/// Options that are on or off, and change nothing for the sockets of a family that does not keep them elsewhere.
const REMEMBERED: [i32; 11] = [
    number::DEBUG,
    number::REUSE_ADDRESS,
    number::DONT_ROUTE,
    number::BROADCAST,
    number::KEEP_ALIVE,
    number::OUT_OF_BAND_INLINE,
    number::NO_CHECK,
    number::REUSE_PORT,
    number::TIMESTAMP,
    number::PASS_SECURITY,
    number::TIMESTAMP_NANOSECONDS,
];

/// Most that the unprivileged may ask for (`net.core.wmem_max`).
pub const MAX_BUFFER: usize = DEFAULT_BUFFER;
/// Least size of a send buffer.
pub const MIN_SEND_BUFFER: usize = 4608;
/// Least size of a receive buffer.
pub const MIN_RECEIVE_BUFFER: usize = 2304;

/// The bit that remembers such an option, if it is one.
pub fn bit(option: i32) -> Option<u32> {
    REMEMBERED.iter().position(|&other| other == option).map(|place| 1 << place)
}

/// The size of a buffer that was asked for, as it is kept: twice that, for what lies beside the bytes.
pub fn buffer_size(asked: i32, max: usize, min: usize) -> usize {
    let asked = if asked < 0 { max } else { (asked as usize).min(max) };
    (asked * 2).max(min)
}

/// Sets `limit` as a program says.
///
/// # Errors
/// EINVAL, EDOM, EFAULT.
pub fn time_limit(limit: &TimeLimit, value: UserAddr, length: usize) -> KResult<()> {
    if length < size_of::<Timeval>() {
        return Err(Errno::EINVAL);
    }
    let value: Timeval = value.read()?;
    if !(0..1_000_000).contains(&value.microseconds) {
        return Err(Errno::EDOM);
    }
    let wait = if value.seconds < 0 { Timeval::default() } else { value };
    // No time at all stands for no limit; a negative one for the next moment.
    let unlimited = value == Timeval::default();
    limit.set(if unlimited { None } else { Some(wait.duration()?) });
    Ok(())
}

/// `limit` as programs see it.
pub fn time_value(limit: &TimeLimit) -> Timeval {
    limit.get().map_or(Timeval::default(), Timeval::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_doubled_within_limits() {
        assert_eq!(buffer_size(10_000, MAX_BUFFER, MIN_SEND_BUFFER), 20_000);
        assert_eq!(buffer_size(0, MAX_BUFFER, MIN_SEND_BUFFER), MIN_SEND_BUFFER);
        assert_eq!(buffer_size(i32::MAX, MAX_BUFFER, MIN_SEND_BUFFER), 2 * MAX_BUFFER);
        assert_eq!(buffer_size(-1, MAX_BUFFER, MIN_RECEIVE_BUFFER), 2 * MAX_BUFFER);
    }

    #[test]
    fn remembered_options_have_a_bit_each() {
        let mut seen = 0;
        for option in REMEMBERED {
            match bit(option) {
                Some(bit) => {
                    assert_eq!(seen & bit, 0);
                    seen |= bit;
                }
                None => panic!("option {option} has no bit"),
            }
        }
        assert_eq!(bit(number::TYPE), None);
    }
}
