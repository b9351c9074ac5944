//! Options of sockets (`socket(7)`).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use zerocopy::IntoBytes;

use super::address;
use super::endpoint::State;
use super::message::Sender;
use super::socket::Socket;
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::net::options::{
    MAX_BUFFER, MIN_RECEIVE_BUFFER, MIN_SEND_BUFFER, SOL_SOCKET, bit, buffer_size, number, time_limit,
    time_value,
};
use crate::process::credentials::{Gid, Uid};
use crate::process::{Pid, current};

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
