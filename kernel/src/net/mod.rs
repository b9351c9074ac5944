//! Sockets: [`unix`] between processes of this machine, [`inet`] to wherever IP leads.

mod address;
mod file;
mod flags;
mod message_header;
mod options;
mod waiting;

pub mod inet;
pub mod unix;

use crate::syscall::numbers::*;
use crate::syscall::{Call, Handler, SysResult};

#[cfg(test)]
pub use unix::test_pair;

/// The system calls of sockets. Without IP they are those of [`unix`], and nothing of the other is in the image.
pub const SYSTEM_CALLS: &[(usize, Handler)] = if inet::AVAILABLE { WITH_INET } else { UNIX_ALONE };

/// Calls of one family each, by what the first argument is: a family for [`SOCKET`], an open socket for the rest.
macro_rules! calls {
    ($($number:ident = $module:ident::$call:ident,)*) => {
        const UNIX_ALONE: &[(usize, Handler)] = &[
            (SOCKET, unix::calls::socket),
            (SOCKETPAIR, unix::calls::socketpair),
            $(($number, unix::$module::$call),)*
        ];
        const WITH_INET: &[(usize, Handler)] = &[
            (SOCKET, socket),
            (SOCKETPAIR, unix::calls::socketpair),
            $(($number, |call| match inet::SocketFile::of(call.int(0)) {
                Ok(file) => inet::$module::$call(&file, call),
                Err(_) => unix::$module::$call(call),
            }),)*
        ];
    };
}

calls! {
    BIND = calls::bind,
    LISTEN = calls::listen,
    CONNECT = calls::connect,
    ACCEPT = calls::accept,
    ACCEPT4 = calls::accept4,
    SHUTDOWN = calls::shutdown,
    GETSOCKNAME = calls::getsockname,
    GETPEERNAME = calls::getpeername,
    SETSOCKOPT = calls::setsockopt,
    GETSOCKOPT = calls::getsockopt,
    SENDTO = calls::sendto,
    RECVFROM = calls::recvfrom,
    SENDMSG = message_calls::sendmsg,
    RECVMSG = message_calls::recvmsg,
    SENDMMSG = message_calls::sendmmsg,
    RECVMMSG = message_calls::recvmmsg,
}

fn socket(call: &mut Call<'_>) -> SysResult {
    if call.int(0) == i32::from(inet::FAMILY) { inet::calls::socket(call) } else { unix::calls::socket(call) }
}
