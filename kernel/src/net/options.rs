//! Options of sockets (`socket(7)`).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use zerocopy::IntoBytes;

use super::address;
use super::endpoint::{DEFAULT_BUFFER, State};
use super::message::Sender;
use super::socket::{Socket, TimeLimit};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::credentials::{Gid, Uid};
use crate::process::{Pid, current};
use crate::time::abi::Timeval;

const SOL_SOCKET: i32 = 1;

/// Numbers of options (Linux include/uapi/asm-generic/socket.h).
mod number {
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

/// Options that are remembered and change nothing here, on or off.
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
const MAX_BUFFER: usize = DEFAULT_BUFFER;
const MIN_SEND_BUFFER: usize = 4608;
const MIN_RECEIVE_BUFFER: usize = 2304;

fn bit(option: i32) -> Option<u32> {
    REMEMBERED.iter().position(|&other| other == option).map(|place| 1 << place)
}

/// The size of a buffer that was asked for, as it is kept: twice that, for what lies beside the bytes.
fn buffer_size(asked: i32, max: usize, min: usize) -> usize {
    let asked = if asked < 0 { max } else { (asked as usize).min(max) };
    (asked * 2).max(min)
}

fn time_limit(limit: &TimeLimit, value: UserAddr, length: usize) -> KResult<()> {
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

fn time_value(limit: &TimeLimit) -> Timeval {
    limit.get().map_or(Timeval::default(), Timeval::from)
}

impl Socket {
    /// Sets an option (`setsockopt(2)`).
    ///
    /// # Errors
    /// EOPNOTSUPP for other levels, ENOPROTOOPT, EINVAL, EDOM, EPERM, EFAULT.
    pub fn set_option(&self, level: i32, option: i32, value: UserAddr, length: i32) -> KResult<()> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        match option {
            number::RECEIVE_TIMEOUT | number::RECEIVE_TIMEOUT_NEW => {
                return time_limit(&self.receive_limit, value, length);
            }
            number::SEND_TIMEOUT | number::SEND_TIMEOUT_NEW => {
                return time_limit(&self.send_limit, value, length);
            }
            _ => {}
        }
        if length < 4 {
            return Err(Errno::EINVAL);
        }
        let number: i32 = value.read()?;
        if let Some(bit) = bit(option) {
            if number != 0 {
                self.remembered.fetch_or(bit, Ordering::Relaxed);
            } else {
                self.remembered.fetch_and(!bit, Ordering::Relaxed);
            }
            return Ok(());
        }
        match option {
            number::PASS_CREDENTIALS => self.endpoint().set_wants_sender(number != 0),
            number::SEND_BUFFER => {
                self.endpoint().set_send_buffer(buffer_size(number, MAX_BUFFER, MIN_SEND_BUFFER));
            }
            number::RECEIVE_BUFFER => {
                let size = buffer_size(number, MAX_BUFFER, MIN_RECEIVE_BUFFER);
                self.receive_buffer.store(size, Ordering::Relaxed);
            }
            number::SEND_BUFFER_FORCE | number::RECEIVE_BUFFER_FORCE => self.force_buffer(option, number)?,
            // Nothing here sends later than the call, and one byte is always enough to go on.
            number::LINGER | number::PRIORITY | number::RECEIVE_LOW_WATER => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn force_buffer(&self, option: i32, asked: i32) -> KResult<()> {
        if !current().process.credentials.lock().is_privileged() {
            return Err(Errno::EPERM);
        }
        let max = (i32::MAX / 2) as usize;
        let asked = asked.max(0);
        if option == number::SEND_BUFFER_FORCE {
            self.endpoint().set_send_buffer(buffer_size(asked, max, MIN_SEND_BUFFER));
        } else {
            self.receive_buffer.store(buffer_size(asked, max, MIN_RECEIVE_BUFFER), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes an option's value (`getsockopt(2)`), as far as there is room.
    ///
    /// # Errors
    /// EOPNOTSUPP for other levels, ENOPROTOOPT, EINVAL, ENOTCONN, ERANGE, EFAULT.
    pub fn get_option(&self, level: i32, option: i32, to: UserAddr, length_at: UserAddr) -> KResult<()> {
        let room: i32 = length_at.read()?;
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        let value = self.option(option)?;
        if option == number::PEER_NAME && value.len() < room {
            return Err(Errno::EINVAL);
        }
        let length = value.len().min(room);
        to.write_bytes(&value[..length])?;
        length_at.write(&(length as i32))
    }

    fn option(&self, option: i32) -> KResult<Vec<u8>> {
        let own = self.endpoint();
        if let Some(bit) = bit(option) {
            let set = self.remembered.load(Ordering::Relaxed) & bit != 0;
            return Ok(Vec::from(i32::from(set).to_ne_bytes()));
        }
        let number = match option {
            number::TYPE => self.kind() as i32,
            number::DOMAIN => address::FAMILY_UNIX.into(),
            number::PROTOCOL | number::PRIORITY => 0,
            number::ERROR => own.take_error_number(),
            number::SEND_BUFFER => own.send_buffer() as i32,
            number::RECEIVE_BUFFER => self.receive_buffer.load(Ordering::Relaxed) as i32,
            number::PASS_CREDENTIALS => own.wants_sender().into(),
            number::ACCEPTS_CONNECTIONS => (own.state() == State::Listening).into(),
            number::RECEIVE_LOW_WATER | number::SEND_LOW_WATER => 1,
            number::LINGER => return Ok(Vec::from([0; 8])),
            number::RECEIVE_TIMEOUT | number::RECEIVE_TIMEOUT_NEW => {
                return Ok(Vec::from(time_value(&self.receive_limit).as_bytes()));
            }
            number::SEND_TIMEOUT | number::SEND_TIMEOUT_NEW => {
                return Ok(Vec::from(time_value(&self.send_limit).as_bytes()));
            }
            number::PEER_CREDENTIALS => {
                let nobody = Sender { pid: Pid(0), uid: Uid(u32::MAX), gid: Gid(u32::MAX) };
                return Ok(Vec::from(own.peer_owner.lock().unwrap_or(nobody).encode()));
            }
            number::PEER_NAME => {
                let peer = self.peer().ok_or(Errno::ENOTCONN)?;
                return Ok(address::encode(peer.name().map(|name| &**name)));
            }
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(Vec::from(number.to_ne_bytes()))
    }
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
