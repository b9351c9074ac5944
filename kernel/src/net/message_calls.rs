//! System calls that send and receive messages with all that belongs to them.

use alloc::vec::Vec;

use platform::Nanoseconds;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::address::{self, Address};
use super::calls::SocketFile;
use super::control::{self, Room};
use super::endpoint::SocketType;
use super::message::Ancillary;
use super::socket::Socket;
use super::transfer::{Received, flags};
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoSrc, MAX_VECTORS, UserVector};
use crate::fs::table::OnExec;
use crate::mm::UserAddr;
use crate::syscall::{Call, SysResult};
use crate::time::abi::Timespec;

/// `struct user_msghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    name: u64,
    name_length: i32,
    padding0: u32,
    vector: u64,
    vectors: u64,
    control: u64,
    control_length: u64,
    flags: u32,
    padding1: u32,
}

const HEADER: u64 = size_of::<Header>() as u64;
/// Bytes from one `struct mmsghdr` to the next.
const SEVERAL_STEP: u64 = HEADER + 8;
const NAME_LENGTH_AT: u64 = 8;
const CONTROL_LENGTH_AT: u64 = 40;
const FLAGS_AT: u64 = 48;
/// Longest name that is looked at.
const LONGEST_NAME: i32 = 128;
/// Most messages one call sends or receives.
const MAX_MESSAGES: u32 = 1024;

const _: () = assert!(HEADER == 56);

impl Header {
    fn read(from: UserAddr) -> KResult<Self> {
        let mut header: Self = from.read()?;
        if header.name == 0 {
            header.name_length = 0;
        }
        if header.name_length < 0 {
            return Err(Errno::EINVAL);
        }
        header.name_length = header.name_length.min(LONGEST_NAME);
        if header.vectors > MAX_VECTORS as u64 {
            return Err(Errno::EMSGSIZE);
        }
        Ok(header)
    }

    fn vector(&self) -> KResult<UserVector> {
        UserVector::read(UserAddr(self.vector), self.vectors as usize)
    }
}

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
        address::write(&name, UserAddr(header.name), header.name_length)?;
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

pub(super) fn sendmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    Ok(send_one(&file, call.user(1), call.uint(2))? as u64)
}

pub(super) fn recvmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    Ok(receive_one(&file, call.user(1), call.uint(2))? as u64)
}

/// Does something with each of `count` messages until that fails; the error counts only if it was the first.
fn each(
    first: UserAddr,
    count: u32,
    mut work: impl FnMut(UserAddr, u32) -> KResult<usize>,
    mut go_on: impl FnMut() -> bool,
) -> SysResult {
    let count = count.min(MAX_MESSAGES);
    for index in 0..count {
        let at = first.offset(u64::from(index) * SEVERAL_STEP);
        let done = work(at, index).and_then(|length| at.offset(HEADER).write(&(length as u32)));
        match done {
            Ok(()) if go_on() => {}
            Ok(()) => return Ok(u64::from(index) + 1),
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index.into()),
        }
    }
    Ok(count.into())
}

pub(super) fn sendmmsg(call: &mut Call<'_>) -> SysResult {
    let file = SocketFile::of(call.int(0))?;
    let flags = call.uint(3);
    each(call.user(1), call.uint(2), |at, _| send_one(&file, at, flags), || true)
}

pub(super) fn recvmmsg(call: &mut Call<'_>) -> SysResult {
    let (flags, timeout_at) = (call.uint(3), call.user(4));
    let deadline = crate::time::deadline_after(timeout_at)?;
    let file = SocketFile::of(call.int(0))?;
    let receive = |at, index| {
        let no_wait = index > 0 && flags & flags::WAIT_FOR_ONE != 0;
        let wait_flag = if no_wait { flags::DO_NOT_WAIT } else { 0 };
        receive_one(&file, at, (flags & !flags::WAIT_FOR_ONE) | wait_flag)
    };
    // As in Linux the time is looked at between messages only.
    let in_time = || deadline.is_none_or(|deadline| crate::time::now() < deadline);
    let count = each(call.user(1), call.uint(2), receive, in_time)?;
    if let Some(deadline) = deadline {
        let now = crate::time::now();
        let left = if deadline > now { deadline - now } else { Nanoseconds::ZERO };
        timeout_at.write(&Timespec::from(left))?;
    }
    Ok(count)
}
