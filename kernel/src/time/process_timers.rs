//! The timers of a process, and looking after its CPU time without a tick.
//!
//! CPU time cannot be waited for: it advances while threads run. While some thread runs or is ready, a timer looks
//! again when the nearest target can have been reached at the soonest; while all threads wait there is no timer, and
//! the scheduler says when one runs again ([`ProcessTimers::thread_runs`]).
//!
//! Lock order: run queue, then [`ProcessTimers`], then a POSIX timer, then a CPU's timers. Signals are sent, and CPU
//! time is read, with none of them held.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering, fence};

use platform::Nanoseconds;

use super::clocks::CpuTimeKind;
use super::cpu_time::{ProcessTime, soonest};
use super::interval::{CpuInterval, RealInterval};
use super::now;
use super::posix::PosixTimer;
use super::timers::{TimerHandle, TimerTarget, arm, wait_for_functions};
use crate::process::{Limit, Process, Task, limits};
use crate::signal::{self, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU, SigInfo, Signal};
use crate::sync::IrqLock;

/// The timers of a process: those of `setitimer(2)` and `timer_create(2)`, and its limit of CPU time.
pub struct ProcessTimers {
    pub(super) state: IrqLock<State>,
    /// CPU time is looked after, but no thread runs and no timer is armed for it.
    parked: AtomicBool,
}

pub(super) struct State {
    /// The process ends: nothing is armed any more.
    ended: bool,
    pub(super) real: Option<RealInterval>,
    /// ITIMER_VIRTUAL.
    pub(super) user: Option<CpuInterval>,
    /// ITIMER_PROF.
    pub(super) all: Option<CpuInterval>,
    cpu_limit: Option<Limit>,
    /// Timer for the next look at CPU time.
    look: Option<TimerHandle>,
    /// How long a thread may run, once one does, before the next look.
    parked_for: Nanoseconds,
    /// By number.
    pub(super) posix: Vec<Option<Arc<PosixTimer>>>,
}

impl ProcessTimers {
    /// None armed.
    pub const fn new() -> Self {
        Self {
            state: IrqLock::new(State {
                ended: false,
                real: None,
                user: None,
                all: None,
                cpu_limit: None,
                look: None,
                parked_for: Nanoseconds::ZERO,
                posix: Vec::new(),
            }),
            parked: AtomicBool::new(false),
        }
    }

    /// The process starts another program: its POSIX timers go. Context: a task of it, no lock held.
    pub fn on_exec(&self, process: &Arc<Process>) {
        let timers = core::mem::take(&mut self.state.lock().posix);
        for timer in timers.iter().flatten() {
            timer.stop();
        }
        wait_for_functions(Arc::as_ptr(process).addr());
    }

    /// The process ends: nothing is armed for it any more, and no timer's function refers to it. Context: a task, no
    /// lock held.
    pub fn on_exit(&self, process: &Arc<Process>) {
        let mut state = self.state.lock();
        state.ended = true;
        let handles = [state.look.take(), state.real.take().map(|real| real.handle)];
        drop(state);
        self.parked.store(false, Ordering::Relaxed);
        for handle in handles.into_iter().flatten() {
            handle.try_cancel();
        }
        self.on_exec(process);
    }

    /// A thread has left the list of its process's threads: no timer's function refers to it afterwards. Context: a
    /// task, no lock held.
    pub fn on_thread_exit(&self, task: &Task) {
        if !self.state.lock().posix.is_empty() {
            wait_for_functions(Arc::as_ptr(&task.process).addr());
        }
    }

    /// RLIMIT_CPU has been set. Context: a task, no lock held.
    pub fn set_cpu_limit(&self, process: &Arc<Process>, limit: Limit) {
        let limit = real_limit(limit);
        self.state.lock().cpu_limit = limit;
        if limit.is_some() {
            look(process);
        }
    }

    /// A new process, which does not run yet, has RLIMIT_CPU of its parent.
    pub fn inherit_cpu_limit(&self, limit: Limit) {
        if let Some(limit) = real_limit(limit) {
            self.state.lock().cpu_limit = Some(limit);
            self.parked.store(true, Ordering::Relaxed);
        }
    }

    /// A thread of `process` is put on this CPU. Context: the scheduler, this CPU's run queue locked.
    #[inline]
    pub fn thread_runs(&self, process: &Arc<Process>) {
        if self.parked.load(Ordering::Relaxed) {
            self.unpark(process);
        }
    }

    #[cold]
    fn unpark(&self, process: &Arc<Process>) {
        let mut state = self.state.lock();
        if !self.parked.load(Ordering::Relaxed) || state.ended {
            return;
        }
        let after = state.parked_for;
        // Without memory for the timer it stays parked, and the next switch tries again.
        if state.look_after(process, after) {
            self.parked.store(false, Ordering::Relaxed);
        }
    }
}

