//! Sockets between processes of this machine (`unix(7)`).
//!
//! An [`endpoint::Endpoint`] is what others know of a socket, a [`Socket`] is the open file that owns it and knows its
//! other end. Endpoints do not know each other, so that connections are no circles of references; files that are sent
//! through sockets can make such circles, which [`rights`] finds.

pub mod address;
mod bind;
pub mod calls;
mod control;
mod endpoint;
mod message;
pub mod message_calls;
mod names;
mod options;
mod rights;
mod socket;
mod transfer;

#[cfg(test)]
mod tests;

pub use endpoint::DEFAULT_BUFFER;
pub use socket::Socket;

/// Both ends of a stream as open files, for tests of others.
#[cfg(test)]
pub fn test_pair() -> [alloc::sync::Arc<crate::fs::OpenFile>; 2] {
    bind::pair(endpoint::SocketType::Stream).map(|socket| socket.open(0))
}
