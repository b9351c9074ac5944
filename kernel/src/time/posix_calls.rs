//! System calls on POSIX timers.

use alloc::sync::Arc;

use super::abi::{Itimerspec, Sigevent, Timespec};
use super::clocks::{ClockId, Form};
use super::posix::{Notify, PosixTimer, Setting, TimerClock};
use super::process_timers::ProcessTimers;
use super::timers::wait_for_functions;
use crate::errno::{Errno, KResult};
use crate::process::{Pid, Process, Resource, current};
use crate::signal::{SIGALRM, Signal};
use crate::syscall::{Call, SysResult};

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;
const TIMER_ABSTIME: i32 = 1;

/// Timers of one process, where RLIMIT_SIGPENDING allows more.
const MAX_TIMERS: usize = 32768;

impl ProcessTimers {
    /// The timer with this number.
    pub(super) fn posix(&self, id: i32) -> Option<Arc<PosixTimer>> {
        let index = usize::try_from(id).ok()?;
        self.state.lock().posix.get(index).cloned().flatten()
    }

    /// Adds a timer with the lowest free number.
    fn add(&self, limit: usize, make: impl FnOnce(i32) -> Arc<PosixTimer>) -> KResult<i32> {
        let mut state = self.state.lock();
        let timers = &mut state.posix;
        let index = timers.iter().position(Option::is_none).unwrap_or(timers.len());
        if index >= limit {
            return Err(Errno::EAGAIN);
        }
        if index == timers.len() {
            timers.try_reserve(1).map_err(|_| Errno::EAGAIN)?;
            timers.push(None);
        }
        timers[index] = Some(make(index as i32));
        Ok(index as i32)
    }

    fn remove(&self, id: i32) -> Option<Arc<PosixTimer>> {
        let index = usize::try_from(id).ok()?;
        self.state.lock().posix.get_mut(index)?.take()
    }
}

fn timer_clock(clock: ClockId, process: &Arc<Process>) -> KResult<TimerClock> {
    match clock {
        ClockId::Realtime(Form::ReadOnly) | ClockId::Monotonic(Form::ReadOnly) => Err(Errno::EOPNOTSUPP),
        ClockId::Realtime(_) => Ok(TimerClock::Realtime),
        ClockId::Monotonic(_) => Ok(TimerClock::Monotonic),
        ClockId::Process(pid, kind) if pid == Pid(0) || pid == process.pid => Ok(TimerClock::Process(kind)),
        ClockId::Process(..) => Err(Errno::EINVAL),
        ClockId::Thread(tid, kind) => {
            let tid = if tid == Pid(0) { current().tid() } else { tid };
            let threads = process.threads.lock();
            let task = threads.iter().find(|task| task.tid() == tid).ok_or(Errno::EINVAL)?;
            Ok(TimerClock::Thread(Arc::downgrade(task), kind))
        }
    }
}

fn notification(event: &Sigevent, process: &Process) -> KResult<Notify> {
    if event.notify == SIGEV_NONE {
        return Ok(Notify::Nothing);
    }
    let signal = Signal::new(event.signal).ok_or(Errno::EINVAL)?;
    match event.notify {
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(Notify::Process(signal)),
        SIGEV_THREAD_ID => {
            let tid = Pid(event.thread);
            let known = process.threads.lock().iter().any(|task| task.tid() == tid);
            if known { Ok(Notify::Thread(signal, tid)) } else { Err(Errno::EINVAL) }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `timer_create(2)`
pub(super) fn timer_create(call: &mut Call<'_>) -> SysResult {
    let task = current();
    let process = &task.process;
    let clock = timer_clock(ClockId::from_number(call.int(0))?, process)?;
    let (event, id_to) = (call.user(1), call.user(2));
    let event = if event.is_null() { None } else { Some(event.read::<Sigevent>()?) };
    let notify = event.as_ref().map_or(Ok(Notify::Process(SIGALRM)), |event| notification(event, process))?;
    let limit = process.limits.lock().get(Resource::PendingSignals).soft.min(MAX_TIMERS as u64) as usize;
    let id = process.timers.add(limit, |id| {
        let value = event.map_or(id as u64, |event| event.value);
        PosixTimer::new(process, id, clock, notify, value)
    })?;
    if let Err(error) = id_to.write(&id) {
        process.timers.remove(id);
        return Err(error);
    }
    Ok(0)
}

fn find(call: &Call<'_>) -> KResult<Arc<PosixTimer>> {
    current().process.timers.posix(call.int(0)).ok_or(Errno::EINVAL)
}

fn to_user(setting: Setting) -> Itimerspec {
    Itimerspec { interval: Timespec::from(setting.interval), value: Timespec::from(setting.value) }
}

/// `timer_settime(2)`
pub(super) fn timer_settime(call: &mut Call<'_>) -> SysResult {
    let (new, old_to) = (call.user(2), call.user(3));
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let new = new.read::<Itimerspec>()?;
    let setting = Setting { interval: new.interval.duration()?, value: new.value.duration()? };
    let absolute = call.int(1) & TIMER_ABSTIME != 0;
    let process = &current().process;
    let old = find(call)?.set(process, setting, absolute)?;
    // A signal that was due before has been sent when this returns.
    wait_for_functions(Arc::as_ptr(process).addr());
    if !old_to.is_null() {
        old_to.write(&to_user(old))?;
    }
    Ok(0)
}

/// `timer_gettime(2)`
pub(super) fn timer_gettime(call: &mut Call<'_>) -> SysResult {
    let setting = find(call)?.get(&current().process);
    call.user(1).write(&to_user(setting))?;
    Ok(0)
}

/// `timer_getoverrun(2)`
pub(super) fn timer_getoverrun(call: &mut Call<'_>) -> SysResult {
    Ok(find(call)?.overrun() as u64)
}

/// `timer_delete(2)`
pub(super) fn timer_delete(call: &mut Call<'_>) -> SysResult {
    let task = current();
    let timer = task.process.timers.remove(call.int(0)).ok_or(Errno::EINVAL)?;
    timer.stop();
    wait_for_functions(Arc::as_ptr(&task.process).addr());
    Ok(0)
}
