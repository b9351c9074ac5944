//! Sockets between processes of this machine (`unix(7)`). There are no others.
//!
//! An [`endpoint::Endpoint`] is what others know of a socket, a [`Socket`] is the open file that owns it and knows its
//! other end. Endpoints do not know each other, so that connections are no circles of references; files that are sent
//! through sockets can make such circles, which [`rights`] finds.

mod address;
mod bind;
mod calls;
mod control;
mod endpoint;
mod message;
mod message_calls;
mod names;
mod options;
mod rights;
mod socket;
mod transfer;

#[cfg(test)]
mod tests;

pub use socket::Socket;

use crate::syscall::Handler;
use crate::syscall::numbers::*;

/// System calls of sockets.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (SOCKET, calls::socket),
    (SOCKETPAIR, calls::socketpair),
    (BIND, calls::bind),
    (LISTEN, calls::listen),
    (CONNECT, calls::connect),
    (ACCEPT, calls::accept),
    (ACCEPT4, calls::accept4),
    (SHUTDOWN, calls::shutdown),
    (GETSOCKNAME, calls::getsockname),
    (GETPEERNAME, calls::getpeername),
    (SETSOCKOPT, calls::setsockopt),
    (GETSOCKOPT, calls::getsockopt),
    (SENDTO, calls::sendto),
    (RECVFROM, calls::recvfrom),
    (SENDMSG, message_calls::sendmsg),
    (RECVMSG, message_calls::recvmsg),
    (SENDMMSG, message_calls::sendmmsg),
    (RECVMMSG, message_calls::recvmmsg),
];

/// Both ends of a stream as open files, for tests of others.
#[cfg(test)]
pub fn test_pair() -> [alloc::sync::Arc<crate::fs::OpenFile>; 2] {
    bind::pair(endpoint::SocketType::Stream).map(|socket| socket.open(0))
}
