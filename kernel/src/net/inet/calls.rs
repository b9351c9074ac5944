//! System calls on Internet sockets.

use smoltcp::wire::IpProtocol;

use super::address::{Address, encode};
use super::datagram::Kind;
use super::options;
use super::socket::Socket;
use super::tcp::Directions;
use crate::errno::Errno;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::table::{close, reserve};
use crate::net::address::write_with_length;
use crate::net::file::{self, RAW, TYPE_MASK, TYPES, check_open_flags, install_socket, on_exec};
use crate::syscall::{Call, SysResult};

const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;
/// An open file that is known to be an Internet socket.
pub type SocketFile = file::SocketFile<Socket>;

/// `socket(2)` for this family.
///
/// # Errors
/// EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPERM, EMFILE.
pub fn socket(call: &mut Call<'_>) -> SysResult {
    let (kind, protocol) = (call.uint(1), call.int(2));
    let open_flags = kind & !TYPE_MASK;
    check_open_flags(open_flags)?;
    if kind & TYPE_MASK >= TYPES {
        return Err(Errno::EINVAL);
    }
    let protocol = u8::try_from(protocol).map_err(|_| Errno::EINVAL)?;
    let none = protocol == 0;
    let socket = match (kind & TYPE_MASK, IpProtocol::from(protocol)) {
        (STREAM, IpProtocol::Tcp) => Socket::stream(),
        (STREAM, _) if none => Socket::stream(),
        (DATAGRAM, IpProtocol::Udp) => Socket::datagram(Kind::Udp),
        (DATAGRAM, IpProtocol::Icmp) => Socket::datagram(Kind::Ping),
        (DATAGRAM, _) if none => Socket::datagram(Kind::Udp),
        (RAW, protocol) if !none => Socket::datagram(Kind::Raw(protocol)),
        (STREAM | DATAGRAM | RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }?;
    Ok(install_socket(socket.open(open_flags), open_flags)?.0 as u64)
}

/// `bind(2)`
pub fn bind(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    file.socket().bind(Address::read(call.user(1), call.int(2))?)?;
    Ok(0)
}

/// `listen(2)`
pub fn listen(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    file.socket().listen(call.int(1))?;
    Ok(0)
}

/// `connect(2)`
pub fn connect(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    let address = Address::read(call.user(1), call.int(2))?;
    file.socket().connect(address, file.waiting(0))?;
    Ok(0)
}

fn accept_with(file: &SocketFile, call: &Call<'_>, open_flags: u32) -> SysResult {
    check_open_flags(open_flags)?;
    let reserved = reserve()?;
    let (socket, from) = file.socket().accept(file.waiting(0))?;
    let fd = reserved.fill(socket.open(open_flags), on_exec(open_flags));
    let (to, length_at) = (call.user(1), call.user(2));
    if !to.is_null()
        && let Err(error) = write_with_length(&encode(from), to, length_at)
    {
        close(fd)?;
        return Err(error);
    }
    Ok(fd.0 as u64)
}

/// `accept(2)`
pub fn accept(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    accept_with(file, call, 0)
}

/// `accept4(2)`
pub fn accept4(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    accept_with(file, call, call.uint(3))
}

/// `shutdown(2)`
pub fn shutdown(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    let directions = match call.int(1) {
        0 => Directions { receive: true, send: false },
        1 => Directions { receive: false, send: true },
        2 => Directions { receive: true, send: true },
        _ => return Err(Errno::EINVAL),
    };
    file.socket().shut_down(directions)?;
    Ok(0)
}

/// `getsockname(2)`
pub fn getsockname(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    write_with_length(&encode(file.socket().local()?), call.user(1), call.user(2))?;
    Ok(0)
}

/// `getpeername(2)`
pub fn getpeername(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    write_with_length(&encode(file.socket().remote()?), call.user(1), call.user(2))?;
    Ok(0)
}

/// `setsockopt(2)`
pub fn setsockopt(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    options::set(file.socket(), call.int(1), call.int(2), call.user(3), call.int(4))?;
    Ok(0)
}

/// `getsockopt(2)`
pub fn getsockopt(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    options::get(file.socket(), call.int(1), call.int(2), call.user(3), call.user(4))?;
    Ok(0)
}

/// `sendto(2)`
pub fn sendto(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    let mut from = IoSrc::user(call.user(1), call.size(2))?;
    let (flags, address) = (call.uint(3), call.user(4));
    let to = if address.is_null() { None } else { Some(Address::read(address, call.int(5))?) };
    Ok(file.socket().send(&mut from, file.waiting(flags), flags, to)? as u64)
}

/// `recvfrom(2)`
pub fn recvfrom(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    let mut to = IoDst::user(call.user(1), call.size(2))?;
    let (flags, address, length_at) = (call.uint(3), call.user(4), call.user(5));
    let received = file.socket().receive(&mut to, file.waiting(flags), flags)?;
    if !address.is_null() {
        match received.from {
            Some(from) => write_with_length(&encode(from), address, length_at)?,
            None => write_with_length(&[], address, length_at)?,
        }
    }
    Ok(received.length as u64)
}
