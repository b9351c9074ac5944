//! System calls of sockets.

use alloc::sync::Arc;

use super::address::{self, Address, Name};
use super::bind;
use super::endpoint::{Shut, SocketType};
use super::message::Ancillary;
use super::message_calls::send_to;
use super::socket::Socket;
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::table::{close, reserve};
use crate::mm::UserAddr;
use crate::net::address::write_with_length;
use crate::net::file::{self, RAW, TYPE_MASK, TYPES, check_open_flags, install_socket, on_exec};
use crate::syscall::{Call, SysResult};

/// An open file that is known to be a socket.
pub type SocketFile = file::SocketFile<Socket>;

/// Says what kind of socket is wanted, and with which flags of open files.
fn wanted(call: &Call<'_>) -> KResult<(SocketType, u32)> {
    let (family, kind, protocol) = (call.int(0), call.uint(1), call.int(2));
    let open_flags = kind & !TYPE_MASK;
    check_open_flags(open_flags)?;
    if family != i32::from(address::FAMILY_UNIX) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind & TYPE_MASK >= TYPES {
        return Err(Errno::EINVAL);
    }
    if protocol != 0 && protocol != i32::from(address::FAMILY_UNIX) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match kind & TYPE_MASK {
        kind if kind == SocketType::Stream as u32 => SocketType::Stream,
        kind if kind == SocketType::SeqPacket as u32 => SocketType::SeqPacket,
        kind if kind == SocketType::Datagram as u32 || kind == RAW => SocketType::Datagram,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok((kind, open_flags))
}

pub fn socket(call: &mut Call<'_>) -> SysResult {
    let (kind, flags) = wanted(call)?;
    Ok(install_socket(Socket::new(kind).open(flags), flags)?.0 as u64)
}

pub fn socketpair(call: &mut Call<'_>) -> SysResult {
    let (kind, flags) = wanted(call)?;
    let [first, second] = bind::pair(kind);
    let first = install_socket(first.open(flags), flags)?;
    let second = match install_socket(second.open(flags), flags) {
        Ok(second) => second,
        Err(error) => {
            close(first)?;
            return Err(error);
        }
    };
    if let Err(error) = call.user(3).write(&[first.0, second.0]) {
        close(first)?;
        close(second)?;
        return Err(error);
    }
    Ok(0)
}

pub fn bind(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    file.socket().bind(Address::read(call.user(1), call.int(2))?)?;
    Ok(0)
}

pub fn listen(call: &mut Call<'_>) -> SysResult {
    SocketFile::of(call.int(0))?.socket().listen(call.int(1))?;
    Ok(0)
}

pub fn connect(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    let address = Address::read(call.user(1), call.int(2))?;
    file.socket().connect(&address, file.waiting(0))?;
    Ok(0)
}

fn accept_with(call: &Call<'_>, open_flags: u32) -> SysResult {
    check_open_flags(open_flags)?;
    let file = SocketFile::of(call.int(0))?;
    let reserved = reserve()?;
    let (socket, client) = file.socket().accept(file.waiting(0))?;
    let fd = reserved.fill(socket.open(open_flags), on_exec(open_flags));
    let (to, length_at) = (call.user(1), call.user(2));
    if !to.is_null()
        && let Err(error) = write_with_length(&address::encode(named(client.name())), to, length_at)
    {
        close(fd)?;
        return Err(error);
    }
    Ok(fd.0 as u64)
}

fn named(name: Option<&Arc<Name>>) -> Option<&Name> {
    name.map(|name| &**name)
}

pub fn accept(call: &mut Call<'_>) -> SysResult {
    accept_with(call, 0)
}

pub fn accept4(call: &mut Call<'_>) -> SysResult {
    accept_with(call, call.uint(3))
}

pub fn shutdown(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    let directions = match call.int(1) {
        0 => Shut::RECEIVE,
        1 => Shut::SEND,
        2 => Shut::all(),
        _ => return Err(Errno::EINVAL),
    };
    file.socket().shut_down(directions);
    Ok(0)
}

pub fn getsockname(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    let name = address::encode(named(file.socket().endpoint().name()));
    write_with_length(&name, call.user(1), call.user(2))?;
    Ok(0)
}

pub fn getpeername(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    let peer = file.socket().peer().ok_or(Errno::ENOTCONN)?;
    write_with_length(&address::encode(named(peer.name())), call.user(1), call.user(2))?;
    Ok(0)
}

pub fn setsockopt(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    file.socket().set_option(call.int(1), call.int(2), call.user(3), call.int(4))?;
    Ok(0)
}

pub fn getsockopt(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    file.socket().get_option(call.int(1), call.int(2), call.user(3), call.user(4))?;
    Ok(0)
}

pub fn sendto(call: &mut Call<'_>) -> SysResult {
    let mut from = IoSrc::user(call.user(1), call.size(2))?;
    let file = SocketFile::of(call.int(0))?;
    let (flags, address) = (call.uint(3), call.user(4));
    let to = if address.is_null() { None } else { Some(Address::read(address, call.int(5))?) };
    let sent = send_to(&file, &mut from, flags, to.as_ref(), Ancillary::default())?;
    Ok(sent as u64)
}

pub fn recvfrom(call: &mut Call<'_>) -> SysResult {
    let mut to = IoDst::user(call.user(1), call.size(2))?;
    let file = SocketFile::of(call.int(0))?;
    let (flags, address, length_at): (u32, UserAddr, UserAddr) = (call.uint(3), call.user(4), call.user(5));
    let socket = file.socket();
    let received = socket.receive(&mut to, file.waiting(flags), flags)?;
    if !address.is_null() {
        let name = received.sender_name(socket);
        write_with_length(&name, address, length_at)?;
    }
    Ok(received.length as u64)
}
