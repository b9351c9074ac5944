//! Options of Internet sockets (`socket(7)`, `ip(7)`, `tcp(7)`, `raw(7)`).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use zerocopy::IntoBytes;

use super::address::{FAMILY, encode};
use super::service::with;
use super::socket::{Socket, Which};
use super::{datagram, tcp};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::net::options::{
    MAX_BUFFER, MIN_RECEIVE_BUFFER, MIN_SEND_BUFFER, SOL_SOCKET, bit, buffer_size, number, time_limit,
    time_value,
};
use crate::process::current;

/// Options of IP (Linux include/uapi/linux/in.h).
mod ip {
    pub const LEVEL: i32 = 0;
    pub const TYPE_OF_SERVICE: i32 = 1;
    pub const TIME_TO_LIVE: i32 = 2;
    pub const HEADER_INCLUDED: i32 = 3;
    pub const MTU_DISCOVER: i32 = 10;
    pub const RECEIVE_ERRORS: i32 = 11;
}

/// Options of TCP (Linux include/uapi/linux/tcp.h).
mod tcp_option {
    pub const LEVEL: i32 = 6;
    pub const NO_DELAY: i32 = 1;
    pub const MAX_SEGMENT: i32 = 2;
    pub const CORK: i32 = 3;
    pub const KEEP_IDLE: i32 = 4;
    pub const KEEP_INTERVAL: i32 = 5;
    pub const KEEP_COUNT: i32 = 6;
    pub const DEFER_ACCEPT: i32 = 9;
    pub const QUICK_ACK: i32 = 12;
    pub const USER_TIMEOUT: i32 = 18;
}

/// Level of the options of raw sockets, and the one they have.
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;

