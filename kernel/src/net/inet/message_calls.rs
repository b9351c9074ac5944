//! System calls that send and receive messages on Internet sockets. Nothing goes with their data.

use super::address::{Address, BYTES, encode};
use super::calls::SocketFile;
use crate::errno::KResult;
use crate::mm::UserAddr;
use crate::net::address::write;
use crate::net::flags;
use crate::net::message_header::{CONTROL_LENGTH_AT, FLAGS_AT, Header, NAME_LENGTH_AT, each, receive_many};
use crate::syscall::{Call, SysResult};

fn send_one(file: &SocketFile, at: UserAddr, flags: u32) -> KResult<usize> {
    let header = Header::read(at)?;
    let vector = header.vector()?;
    let to = match header.name_length {
        0 => None,
        length => Some(Address::read(UserAddr(header.name), length)?),
    };
    file.socket().send(&mut vector.source(), file.waiting(flags), flags, to)
}

fn receive_one(file: &SocketFile, at: UserAddr, flags: u32) -> KResult<usize> {
    let header = Header::read(at)?;
    let vector = header.vector()?;
    let received = file.socket().receive(&mut vector.destination(), file.waiting(flags), flags)?;
    if header.name != 0 {
        let length = match received.from {
            Some(from) => {
                write(&encode(from), UserAddr(header.name), header.name_length)?;
                BYTES
            }
            None => 0,
        };
        at.offset(NAME_LENGTH_AT).write(&(length as i32))?;
    }
    at.offset(CONTROL_LENGTH_AT).write(&0u64)?;
    at.offset(FLAGS_AT).write(&((flags & flags::CLOSE_ON_EXEC) | received.flags))?;
    Ok(received.length)
}

/// `sendmsg(2)`
pub fn sendmsg(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    Ok(send_one(file, call.user(1), call.uint(2))? as u64)
}

/// `recvmsg(2)`
pub fn recvmsg(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    Ok(receive_one(file, call.user(1), call.uint(2))? as u64)
}

/// `sendmmsg(2)`
pub fn sendmmsg(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(3);
    each(call.user(1), call.uint(2), |at, _| send_one(file, at, flags), || true)
}

/// `recvmmsg(2)`
pub fn recvmmsg(file: &SocketFile, call: &mut Call<'_>) -> SysResult {
    receive_many(call, |at, flags| receive_one(file, at, flags))
}
