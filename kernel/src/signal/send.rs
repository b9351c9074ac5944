//! Sending signals.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering;

use platform::{CpuSet, Message};

use super::info::code;
use super::number::{DefaultAction, SIGCONT, SIGKILL};
use super::pending::{Added, UserCount};
use super::state::{Reports, State, actions};
use super::{Disposition, SigInfo, Signal, SignalSet, stop};
use crate::errno::{Errno, KResult};
use crate::hook::smp;
use crate::percpu;
use crate::process::tree;
use crate::process::{Pid, Process, Resource, Task, current};
use crate::sched;

/// What became of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It will be delivered, or wait until it is unblocked.
    Queued,
    /// One like it is pending already.
    AlreadyPending,
    /// The receiver ignores it, or has ended.
    Ignored,
}

/// Whom a signal is for.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// Any thread of the process.
    Process,
    /// This thread.
    Thread(&'a Arc<Task>),
}

/// Sends a signal from the kernel to a process. Any context, but not with a signal lock held.
pub fn send_process(process: &Arc<Process>, info: SigInfo) -> Sent {
    send(process, Target::Process, info, None).unwrap_or(Sent::Ignored)
}

/// Sends a signal from the kernel to one thread. Context as for [`send_process`].
pub fn send_task(task: &Arc<Task>, info: SigInfo) -> Sent {
    send(&task.process, Target::Thread(task), info, None).unwrap_or(Sent::Ignored)
}

/// Sends a signal from the kernel to every process of a group, also to those that are just being made. Context as for
/// [`send_process`], and not with the tree of processes held.
pub fn send_group(group: Pid, info: &SigInfo) {
    let tree = tree::lock();
    for process in tree.group_members(group) {
        process.signals.note_broadcast(&tree);
        send_process(&process, info.clone());
    }
}

/// Sends a signal from the kernel to the running task.
pub fn send_to_current(signal: Signal) {
    // What the kernel raises on a thread's behalf is the thread's own doing (SIGPIPE, SIGXFSZ).
    send_task(&current().shared(), SigInfo::user(signal));
}

/// Sends a signal on behalf of the running process, which counts against limits: to all of `process`, or to `thread`. The
/// caller then has [`stop::tell_parent`] tell what has come of it.
pub(super) fn send_for_user(
    process: &Arc<Process>,
    thread: Option<&Arc<Task>>,
    info: SigInfo,
) -> KResult<()> {
    let uid = process.credentials.lock().uid;
    let limit = process.limits.lock().get(Resource::PendingSignals).soft;
    let count = UserCount::take(uid, limit);
    // Ordinary signals of `kill(2)` are never refused; those of `sigqueue(3)` are, rather than lose what they say.
    if count.is_none() && info.signal.is_realtime() && info.code != code::SI_USER {
        return Err(Errno::EAGAIN);
    }
    let target = match thread {
        Some(thread) => Target::Thread(thread),
        None => Target::Process,
    };
    send(process, target, info, count).map(drop)
}

fn send(
    process: &Arc<Process>,
    target: Target<'_>,
    info: SigInfo,
    count: Option<UserCount>,
) -> KResult<Sent> {
    let signal = info.signal;
    let mut state = process.signal_state();
    if !prepare(process, &mut state, target, &info) {
        return Ok(Sent::Ignored);
    }
    let mailbox = match target {
        Target::Process => &process.signals.shared,
        Target::Thread(task) => &task.signals.mailbox,
    };
    match mailbox.add(info, count) {
        Added::Yes => {}
        Added::Already => return Ok(Sent::AlreadyPending),
        Added::NoMemory => return Err(Errno::EAGAIN),
    }
    process.signals.arrivals.wake_all();
    complete(process, &mut state, target, signal);
    Ok(Sent::Queued)
}

