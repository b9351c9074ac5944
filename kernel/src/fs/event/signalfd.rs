//! Signals taken by reading (`signalfd(2)`).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use crate::fs::io::IoDst;
use crate::fs::poll::PollEvents;
use crate::fs::table::{Fd, OnExec, install, usable_file};
use crate::process::{Process, current};
use crate::signal::{SigInfo, SignalSet, has_signal, read_mask, take_signal};
use crate::sync::{SpinLock, WaitQueue, Wake};
use crate::syscall::{Call, SysResult};

/// Bytes of a `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// Woken whenever a signal arrives at a process that has watched the file.
struct Arrivals(WaitQueue);

impl Wake for Arrivals {
    fn wake(&self) {
        self.0.wake_all();
    }
}

/// Gives those of its signals that are pending for whoever reads it.
struct SignalFile {
    wanted: SpinLock<SignalSet>,
    arrivals: Arc<Arrivals>,
    /// The processes whose signals are told on to `arrivals`.
    heard: SpinLock<Vec<Weak<Process>>>,
}

impl SignalFile {
    fn wanted(&self) -> SignalSet {
        *self.wanted.lock()
    }

    /// Has the arrivals at the running process told on.
    fn hear(&self) -> KResult<()> {
        let process = current().process.clone();
        let mut heard = self.heard.lock();
        if !heard.iter().any(|known| core::ptr::eq(known.as_ptr(), &raw const *process)) {
            heard.retain(|known| known.strong_count() > 0);
            heard.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            process.signals.arrivals.watch(self.arrivals.clone())?;
            heard.push(process.downgrade());
        }
        Ok(())
    }

    fn first(&self, file: &OpenFile) -> KResult<SigInfo> {
        match take_signal(self.wanted()) {
            Some(info) => Ok(info),
            None if file.is_nonblocking() => Err(Errno::EAGAIN),
            None => Ok(current().process.signals.arrivals.wait(|| take_signal(self.wanted()))?),
        }
    }
}

impl FileOps for SignalFile {
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        if to.remaining() < RECORD {
            return Err(Errno::EINVAL);
        }
        let mut next = Some(self.first(file)?);
        let mut records = 0;
        while let Some(info) = next {
            match to.write_whole(&info.to_signalfd()) {
                Ok(_) => records += 1,
                Err(error) if records == 0 => return Err(error),
                Err(_) => break,
            }
            next = if to.remaining() >= RECORD { take_signal(self.wanted()) } else { None };
        }
        Ok(records * RECORD)
    }

    fn poll(&self) -> PollEvents {
        if has_signal(self.wanted()) { PollEvents::IN } else { PollEvents::empty() }
    }

    fn prepare_to_watch(&self) -> KResult<()> {
        self.hear()
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(&self.arrivals.0);
    }

    fn released(&self, _file: &OpenFile) {
        let heard = core::mem::take(&mut *self.heard.lock());
        let watcher: Arc<dyn Wake> = self.arrivals.clone();
        for process in heard.iter().filter_map(Weak::upgrade) {
            process.signals.arrivals.unwatch(&watcher);
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

fn create_or_change(fd: i32, wanted: SignalSet, flags: u32) -> SysResult {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if fd != -1 {
        let file = usable_file(Fd(fd))?;
        let signals = file.ops_as::<SignalFile>().ok_or(Errno::EINVAL)?;
        *signals.wanted.lock() = wanted;
        // What is pending may be wanted from now on.
        current().process.signals.arrivals.wake_all();
        return Ok(fd as u64);
    }
    let signals = Arc::new(SignalFile {
        wanted: SpinLock::new(wanted),
        arrivals: Arc::new(Arrivals(WaitQueue::new())),
        heard: SpinLock::new(Vec::new()),
    });
    let file = OpenFile::device("anon_inode:[signalfd]", signals, O_RDWR | (flags & O_NONBLOCK));
    Ok(install(file, OnExec::close_if(flags & O_CLOEXEC != 0))?.0 as u64)
}

fn mask(call: &Call<'_>) -> KResult<SignalSet> {
    let (from, size) = (call.user(1), call.size(2));
    if size != size_of::<SignalSet>() {
        return Err(Errno::EINVAL);
    }
    read_mask(from, size)?.ok_or(Errno::EFAULT)
}

pub(super) fn signalfd(call: &mut Call<'_>) -> SysResult {
    create_or_change(call.int(0), mask(call)?, 0)
}

pub(super) fn signalfd4(call: &mut Call<'_>) -> SysResult {
    create_or_change(call.int(0), mask(call)?, call.uint(3))
}
