//! One timer of `timer_create(2)`.
//!
//! A periodic timer does not go on before its signal has been taken: one signal at most is under way for each timer,
//! and the periods missed meanwhile are its overrun.

use alloc::sync::{Arc, Weak};

use platform::Nanoseconds;

use super::clocks::CpuTimeKind;
use super::cpu_time::ProcessTime;
use super::interval::{MIN_PERIOD, next_period};
use super::process_timers::look;
use super::timers::{TimerHandle, TimerTarget, arm};
use super::{now, realtime, wall};
use crate::errno::KResult;
use crate::process::{Pid, Process, Task};
use crate::signal::{self, Sent, SigInfo, Signal};
use crate::sync::{IrqLock, Wake};

/// A timer whose signal is ignored repeats no faster than this.
const IGNORED_PERIOD: Nanoseconds = Nanoseconds::MILLISECOND;

/// What a timer runs by.
pub(super) enum TimerClock {
    Monotonic,
    Realtime,
    /// CPU time of its own process.
    Process(CpuTimeKind),
    /// CPU time of a thread of its own process.
    Thread(Weak<Task>, CpuTimeKind),
}

/// What a timer does when it expires.
#[derive(Clone, Copy)]
pub(super) enum Notify {
    Nothing,
    Process(Signal),
    Thread(Signal, Pid),
}

/// A timer of `timer_create(2)`.
pub(super) struct PosixTimer {
    me: Weak<Self>,
    process: Weak<Process>,
    id: i32,
    clock: TimerClock,
    notify: Notify,
    /// What the handler is given.
    value: u64,
    state: IrqLock<State>,
}

#[derive(Default)]
struct State {
    /// Set for good when the timer is deleted.
    stopped: bool,
    handle: Option<TimerHandle>,
    /// When it expires next, on its own clock; none if disarmed.
    deadline: Option<Nanoseconds>,
    /// The deadline is on the wall clock, which may be set.
    on_wall_clock: bool,
    /// Zero if it does not repeat.
    interval: Nanoseconds,
    /// A signal is under way.
    signal_out: bool,
    /// Periods missed since that signal was sent (CPU time only).
    missed: u64,
    /// Overrun of the signal taken last.
    overrun: i32,
}

/// What is set or left: time to (or of) the next expiration, and between expirations; zero is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Setting {
    pub(super) value: Nanoseconds,
    pub(super) interval: Nanoseconds,
}

/// A number of periods as `timer_getoverrun(2)` shows it.
fn as_overrun(periods: u64) -> i32 {
    periods.min(i32::MAX as u64) as i32
}

