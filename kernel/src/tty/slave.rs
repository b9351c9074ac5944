//! An open terminal: a pseudo-terminal's slave, or the console.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::hvc;
use super::ioctl::{self, Side};
use super::terminal::{Far, Opened, Tty};
use super::termios::LocalFlags;
use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::mm::UserAddr;
use crate::process::current;
use crate::signal::{SIGTTIN, SIGTTOU};
use crate::sync::WaitQueue;
use crate::syscall::SysResult;

/// A terminal, opened once.
pub(super) struct SlaveFile {
    tty: Arc<Tty>,
    generation: u32,
    as_console: bool,
}

impl SlaveFile {
    /// Opens it; `as_console` by `/dev/console`.
    ///
    /// # Errors
    /// EBUSY if somebody has it for himself; those of [`hvc::opened`].
    pub fn open(tty: &Arc<Tty>, as_console: bool) -> KResult<Self> {
        if tty.exclusive.load(Ordering::Relaxed) && !current().process.credentials().is_privileged() {
            return Err(Errno::EBUSY);
        }
        match &tty.far {
            Far::Console => {}
            Far::Device => hvc::opened()?,
            Far::Pty(pty) => pty.slave_opened(),
        }
        Ok(Self { tty: tty.clone(), generation: tty.generation(), as_console })
    }

    fn opened(&self, file: Option<&OpenFile>) -> Opened {
        Opened {
            generation: self.generation,
            as_console: self.as_console,
            nonblocking: file.is_some_and(OpenFile::is_nonblocking),
        }
    }
}

impl FileOps for SlaveFile {
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        let opened = self.opened(Some(file));
        if self.tty.is_hung_up(opened) {
            return Ok(0);
        }
        self.tty.check_foreground(SIGTTIN)?;
        self.tty.read(opened, to)
    }

    fn write(&self, file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        let opened = self.opened(Some(file));
        if self.tty.is_hung_up(opened) {
            return Err(Errno::EIO);
        }
        let stops_background = self.tty.line.lock().termios().local().contains(LocalFlags::TOSTOP);
        if stops_background {
            self.tty.check_foreground(SIGTTOU)?;
        }
        self.tty.write(opened, from)
    }

    fn poll(&self) -> PollEvents {
        self.tty.poll(self.opened(None))
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(&self.tty.readers);
        visit(&self.tty.writers);
    }

    fn ioctl(&self, _file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        if self.tty.is_hung_up(self.opened(None)) {
            return Err(Errno::EIO);
        }
        ioctl::ioctl(&self.tty, Side::Terminal, request, argument)
    }
}

impl Drop for SlaveFile {
    fn drop(&mut self) {
        match &self.tty.far {
            Far::Console => {}
            Far::Device => hvc::closed(),
            Far::Pty(pty) => pty.slave_closed(),
        }
    }
}
