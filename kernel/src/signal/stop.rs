//! Stopping and continuing whole processes, and telling their parents.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::number::{SIGCHLD, SIGSTOP};
use super::state::{Change, Notice, Reports, State, Stop, actions};
use super::{ActionFlags, Disposition, SigInfo, Signal, send};
use crate::process::tree;
use crate::process::{Process, current, group};
use crate::sched::{self, BlockedState};

impl Change {
    /// As `wait(2)` and SIGCHLD say it.
    pub const fn wait_status(self) -> u32 {
        match self {
            Self::Stopped(signal) => (signal.number() as u32) << 8 | 0x7f,
            Self::Continued => 0xffff,
        }
    }
}

/// SIGCONT was sent: the threads of a stopped process go on.
pub(super) fn resume(process: &Process, state: &mut State) {
    state.stop_wanted = false;
    if let Some(stop) = state.stop.take() {
        state.notice =
            Some(if stop.complete { Notice::Continued } else { Notice::ContinuedEarly(stop.signal) });
        state.reports = Reports { stopped: None, continued: true };
    }
    for task in process.threads.lock().iter() {
        task.signals.stopped.store(false, Ordering::Relaxed);
        // Also for the sake of the notice: the threads themselves tell the parent, if the sender cannot.
        send::wake(task, true);
    }
}

/// The running task has taken a stop signal: its process stops, unless it is one of a terminal's and nobody is there
/// who could continue it, or SIGCONT has come meanwhile.
pub(super) fn begin(signal: Signal) {
    let task = current();
    let process = &task.process;
    if signal != SIGSTOP {
        let tree = tree::lock();
        let group = tree.of(process).group;
        if group::is_orphaned(&tree, group, None) {
            return;
        }
    }
    let mut state = process.signal_state();
    if !state.stop_wanted || state.group_exit.is_some() {
        return;
    }
    if state.stop.is_none() {
        state.stop = Some(Stop { signal, complete: false });
    }
    for other in process.threads.lock().iter() {
        send::wake(other, false);
    }
}

/// Waits while the running task's process is stopped.
pub(super) fn wait_while_stopped() {
    let task = current().shared();
    let process = &task.process;
    loop {
        let mut state = process.signal_state();
        if state.stop.is_none() || task.signals.must_end.load(Ordering::Relaxed) {
            return;
        }
        task.signals.stopped.store(true, Ordering::Relaxed);
        task.prepare_to_block(BlockedState::Stopped);
        complete_if_all_stopped(process, &mut state);
        drop(state);
        tell_parent(process);
        sched::block();
    }
}

/// Notes that a stop is complete if the last thread has stopped.
pub(super) fn complete_if_all_stopped(process: &Process, state: &mut State) {
    let Some(stop) = &mut state.stop else { return };
    let all = {
        let threads = process.threads.lock();
        !threads.is_empty()
            && threads.iter().all(|task| {
                task.signals.stopped.load(Ordering::Relaxed) || task.signals.must_end.load(Ordering::Relaxed)
            })
    };
    if all && !stop.complete {
        stop.complete = true;
        state.reports = Reports { stopped: Some(stop.signal), continued: false };
        state.notice = Some(Notice::Stopped(stop.signal));
    }
}

/// Tells the parent if there is something to tell: sends SIGCHLD, and has it look again if it waits.
///
/// Context: a task, interrupts enabled, neither the tree of processes nor a signal lock held.
pub(super) fn tell_parent(process: &Arc<Process>) {
    if process.signal_state().notice.is_none() {
        return;
    }
    let uid = process.credentials.lock().uid;
    let tree = tree::lock();
    let Some(notice) = process.signal_state().notice.take() else { return };
    let change = match notice {
        Notice::Stopped(signal) | Notice::ContinuedEarly(signal) => Change::Stopped(signal),
        Notice::Continued => Change::Continued,
    };
    let status = change.wait_status();
    let Some(parent) = tree.of(process).parent.upgrade() else { return };
    let action = actions(&parent).get(SIGCHLD);
    if action.disposition() != Disposition::Ignore && !action.flags().contains(ActionFlags::NO_CHILD_STOP) {
        send::send_process(&parent, SigInfo::child(SIGCHLD, process.pid, uid, status));
    }
    parent.child_events.wake_all();
    drop(tree);
    // Outside the lock: this may have become the last reference.
    drop(parent);
}