/// What programs can set: those of the socket's kind.
enum Change<'a> {
    Stream(&'a mut tcp::Options),
    Datagram(&'a mut datagram::Options),
}

/// Changes the options of whatever the socket is.
fn change(socket: &Socket, work: impl FnOnce(Change<'_>) -> KResult<()>) -> KResult<()> {
    let mut result = Ok(());
    with(|stack| match socket.which() {
        Which::Stream(id) => stack.tcp_set_options(id, |options| result = work(Change::Stream(options))),
        Which::Datagram(id, _) => {
            stack.datagram_set_options(id, |options| result = work(Change::Datagram(options)))
        }
    })?;
    result
}

/// The value of an option that is a number from `from` to `to`.
fn in_range(value: i32, from: i32, to: i32) -> KResult<u32> {
    if (from..=to).contains(&value) { Ok(value as u32) } else { Err(Errno::EINVAL) }
}

/// Sets an option (`setsockopt(2)`).
///
/// # Errors
/// ENOPROTOOPT, EINVAL, EDOM, EPERM, EFAULT.
pub fn set(socket: &Socket, level: i32, option: i32, value: UserAddr, length: i32) -> KResult<()> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    match (level, option) {
        (SOL_SOCKET, number::RECEIVE_TIMEOUT | number::RECEIVE_TIMEOUT_NEW) => {
            return time_limit(&socket.receive_limit, value, length);
        }
        (SOL_SOCKET, number::SEND_TIMEOUT | number::SEND_TIMEOUT_NEW) => {
            return time_limit(&socket.send_limit, value, length);
        }
        _ => {}
    }
    if length < 4 {
        // One byte is enough for those of IP.
        if level == ip::LEVEL && length >= 1 {
            let byte: u8 = value.read()?;
            return set_ip(socket, option, byte.into());
        }
        return Err(Errno::EINVAL);
    }
    let number: i32 = value.read()?;
    match level {
        SOL_SOCKET => set_any(socket, option, number, value, length),
        ip::LEVEL => set_ip(socket, option, number),
        tcp_option::LEVEL => set_tcp(socket, option, number),
        SOL_RAW if option == ICMP_FILTER => change(socket, |options| match options {
            Change::Datagram(options) => {
                options.unwanted = number as u32;
                Ok(())
            }
            Change::Stream(_) => Err(Errno::EOPNOTSUPP),
        }),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn set_any(socket: &Socket, option: i32, number: i32, value: UserAddr, length: usize) -> KResult<()> {
    let on = number != 0;
    let forced = matches!(option, number::SEND_BUFFER_FORCE | number::RECEIVE_BUFFER_FORCE);
    if forced && !current().process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let linger = if option == number::LINGER {
        if length < 8 {
            return Err(Errno::EINVAL);
        }
        let seconds: i32 = value.offset(4).read()?;
        on.then_some(seconds.max(0) as u32)
    } else {
        None
    };
    let send = buffer_size(number, MAX_BUFFER, MIN_SEND_BUFFER);
    let receive = buffer_size(number, MAX_BUFFER, MIN_RECEIVE_BUFFER);
    change(socket, |options| {
        match (option, options) {
            (number::REUSE_ADDRESS, Change::Stream(options)) => options.reuse_address = on,
            (number::REUSE_ADDRESS, Change::Datagram(options)) => options.reuse_address = on,
            (number::REUSE_PORT, Change::Stream(options)) => options.reuse_port = on,
            (number::REUSE_PORT, Change::Datagram(options)) => options.reuse_port = on,
            (number::KEEP_ALIVE, Change::Stream(options)) => options.keep_alive = on,
            (number::LINGER, Change::Stream(options)) => options.linger = linger,
            (number::BROADCAST, Change::Datagram(options)) => options.broadcast = on,
            (number::SEND_BUFFER | number::SEND_BUFFER_FORCE, Change::Stream(options)) => {
                options.send_buffer = send;
            }
            (number::SEND_BUFFER | number::SEND_BUFFER_FORCE, Change::Datagram(options)) => {
                options.send_buffer = send;
            }
            (number::RECEIVE_BUFFER | number::RECEIVE_BUFFER_FORCE, Change::Stream(options)) => {
                options.receive_buffer = receive;
            }
            (number::RECEIVE_BUFFER | number::RECEIVE_BUFFER_FORCE, Change::Datagram(options)) => {
                options.receive_buffer = receive;
            }
            (number::PRIORITY | number::RECEIVE_LOW_WATER | number::LINGER, _) => {}
            (option, _) => {
                let bit = bit(option).ok_or(Errno::ENOPROTOOPT)?;
                if on {
                    socket.remembered.fetch_or(bit, Ordering::Relaxed);
                } else {
                    socket.remembered.fetch_and(!bit, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    })
}

fn set_ip(socket: &Socket, option: i32, number: i32) -> KResult<()> {
    change(socket, |options| {
        match (option, options) {
            (ip::TIME_TO_LIVE, options) => {
                let value = if number == -1 { 64 } else { in_range(number, 1, 255)? as u8 };
                match options {
                    Change::Stream(options) => options.time_to_live = value,
                    Change::Datagram(options) => options.time_to_live = value,
                }
            }
            (ip::TYPE_OF_SERVICE, Change::Stream(options)) => options.type_of_service = number as u8,
            (ip::TYPE_OF_SERVICE, Change::Datagram(options)) => options.type_of_service = number as u8,
            (ip::HEADER_INCLUDED, Change::Datagram(options)) => options.header_included = number != 0,
            // Packets are never longer than the way takes, and errors are told to those who are connected.
            (ip::MTU_DISCOVER | ip::RECEIVE_ERRORS, _) => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    })
}

fn set_tcp(socket: &Socket, option: i32, number: i32) -> KResult<()> {
    change(socket, |options| {
        let Change::Stream(options) = options else { return Err(Errno::ENOPROTOOPT) };
        match option {
            tcp_option::NO_DELAY => options.no_delay = number != 0,
            tcp_option::KEEP_IDLE => options.keep_idle = in_range(number, 1, 32_767)?,
            tcp_option::KEEP_INTERVAL => options.keep_interval = in_range(number, 1, 32_767)?,
            tcp_option::KEEP_COUNT => options.keep_count = in_range(number, 1, 127)?,
            tcp_option::USER_TIMEOUT => options.user_timeout = in_range(number, 0, i32::MAX)?,
            // Hints that may be ignored.
            tcp_option::CORK | tcp_option::QUICK_ACK | tcp_option::DEFER_ACCEPT | tcp_option::MAX_SEGMENT => {
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    })
}

/// Writes an option's value (`getsockopt(2)`), as far as there is room.
///
/// # Errors
/// ENOPROTOOPT, EINVAL, ENOTCONN, EFAULT.
pub fn get(socket: &Socket, level: i32, option: i32, to: UserAddr, length_at: UserAddr) -> KResult<()> {
    let room: i32 = length_at.read()?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = match level {
        SOL_SOCKET => any_option(socket, option)?,
        _ => Vec::from(other_option(socket, level, option)?.to_ne_bytes()),
    };
    let length = value.len().min(room);
    to.write_bytes(&value[..length])?;
    length_at.write(&(length as i32))
}

/// The options of whatever the socket is.
enum Options {
    Stream(tcp::Options, usize),
    Datagram(datagram::Options),
}

fn options_of(socket: &Socket) -> KResult<Options> {
    with(|stack| match socket.which() {
        Which::Stream(id) => {
            let block = stack.tcp.get(id).ok_or(Errno::EBADF)?;
            let mtu = stack.links.get(block.way.0).map_or(0, |interface| interface.mtu);
            Ok(Options::Stream(block.options, mtu))
        }
        Which::Datagram(id, _) => {
            stack.datagrams.get(id).map(|block| Options::Datagram(block.options)).ok_or(Errno::EBADF)
        }
    })
}

fn any_option(socket: &Socket, option: i32) -> KResult<Vec<u8>> {
    let (kind, protocol) = socket.numbers();
    let options = options_of(socket)?;
    let number = match option {
        number::TYPE => kind,
        number::DOMAIN => FAMILY.into(),
        number::PROTOCOL => protocol,
        number::PRIORITY => 0,
        number::ERROR => socket.take_error(),
        number::ACCEPTS_CONNECTIONS => socket.listens()?.into(),
        number::RECEIVE_LOW_WATER | number::SEND_LOW_WATER => 1,
        number::SEND_BUFFER => match options {
            Options::Stream(options, _) => options.send_buffer as i32,
            Options::Datagram(options) => options.send_buffer as i32,
        },
        number::RECEIVE_BUFFER => match options {
            Options::Stream(options, _) => options.receive_buffer as i32,
            Options::Datagram(options) => options.receive_buffer as i32,
        },
        number::LINGER => {
            let linger = match options {
                Options::Stream(options, _) => options.linger,
                Options::Datagram(_) => None,
            };
            let pair = [i32::from(linger.is_some()), linger.unwrap_or(0) as i32];
            return Ok(Vec::from(pair.as_bytes()));
        }
        number::RECEIVE_TIMEOUT | number::RECEIVE_TIMEOUT_NEW => {
            return Ok(Vec::from(time_value(&socket.receive_limit).as_bytes()));
        }
        number::SEND_TIMEOUT | number::SEND_TIMEOUT_NEW => {
            return Ok(Vec::from(time_value(&socket.send_limit).as_bytes()));
        }
        number::PEER_NAME => return Ok(Vec::from(encode(socket.remote()?))),
        option => is_on(socket, &options, option)?.into(),
    };
    Ok(Vec::from(number.to_ne_bytes()))
}

/// An option that is on or off.
fn is_on(socket: &Socket, options: &Options, option: i32) -> KResult<bool> {
    Ok(match (option, options) {
        (number::REUSE_ADDRESS, Options::Stream(options, _)) => options.reuse_address,
        (number::REUSE_ADDRESS, Options::Datagram(options)) => options.reuse_address,
        (number::REUSE_PORT, Options::Stream(options, _)) => options.reuse_port,
        (number::REUSE_PORT, Options::Datagram(options)) => options.reuse_port,
        (number::KEEP_ALIVE, Options::Stream(options, _)) => options.keep_alive,
        (number::BROADCAST, Options::Datagram(options)) => options.broadcast,
        (option, _) => {
            let bit = bit(option).ok_or(Errno::ENOPROTOOPT)?;
            socket.remembered.load(Ordering::Relaxed) & bit != 0
        }
    })
}

fn other_option(socket: &Socket, level: i32, option: i32) -> KResult<i32> {
    Ok(match (level, option, options_of(socket)?) {
        (ip::LEVEL, ip::TIME_TO_LIVE, Options::Stream(options, _)) => options.time_to_live.into(),
        (ip::LEVEL, ip::TIME_TO_LIVE, Options::Datagram(options)) => options.time_to_live.into(),
        (ip::LEVEL, ip::TYPE_OF_SERVICE, Options::Stream(options, _)) => options.type_of_service.into(),
        (ip::LEVEL, ip::TYPE_OF_SERVICE, Options::Datagram(options)) => options.type_of_service.into(),
        (ip::LEVEL, ip::HEADER_INCLUDED, Options::Datagram(options)) => options.header_included.into(),
        (ip::LEVEL, ip::MTU_DISCOVER | ip::RECEIVE_ERRORS, _) => 0,
        (tcp_option::LEVEL, option, Options::Stream(options, mtu)) => match option {
            tcp_option::NO_DELAY => options.no_delay.into(),
            tcp_option::MAX_SEGMENT => mtu as i32 - 40,
            tcp_option::KEEP_IDLE => options.keep_idle as i32,
            tcp_option::KEEP_INTERVAL => options.keep_interval as i32,
            tcp_option::KEEP_COUNT => options.keep_count as i32,
            tcp_option::USER_TIMEOUT => options.user_timeout as i32,
            tcp_option::CORK | tcp_option::DEFER_ACCEPT => 0,
            tcp_option::QUICK_ACK => 1,
            _ => return Err(Errno::ENOPROTOOPT),
        },
        (SOL_RAW, ICMP_FILTER, Options::Datagram(options)) => options.unwanted as i32,
        _ => return Err(Errno::ENOPROTOOPT),
    })
}
