//! Timers of each CPU, and the platform's one-shot event that serves them.
//!
//! Lock order: run queue, then a CPU's timers. A timer's function runs in the interrupt with neither held.

use alloc::collections::TryReserveError;
use alloc::sync::Arc;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::{CpuId, Nanoseconds};

use super::now;
use super::queue::{self, TimerQueue};
use crate::errno::{Errno, KResult};
use crate::hook::timer;
use crate::percpu::{self, PerCpu, cpu_id, this_cpu};
use crate::process::{Task, current};
use crate::sched::{self, RunQueue};

/// What is told when a timer expires.
pub trait TimerTarget: Send + Sync {
    /// The deadline has passed; the timer is no longer armed. Context: the interrupt, interrupts disabled; `now` is
    /// the time the interrupt was taken. A timer it arms itself must lie after `now`.
    fn expired(self: Arc<Self>, now: Nanoseconds);

    /// Whom the timer serves, for [`wait_for_functions`]: an address, compared only.
    fn owner(&self) -> usize {
        (&raw const *self).addr()
    }
}

enum Action {
    Wake(Arc<Task>),
    Tell(Arc<dyn TimerTarget>),
}

struct Timer {
    action: Action,
    /// Tells timers that use the same slot apart while their functions run.
    id: u64,
}

impl Timer {
    fn owner(&self) -> usize {
        match &self.action {
            Action::Wake(_) => NOBODY,
            Action::Tell(target) => target.owner(),
        }
    }
}

/// "No timer" for [`CpuTimers::running`].
const NO_TIMER: u64 = 0;

/// One CPU's timers.
pub struct CpuTimers {
    queue: TimerQueue<Timer>,
    last_id: u64,
    /// The timer whose function runs now, and its owner.
    running: u64,
    running_for: usize,
}

/// "Nobody" for [`CpuTimers::running_for`].
const NOBODY: usize = 0;

impl CpuTimers {
    /// No timer.
    pub const fn new() -> Self {
        Self { queue: TimerQueue::new(), last_id: NO_TIMER, running: NO_TIMER, running_for: NOBODY }
    }

    /// Adds a timer to this CPU's. Context: this CPU's own timers, locked.
    fn add(&mut self, deadline: Nanoseconds, action: Action) -> Result<TimerHandle, TryReserveError> {
        self.queue.reserve(1)?;
        self.last_id += 1;
        let id = self.last_id;
        let handle = self.queue.arm(deadline, Timer { action, id })?;
        self.fire_by(deadline);
        Ok(TimerHandle { cpu: cpu_id(), handle, id })
    }

    /// Makes sure that the event comes no later than `deadline`.
    fn fire_by(&mut self, deadline: Nanoseconds) {
        let event = &this_cpu().timer_event;
        if event.armed_for() > deadline {
            event.arm(deadline);
        }
    }

    /// Arms the event for the first timer or the end of the slice and for nothing else.
    fn fire_at_next(&mut self, slice_end: Option<Nanoseconds>) {
        let first = self.queue.next_deadline();
        let event = &this_cpu().timer_event;
        match first.into_iter().chain(slice_end).min() {
            Some(next) if event.armed_for() != next => event.arm(next),
            Some(_) => {}
            None if event.armed_for() != TimerEvent::NEVER => {
                timer::disarm();
                event.note(TimerEvent::NEVER);
            }
            None => {}
        }
    }
}

/// What the platform's event of a CPU is armed for. Never later than the CPU's first timer; it may be earlier, which costs
/// an interrupt that does nothing but is cheaper than arming the event anew at every change.
///
/// Used by its own CPU only, with interrupts disabled; so the scheduler can look at it without the timers' lock.
pub struct TimerEvent(AtomicU64);

impl TimerEvent {
    const NEVER: Nanoseconds = Nanoseconds(u64::MAX);

    /// Not armed.
    pub const fn new() -> Self {
        Self(AtomicU64::new(Self::NEVER.0))
    }

    #[inline(always)]
    fn armed_for(&self) -> Nanoseconds {
        Nanoseconds(self.0.load(Ordering::Relaxed))
    }

    fn note(&self, deadline: Nanoseconds) {
        self.0.store(deadline.0, Ordering::Relaxed);
    }

    fn arm(&self, deadline: Nanoseconds) {
        timer::arm(deadline);
        self.note(deadline);
    }
}

impl Default for TimerEvent {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for CpuTimers {
    fn default() -> Self {
        Self::new()
    }
}

/// Names an armed timer. Dropping it leaves the timer armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerHandle {
    cpu: CpuId,
    handle: queue::TimerHandle,
    id: u64,
}

impl TimerHandle {
    /// Disarms the timer, from any CPU. When it returns, the timer's function neither runs nor will run. Returns
    /// whether it was still to come. Context: not the timer's own function, and no lock held that it takes.
    pub fn cancel(self) -> bool {
        loop {
            match self.try_cancel() {
                Cancelled::Disarmed => return true,
                Cancelled::Gone => return false,
                Cancelled::Running => spin_loop(),
            }
        }
    }

