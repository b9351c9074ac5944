//! System calls that send and receive messages with all that belongs to them.

use alloc::vec::Vec;

use super::address::Address;
use super::calls::SocketFile;
use super::control::{self, Room};
use super::endpoint::SocketType;
use super::message::Ancillary;
use super::socket::Socket;
use super::transfer::Received;
use crate::errno::{Errno, KResult};
use crate::fs::io::IoSrc;
use crate::fs::table::OnExec;
use crate::mm::UserAddr;
use crate::net::address::write;
use crate::net::flags;
use crate::net::message_header::{CONTROL_LENGTH_AT, FLAGS_AT, Header, NAME_LENGTH_AT, each, receive_many};
use crate::syscall::{Call, SysResult};

/// Sends to an address, or to where the socket is connected.
#[inline]
pub fn send_to(
    file: &SocketFile,
    from: &mut IoSrc<'_>,
    flags: u32,
    to: Option<&Address>,
    ancillary: Ancillary,
) -> KResult<usize> {
    let socket = file.socket();
    let name = match to {
        None => None,
        Some(Address::Named(name)) => Some(name),
        // A sequence sends to its other end whatever the address is.
        Some(_) if socket.kind() == SocketType::SeqPacket => None,
        Some(_) => return Err(Errno::EINVAL),
    };
    socket.send(from, file.waiting(flags), flags, name, ancillary)
}

fn send_one(file: &SocketFile, at: UserAddr, flags: u32) -> KResult<usize> {
    let header = Header::read(at)?;
    let to = match header.name_length {
        0 => None,
        length => Some(Address::read(UserAddr(header.name), length)?),
    };
    let vector = header.vector()?;
    let ancillary = control::read(UserAddr(header.control), header.control_length)?;
    send_to(file, &mut vector.source(), flags, to.as_ref(), ancillary)
}

fn receive_one(file: &SocketFile, at: UserAddr, flags: u32) -> KResult<usize> {
    let header = Header::read(at)?;
    let vector = header.vector()?;
    let socket = file.socket();
    let mut received = socket.receive(&mut vector.destination(), file.waiting(flags), flags)?;
    if header.name != 0 {
        let name = received.sender_name(socket);
        write(&name, UserAddr(header.name), header.name_length)?;
        at.offset(NAME_LENGTH_AT).write(&(name.len() as i32))?;
    }
    let mut room = Room::new(UserAddr(header.control), header.control_length);
    if let Some(sender) = received.sender {
        room.put_sender(sender)?;
    }
    if let Some(rights) = received.rights.take() {
        room.put_files(&rights, OnExec::close_if(flags & flags::CLOSE_ON_EXEC != 0))?;
    }
    at.offset(CONTROL_LENGTH_AT).write(&(room.used as u64))?;
    at.offset(FLAGS_AT).write(&((flags & flags::CLOSE_ON_EXEC) | received.flags | room.flags))?;
    Ok(received.length)
}

impl Received {
    /// The sender's address, as programs get it: nothing at all if it has no name.
    pub fn sender_name(&self, socket: &Socket) -> Vec<u8> {
        let from = self.from.as_ref().or_else(|| socket.connection());
        from.and_then(|from| from.name()).map_or_else(Vec::new, |name| name.encode())
    }
}

pub fn sendmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    Ok(send_one(&file, call.user(1), call.uint(2))? as u64)
}

pub fn recvmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    Ok(receive_one(&file, call.user(1), call.uint(2))? as u64)
}

pub fn sendmmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    let flags = call.uint(3);
    each(call.user(1), call.uint(2), |at, _| send_one(&file, at, flags), || true)
}

pub fn recvmmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    receive_many(call, |at, flags| receive_one(&file, at, flags))
}