/// What the mere sending does, and whether the signal is to be kept at all.
fn prepare(process: &Process, state: &mut State, target: Target<'_>, info: &SigInfo) -> bool {
    let signal = info.signal;
    if state.group_exit.is_some() {
        return false;
    }
    if SignalSet::STOPS.contains(signal) {
        discard(process, SIGCONT.set());
    } else if signal == SIGCONT {
        discard(process, SignalSet::STOPS);
        stop::resume(process, state);
    }
    !is_ignored(process, state, target, info)
}

fn is_ignored(process: &Process, state: &State, target: Target<'_>, info: &SigInfo) -> bool {
    let signal = info.signal;
    // A blocked signal may get a handler before it is unblocked, or is waited for.
    let kept = match target {
        Target::Thread(task) => task.signals.blocked_or_awaited().contains(signal),
        Target::Process => {
            let threads = process.threads.lock();
            threads.first().is_some_and(|task| task.signals.blocked_or_awaited().contains(signal))
        }
    };
    if kept {
        return false;
    }
    let action = process.actions.lock().get(signal);
    if state.protected && action.disposition() == Disposition::Default {
        return !(info.is_from_kernel() && SignalSet::UNBLOCKABLE.contains(signal));
    }
    action.ignores(signal)
}

/// Drops pending signals of a process and all its threads.
pub(super) fn discard(process: &Process, which: SignalSet) {
    process.signals.shared.discard(which);
    for task in process.threads.lock().iter() {
        task.signals.mailbox.discard(which);
    }
}

/// Finds a thread to take the signal and wakes it; ends the whole process at once if that is what it does.
fn complete(process: &Arc<Process>, state: &mut State, target: Target<'_>, signal: Signal) {
    // Held on: a thread in the list is not freed, which must not happen here.
    let threads = process.threads.lock();
    let chosen = match target {
        Target::Thread(task) => wants(task, signal).then_some(task),
        // The first that has nothing else to look at; else any that does not block it.
        Target::Process => threads
            .iter()
            .find(|task| wants(task, signal) && !task.has_signal_work())
            .or_else(|| threads.iter().find(|task| wants(task, signal))),
    };
    let Some(chosen) = chosen else { return };
    if is_fatal(process, state, signal) && !chosen.signals.awaited().contains(signal) {
        drop(threads);
        // Every thread has to go, and none is asked first whether it has something better to do.
        begin_exit(process, state, signal.number() as u32);
    } else {
        wake(chosen, signal == SIGKILL);
    }
}

fn wants(task: &Task, signal: Signal) -> bool {
    let signals = &task.signals;
    // What is stopped looks at nothing but SIGKILL until it goes on; then it sees what is pending by itself.
    let looks = signal == SIGKILL || !signals.stopped.load(Ordering::Relaxed);
    looks && !signals.blocked().contains(signal) && !signals.must_end.load(Ordering::Relaxed)
}

/// Whether the signal ends the process with nothing more to be done.
fn is_fatal(process: &Process, state: &State, signal: Signal) -> bool {
    let by_default = process.actions.lock().get(signal).disposition() == Disposition::Default;
    let protected = state.protected && !SignalSet::UNBLOCKABLE.contains(signal);
    by_default && !protected && signal.default_action() == DefaultAction::Terminate
}

/// From now on every thread of the process does nothing but end, with this wait status.
pub(super) fn begin_exit(process: &Process, state: &mut State, status: u32) {
    if state.group_exit.is_none() {
        state.group_exit = Some(status);
    }
    state.stop = None;
    // All that can be waited for any more is the end.
    state.reports = Reports::default();
    for task in process.threads.lock().iter() {
        wake(task, true);
    }
}

/// Makes `task` look at its signals: wakes it if it waits (also if it is stopped, with `even_stopped`), interrupts it
/// if it is in user mode on another CPU.
pub(super) fn wake(task: &Arc<Task>, even_stopped: bool) {
    task.note_signal_work();
    sched::wake_stopped(task, even_stopped);
    interrupt(task);
}