    /// As [`Self::cancel`], but does not wait for a function that runs.
    pub fn try_cancel(self) -> Cancelled {
        let Some(cpu) = percpu::of(self.cpu) else { return Cancelled::Gone };
        let mut timers = cpu.timers.lock();
        // The event stays armed: see [`TimerEvent`].
        let timer = timers.queue.cancel(self.handle);
        let running = timers.running == self.id;
        drop(timers);
        // What the timer held is dropped without the lock.
        match timer {
            Some(_) => Cancelled::Disarmed,
            None if running => Cancelled::Running,
            None => Cancelled::Gone,
        }
    }
}

/// What [`TimerHandle::try_cancel`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancelled {
    /// It was armed and no longer is.
    Disarmed,
    /// It has expired, and its function runs now.
    Running,
    /// It expired or was cancelled before.
    Gone,
}

/// Keeps a task's wake-up armed; dropping it disarms the timer.
#[must_use = "the wake-up is cancelled when this is dropped"]
#[derive(Debug)]
pub struct TimerGuard(Option<TimerHandle>);

impl Drop for TimerGuard {
    fn drop(&mut self) {
        if let Some(handle) = self.0 {
            handle.cancel();
        }
    }
}

/// Wakes `task` at `deadline`, as [`sched::wake`] does. The deadline may lie in the past: then it wakes at once.
/// Context: a task that may give way and is not about to block yet.
pub fn wake_at(task: &Arc<Task>, deadline: Nanoseconds) -> TimerGuard {
    loop {
        let armed = this_cpu().timers.lock().add(deadline, Action::Wake(task.clone()));
        match armed {
            Ok(handle) => return TimerGuard(Some(handle)),
            // Whoever waits looks at the clock itself before it blocks.
            Err(_) if now() >= deadline => return TimerGuard(None),
            // There is no memory for one more timer: others must run to give some back.
            Err(_) => sched::yield_now(),
        }
    }
}

/// Tells `target` at `deadline`. The deadline may lie in the past: then it is told at once. Context: any, this CPU's
/// timers not locked.
///
/// # Errors
/// ENOMEM.
pub fn arm(deadline: Nanoseconds, target: Arc<dyn TimerTarget>) -> KResult<TimerHandle> {
    this_cpu().timers.lock().add(deadline, Action::Tell(target)).map_err(|_| Errno::ENOMEM)
}

/// Waits until no CPU runs a timer's function for `owner`. Context: a task, no lock held that such a function takes.
pub fn wait_for_functions(owner: usize) {
    for cpu in percpu::online().iter().filter_map(percpu::of) {
        while cpu.timers.lock().running_for == owner {
            spin_loop();
        }
    }
}

/// The event has fired on this CPU. Context: the interrupt, interrupts disabled.
pub fn on_timer_interrupt(from_user: bool) {
    let process = &current().process;
    let samples = if from_user { &process.user_samples } else { &process.system_samples };
    samples.fetch_add(1, Ordering::Relaxed);

    let this = this_cpu();
    let now = now();
    run_expired(this, now);
    let run_queue = this.run_queue.lock();
    let slice_end = sched::slice_expired(&run_queue, now);
    let mut timers = this.timers.lock();
    this.timer_event.note(TimerEvent::NEVER);
    timers.fire_at_next(slice_end);
}

fn run_expired(this: &PerCpu, now: Nanoseconds) {
    loop {
        let mut timers = this.timers.lock();
        // Nothing armed meanwhile need touch the event, which is armed once, at the end.
        this.timer_event.note(Nanoseconds::ZERO);
        timers.running = NO_TIMER;
        timers.running_for = NOBODY;
        let Some((_, timer)) = timers.queue.pop_expired(now) else { return };
        timers.running = timer.id;
        timers.running_for = timer.owner();
        drop(timers);
        match timer.action {
            Action::Wake(task) => sched::wake(&task),
            Action::Tell(target) => target.expired(now),
        }
    }
}

/// The running task of this CPU has changed or another has begun to wait: makes sure that the event comes by the end of
/// the slice. `run_queue` is this CPU's, locked.
#[inline(always)]
pub fn arm_slice(run_queue: &RunQueue) {
    if let Some(end) = run_queue.slice_end()
        && this_cpu().timer_event.armed_for() > end
    {
        this_cpu().timers.lock().fire_by(end);
    }
}

/// This CPU is about to wait for an interrupt: keeps it from being woken for a deadline nobody has any more. Context:
/// the idle task, interrupts disabled.
#[inline]
pub fn before_idle() {
    this_cpu().timers.lock().fire_at_next(None);
}

/// Takes the memory for the first timers of a CPU, so that it is there from the start. Once for each CPU.
pub fn reserve(cpu: &PerCpu) {
    if cpu.timers.lock().queue.reserve(1).is_err() {
        log::warn!("there is no memory for timers");
    }
}

/// Gives back memory that timers took while there were more of them.
pub fn shrink() {
    percpu::online().iter().filter_map(percpu::of).for_each(|cpu| cpu.timers.lock().queue.shrink());
}

/// Timers armed on all CPUs, for reports.
pub fn armed_count() -> usize {
    percpu::online().iter().filter_map(percpu::of).map(|cpu| cpu.timers.lock().queue.len()).sum()
}
