//! Timers that can be waited for (`timerfd_create(2)`).

use alloc::sync::Arc;
use core::any::Any;

use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use crate::fs::io::IoDst;
use crate::fs::poll::PollEvents;
use crate::fs::table::{Fd, OnExec, install, usable_file};
use crate::process::current;
use crate::sync::WaitQueue;
use crate::syscall::{Call, SysResult};
use crate::time::abi::Itimerspec;
use crate::time::{SourceClock, Start, TimerSource, TimerSpec};

const CLOCK_REALTIME_ALARM: i32 = 8;
const CLOCK_BOOTTIME_ALARM: i32 = 9;
const ABSOLUTE: u32 = 1;
const CANCEL_ON_SET: u32 = 2;

struct TimerFile(TimerSource);

impl FileOps for TimerFile {
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let expirations = match self.0.take_expirations()? {
            Some(expirations) => expirations,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self.0.readers().wait(|| self.0.take_expirations().transpose())??,
        };
        to.write_whole(&expirations.to_ne_bytes())?;
        Ok(8)
    }

    fn poll(&self) -> PollEvents {
        if self.0.is_ready() { PollEvents::IN } else { PollEvents::empty() }
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(self.0.readers());
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

pub(super) fn timerfd_create(call: &mut Call<'_>) -> SysResult {
    let (clock, flags) = (call.int(0), call.uint(1));
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let source = TimerSource::new(SourceClock::from_number(clock)?);
    let wakes_machine = matches!(clock, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM);
    if wakes_machine && !current().process.credentials.lock().is_privileged() {
        return Err(Errno::EPERM);
    }
    let flags_kept = O_RDWR | (flags & O_NONBLOCK);
    let file = OpenFile::device("anon_inode:[timerfd]", Arc::new(TimerFile(source)), flags_kept);
    Ok(install(file, OnExec::close_if(flags & O_CLOEXEC != 0))?.0 as u64)
}

fn to_user(spec: TimerSpec) -> Itimerspec {
    Itimerspec { interval: spec.interval.into(), value: spec.value.into() }
}

pub(super) fn timerfd_settime(call: &mut Call<'_>) -> SysResult {
    let (flags, new, old) = (call.uint(1), call.user(2), call.user(3));
    let new: Itimerspec = new.read()?;
    if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let spec = TimerSpec { value: new.value.duration()?, interval: new.interval.duration()? };
    let file = usable_file(Fd(call.int(0)))?;
    let TimerFile(source) = file.ops_as().ok_or(Errno::EINVAL)?;
    let start = match (flags & ABSOLUTE != 0, flags & CANCEL_ON_SET != 0) {
        (true, true) => Start::AbsoluteUntilClockIsSet,
        (true, false) => Start::Absolute,
        (false, _) => Start::Relative,
    };
    let before = source.set(spec, start)?;
    if !old.is_null() {
        old.write(&to_user(before))?;
    }
    Ok(0)
}

pub(super) fn timerfd_gettime(call: &mut Call<'_>) -> SysResult {
    let file = usable_file(Fd(call.int(0)))?;
    let TimerFile(source) = file.ops_as().ok_or(Errno::EINVAL)?;
    call.user(1).write(&to_user(source.get()))?;
    Ok(0)
}