/// Lets a task that runs on another CPU enter the kernel. One that runs here will leave it anyway.
fn interrupt(task: &Arc<Task>) {
    loop {
        let cpu = task.sched.cpu();
        if cpu == percpu::cpu_id() || !task.sched.is_runnable() {
            return;
        }
        let Some(there) = percpu::of(cpu) else { return };
        // Under the queue's lock: a task put on the CPU later sees the work that was noted before.
        let queue = there.run_queue.lock();
        if task.sched.cpu() != cpu {
            continue;
        }
        let runs = queue.current().is_some_and(|current| ptr::eq(Arc::as_ptr(current), Arc::as_ptr(task)));
        drop(queue);
        if runs {
            smp::send(CpuSet::one(cpu), Message::Reschedule);
        }
        return;
    }
}

/// The running task no longer takes these signals, which were sent to its process: another thread may.
pub(super) fn hand_over(task: &Task, signals: SignalSet) {
    let process = &task.process;
    let _state = process.signal_state();
    for other in process.threads.lock().iter() {
        if !ptr::eq(Arc::as_ptr(other), task)
            && !other.signals.must_end.load(Ordering::Relaxed)
            && !signals.without(other.signals.blocked()).is_empty()
        {
            wake(other, false);
        }
    }
}

/// Raises a signal for what the running task itself did: it cannot be put off. Where it is blocked or ignored, it ends
/// the process.
pub fn force(info: SigInfo) {
    let task = current().shared();
    let process = &task.process;
    let signal = info.signal;
    let mut state = process.signal_state();
    let actions = actions(process);
    let blocked = task.signals.blocked().contains(signal);
    if blocked || actions.get(signal).disposition() == Disposition::Ignore {
        actions.reset(signal);
    }
    if actions.get(signal).disposition() == Disposition::Default {
        state.protected = false;
    }
    // An exception is told even if one sent by somebody is pending: that one is of no use any more.
    task.signals.mailbox.discard(signal.set());
    if state.group_exit.is_none() {
        task.signals.mailbox.add(info, None);
    }
    drop(state);
    if blocked {
        task.set_blocked(task.signals.blocked().without(signal.set()));
    }
    task.note_signal_work();
}

/// Ends the running task's process by `signal`, whatever it has set for it.
pub(super) fn force_fatal(signal: Signal) {
    actions(&current().process).reset(signal);
    force(SigInfo::kernel(signal));
}

/// A thread has been added to [`Process::threads`], before it first runs: it takes part in what goes on.
pub fn on_new_thread(task: &Task) {
    task.recompute_pending();
}

/// Whether a process is about to end, whatever it does.
pub fn is_being_killed(process: &Process) -> bool {
    process.exiting.load(Ordering::Relaxed)
        || process.signal_state().group_exit.is_some()
        || process.signals.pending().contains(SIGKILL)
        || process.threads.lock().iter().any(|task| task.signals.pending().contains(SIGKILL))
}

/// Whether the running task has to end, and does nothing else in user mode any more.
pub fn must_end() -> bool {
    let task = current();
    task.signals.must_end.load(Ordering::Relaxed) || task.process.signal_state().group_exit.is_some()
}

/// Every thread of `process` ends instead of returning to user mode, with this wait status.
pub fn end_threads(process: &Process, status: u32) {
    begin_exit(process, &mut process.signal_state(), status);
}

/// Every other thread of the running task's process ends (`execve(2)`).
pub fn end_other_threads(process: &Process) {
    let task = current();
    let _state = process.signal_state();
    for other in process.threads.lock().iter() {
        if !ptr::eq(Arc::as_ptr(other), &raw const *task) {
            other.signals.must_end.store(true, Ordering::Relaxed);
            wake(other, true);
        }
    }
}

/// A thread that has left [`Process::threads`] will take no more signals: others take those sent to the process, and a
/// stop no longer waits for it.
pub fn on_thread_exit(task: &Task) {
    let process = &task.process;
    let pending = process.signals.pending();
    if !pending.is_empty() {
        hand_over(task, pending);
    }
    stop::complete_if_all_stopped(process, &mut process.signal_state());
    stop::tell_parent(process);
}