impl Default for ProcessTimers {
    fn default() -> Self {
        Self::new()
    }
}

fn real_limit(limit: Limit) -> Option<Limit> {
    (limit.soft != limits::INFINITY || limit.hard != limits::INFINITY).then_some(limit)
}

impl State {
    /// Whether the process ends.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether anything depends on CPU time.
    fn watches_cpu_time(&self) -> bool {
        self.user.is_some()
            || self.all.is_some()
            || self.cpu_limit.is_some()
            || self.posix.iter().flatten().any(|timer| timer.is_on_cpu_time())
    }

    fn look_after(&mut self, process: &Arc<Process>, after: Nanoseconds) -> bool {
        if let Some(old) = self.look.take() {
            old.try_cancel();
        }
        self.look = arm(now().saturating_add(after), process.clone()).ok();
        self.look.is_some()
    }
}

/// Signals found due at a look, to be sent without locks.
#[derive(Default)]
struct Due {
    user: bool,
    all: bool,
    soft_limit: bool,
    hard_limit: bool,
}

impl Due {
    fn signals(&self) -> impl Iterator<Item = Signal> {
        [(self.user, SIGVTALRM), (self.all, SIGPROF), (self.soft_limit, SIGXCPU), (self.hard_limit, SIGKILL)]
            .into_iter()
            .filter_map(|(due, signal)| due.then_some(signal))
    }
}

/// Looks at the CPU time of `process`, sends what is due and arranges the next look. Context: any, but no lock held.
pub(super) fn look(process: &Arc<Process>) {
    let timers = &process.timers;
    if !timers.state.lock().watches_cpu_time() {
        return;
    }
    let time = ProcessTime::of(process);
    let mut due = Due::default();
    let mut nearest: Option<Nanoseconds> = None;
    let mut note = |left: Option<Nanoseconds>| nearest = nearest.into_iter().chain(left).min();

    let mut state = timers.state.lock();
    if state.ended {
        return;
    }
    let State { user, all, cpu_limit, .. } = &mut *state;
    due.user = CpuInterval::advance(user, time.get(CpuTimeKind::User));
    due.all = CpuInterval::advance(all, time.get(CpuTimeKind::All));
    note(user.as_ref().map(|timer| timer.left(time.get(CpuTimeKind::User))));
    note(all.as_ref().map(|timer| timer.left(time.get(CpuTimeKind::All))));
    if let Some(limit) = cpu_limit {
        let used = time.get(CpuTimeKind::All);
        due.hard_limit = used >= Nanoseconds::from_seconds(limit.hard);
        due.soft_limit = !due.hard_limit && used >= Nanoseconds::from_seconds(limit.soft);
        if due.soft_limit {
            // Once a second from then on.
            limit.soft = used.seconds() + 1;
        }
        let next = Nanoseconds::from_seconds(limit.soft.min(limit.hard));
        note((!due.hard_limit).then(|| next.saturating_sub(used)));
    }
    let posix: Vec<_> =
        state.posix.iter().flatten().filter(|timer| timer.is_on_cpu_time()).cloned().collect();
    drop(state);

    for signal in due.signals() {
        signal::send_process(process, SigInfo::kernel(signal));
    }
    for timer in &posix {
        note(timer.look(process, time));
    }
    if let Some(left) = nearest {
        arrange_look(process, soonest(process, left));
    }
}

fn arrange_look(process: &Arc<Process>, after: Nanoseconds) {
    let timers = &process.timers;
    let busy = any_thread_runnable(process);
    let mut state = timers.state.lock();
    if state.ended {
        return;
    }
    state.parked_for = after;
    let parks = !(busy && state.look_after(process, after));
    timers.parked.store(parks, Ordering::Relaxed);
    drop(state);
    // A thread that became ready before it could see that it must say so is seen here.
    fence(Ordering::SeqCst);
    if parks && any_thread_runnable(process) {
        timers.unpark(process);
    }
}

fn any_thread_runnable(process: &Process) -> bool {
    process.threads.lock().iter().any(|task| task.sched.is_runnable())
}

/// Told when the real-time interval timer expires, and when it is time to look at the CPU time.
impl TimerTarget for Process {
    fn expired(self: Arc<Self>, at: Nanoseconds) {
        let mut state = self.timers.state.lock();
        let rings = RealInterval::advance(&mut state.real, at, &self);
        drop(state);
        if rings {
            signal::send_process(&self, SigInfo::kernel(SIGALRM));
        }
        // One look too many does no harm.
        look(&self);
    }
}

/// A signal that a POSIX timer has sent is about to reach the program: the timer goes on. Returns what the signal
/// carries as its overrun. Context: any, the locks of signals held.
pub fn timer_signal_taken(process: &Process, id: i32) -> i32 {
    let timer = process.timers.posix(id);
    timer.map_or(0, |timer| timer.signal_taken())
}