impl PosixTimer {
    /// A timer that is not armed.
    pub(super) fn new(
        process: &Arc<Process>,
        id: i32,
        clock: TimerClock,
        notify: Notify,
        value: u64,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            process: Arc::downgrade(process),
            id,
            clock,
            notify,
            value,
            state: IrqLock::new(State::default()),
        })
    }

    /// Whether it runs by CPU time, which must be looked at.
    pub(super) fn is_on_cpu_time(&self) -> bool {
        matches!(self.clock, TimerClock::Process(_) | TimerClock::Thread(..))
    }

    /// Overrun of the signal taken last.
    pub(super) fn overrun(&self) -> i32 {
        self.state.lock().overrun
    }

    /// What its clock shows, for a deadline on the wall clock or not. Context: no run queue locked.
    fn read_clock(&self, on_wall_clock: bool, process: &Process) -> Nanoseconds {
        match &self.clock {
            TimerClock::Realtime if on_wall_clock => realtime(),
            TimerClock::Realtime | TimerClock::Monotonic => now(),
            TimerClock::Process(kind) => ProcessTime::of(process).get(*kind),
            TimerClock::Thread(task, kind) => match (task.upgrade(), kind) {
                (Some(task), CpuTimeKind::All) => task.runtime(),
                (Some(task), CpuTimeKind::User) => process.split(task.runtime()).0,
                // Its time stands still.
                (None, _) => Nanoseconds::ZERO,
            },
        }
    }

    /// Arms or disarms it. Returns what was left before.
    pub(super) fn set(&self, process: &Arc<Process>, setting: Setting, absolute: bool) -> KResult<Setting> {
        let old = self.get(process);
        let on_wall_clock = absolute && matches!(self.clock, TimerClock::Realtime);
        let reading = self.read_clock(on_wall_clock, process);
        let armed = setting.value != Nanoseconds::ZERO;
        self.follow_wall_clock(armed && on_wall_clock)?;

        let mut state = self.state.lock();
        if let Some(handle) = state.handle.take() {
            handle.try_cancel();
        }
        state.signal_out = false;
        state.missed = 0;
        state.overrun = 0;
        state.on_wall_clock = on_wall_clock;
        state.interval = setting.interval;
        let deadline = if absolute { setting.value } else { reading.saturating_add(setting.value) };
        state.deadline = armed.then_some(deadline);
        self.arm(&mut state)?;
        drop(state);
        if armed && self.is_on_cpu_time() {
            look(process);
        }
        Ok(old)
    }

    /// What is left.
    pub(super) fn get(&self, process: &Process) -> Setting {
        let on_wall_clock = self.state.lock().on_wall_clock;
        let reading = self.read_clock(on_wall_clock, process);
        let state = self.state.lock();
        let value = match state.deadline {
            None => Nanoseconds::ZERO,
            Some(deadline) if deadline > reading => deadline - reading,
            // It waits for its signal to be taken, or nobody is told.
            Some(deadline) if state.interval != Nanoseconds::ZERO => {
                next_period(deadline, state.interval, reading).0 - reading
            }
            Some(_) if matches!(self.notify, Notify::Nothing) => Nanoseconds::ZERO,
            // It is about to expire.
            Some(_) => Nanoseconds(1),
        };
        Setting { value, interval: state.interval }
    }

    /// Disarms it for good.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.deadline = None;
        let handle = state.handle.take();
        drop(state);
        if let Some(handle) = handle {
            handle.try_cancel();
        }
        let _left = self.follow_wall_clock(false);
    }

    fn follow_wall_clock(&self, follow: bool) -> KResult<()> {
        if let (TimerClock::Realtime, Some(me)) = (&self.clock, self.me.upgrade()) {
            let watcher: Arc<dyn Wake> = me;
            wall::CLOCK_WAS_SET.unwatch(&watcher);
            if follow {
                return wall::CLOCK_WAS_SET.watch(watcher);
            }
        }
        Ok(())
    }

    /// Arms this CPU's timers for the deadline, where there is one that time alone reaches and somebody to tell.
    fn arm(&self, state: &mut State) -> KResult<()> {
        let at = match (&self.clock, state.deadline) {
            (TimerClock::Realtime, Some(deadline)) if state.on_wall_clock => wall::monotonic_of(deadline),
            (TimerClock::Realtime | TimerClock::Monotonic, Some(deadline)) => deadline,
            _ => return Ok(()),
        };
        if state.stopped || matches!(self.notify, Notify::Nothing) {
            return Ok(());
        }
        if let Some(me) = self.me.upgrade() {
            state.handle = Some(arm(at, me)?);
        }
        Ok(())
    }

    /// Sends the signal. Context: no lock held.
    fn tell(&self, process: &Arc<Process>) -> Sent {
        match self.notify {
            Notify::Nothing => Sent::Ignored,
            Notify::Process(signal) => {
                signal::send_process(process, SigInfo::timer(signal, self.id, self.value))
            }
            Notify::Thread(signal, tid) => {
                let task = process.threads.lock().iter().find(|task| task.tid() == tid).cloned();
                task.map_or(Sent::Ignored, |task| {
                    signal::send_task(&task, SigInfo::timer(signal, self.id, self.value))
                })
            }
        }
    }

    /// Its signal is about to reach the program. Returns the overrun. Context: the locks of signals held.
    pub(super) fn signal_taken(&self) -> i32 {
        let mut state = self.state.lock();
        if !state.signal_out {
            return 0;
        }
        state.signal_out = false;
        state.overrun = as_overrun(state.missed);
        state.missed = 0;
        if !self.is_on_cpu_time() {
            state.overrun = as_overrun(self.go_on(&mut state, MIN_PERIOD));
        }
        state.overrun
    }

    /// Arms a periodic timer that has expired for its next period; returns how many it missed.
    fn go_on(&self, state: &mut State, min_period: Nanoseconds) -> u64 {
        let Some(deadline) = state.deadline else { return 0 };
        let reading = if state.on_wall_clock { realtime() } else { now() };
        let (next, passed) = next_period(deadline, state.interval, reading);
        // Not sooner than the shortest period from now; the overrun counts those left out.
        let soonest = reading.saturating_add(min_period.saturating_sub(state.interval));
        state.deadline = Some(next_period(next, state.interval, soonest).0.max(next));
        if self.arm(state).is_err() {
            log::error!("no memory to go on with timer {}", self.id);
            state.deadline = None;
        }
        passed.saturating_sub(1)
    }

    /// For a timer by CPU time: sends the signal if it is due; returns how much CPU time is left to the next one.
    /// Context: no lock held.
    pub(super) fn look(&self, process: &Arc<Process>, time: ProcessTime) -> Option<Nanoseconds> {
        let used = match &self.clock {
            TimerClock::Process(kind) => time.get(*kind),
            _ => self.read_clock(false, process),
        };
        let mut state = self.state.lock();
        let deadline = state.deadline?;
        if deadline > used {
            return Some(deadline - used);
        }
        let mut left = None;
        let mut passed = 1;
        if state.interval == Nanoseconds::ZERO {
            state.deadline = None;
        } else {
            let next;
            (next, passed) = next_period(deadline, state.interval, used);
            state.deadline = Some(next);
            left = Some(next - used);
        }
        if state.signal_out {
            state.missed = state.missed.saturating_add(passed);
            return left;
        }
        state.signal_out = true;
        state.missed = passed - 1;
        drop(state);
        if self.tell(process) == Sent::Ignored {
            self.state.lock().signal_out = false;
        }
        left
    }
}

impl TimerTarget for PosixTimer {
    fn expired(self: Arc<Self>, at: Nanoseconds) {
        let mut state = self.state.lock();
        let due = match state.deadline {
            Some(deadline) if state.on_wall_clock => wall::monotonic_of(deadline) <= at,
            Some(deadline) => deadline <= at,
            None => false,
        };
        let Some(process) = self.process.upgrade().filter(|_| due && !state.signal_out) else { return };
        if state.interval == Nanoseconds::ZERO {
            state.deadline = None;
        }
        state.handle = None;
        state.signal_out = true;
        drop(state);
        if self.tell(&process) == Sent::Ignored {
            let mut state = self.state.lock();
            if core::mem::take(&mut state.signal_out) {
                self.go_on(&mut state, IGNORED_PERIOD);
            }
        }
    }

    fn owner(&self) -> usize {
        self.process.as_ptr().addr()
    }
}

/// The wall clock has been set.
impl Wake for PosixTimer {
    fn wake(&self) {
        let mut state = self.state.lock();
        let Some(handle) = state.handle.take() else { return };
        handle.try_cancel();
        if self.arm(&mut state).is_err() {
            log::error!("no memory to go on with timer {}", self.id);
            state.deadline = None;
        }
    }
}
