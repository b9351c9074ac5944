//! Sockets as programs have them: behind descriptors.

use alloc::sync::Arc;
use core::marker::PhantomData;

use super::flags;
use super::waiting::Waiting;
use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_CLOEXEC, O_NONBLOCK};
use crate::fs::table::{Fd, OnExec, install, usable_file};

/// The bits of a socket's type that are no flags.
pub const TYPE_MASK: u32 = 0xf;
/// `SOCK_RAW`
pub const RAW: u32 = 3;
/// One past the highest type there is.
pub const TYPES: u32 = 11;

/// An open file that is known to be a socket of one family.
pub struct SocketFile<S> {
    file: Arc<OpenFile>,
    family: PhantomData<S>,
}

impl<S: FileOps + 'static> SocketFile<S> {
    /// The socket behind a descriptor.
    ///
    /// # Errors
    /// EBADF, ENOTSOCK if it is no socket, or one of another family.
    #[inline]
    pub fn of(fd: i32) -> KResult<Self> {
        let file = usable_file(Fd(fd))?;
        if file.ops_as::<S>().is_none() {
            return Err(Errno::ENOTSOCK);
        }
        Ok(Self { file, family: PhantomData })
    }

    /// The socket.
    ///
    /// # Panics
    /// Never: it was looked at before.
    #[inline]
    pub fn socket(&self) -> &S {
        match self.file.ops_as::<S>() {
            Some(socket) => socket,
            None => unreachable!("a socket is always one"),
        }
    }

    /// Whether a call with `flags` may wait.
    #[inline]
    pub fn waiting(&self, flags: u32) -> Waiting {
        if flags & flags::DO_NOT_WAIT != 0 { Waiting::No } else { Waiting::of(&self.file) }
    }
}

/// Checks that there are no flags but those that a new socket may have.
///
/// # Errors
/// EINVAL.
pub fn check_open_flags(open_flags: u32) -> KResult<()> {
    if open_flags & !(O_CLOEXEC | O_NONBLOCK) == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Gives a socket that was opened with `open_flags` a descriptor.
///
/// # Errors
/// EMFILE, ENOMEM.
pub fn install_socket(file: Arc<OpenFile>, open_flags: u32) -> KResult<Fd> {
    install(file, on_exec(open_flags))
}

/// What `execve(2)` does with a descriptor that is opened with these flags.
pub const fn on_exec(open_flags: u32) -> OnExec {
    OnExec::close_if(open_flags & O_CLOEXEC != 0)
}
