//! Taking signals before the return to user mode.

use core::sync::atomic::Ordering;

use platform::TrapFrame;

use super::number::{DefaultAction, SIGKILL, SIGSEGV, SIGSTOP};
use super::restart::Interruption;
use super::{ActionFlags, Disposition, Fields, SigInfo, Signal, SignalSet, frame, send, stop};
use crate::process::exit;
use crate::process::work;
use crate::process::{Process, Resource, Task, current};
use crate::trap::Entry;

use super::action::Action;

/// Bit of a wait status that says that a core was dumped.
const CORE_DUMPED: u32 = 0x80;

/// Deals with the running task's pending signals: ends, stops, or makes user mode continue in a handler, or restarts
/// the system call that was interrupted. Context: interrupts enabled, no lock held.
pub fn deliver_pending(user: &mut TrapFrame, entry: Entry) {
    let task = current();
    let interrupted = Interruption::of(user, entry);
    match next_to_handle(&task) {
        Some((info, action)) => {
            interrupted.settle(user, Some(action.flags()));
            run_handler(&task, user, &info, &action);
        }
        None => {
            interrupted.settle(user, None);
            task.restore_mask();
        }
    }
    task.recompute_pending();
}

/// The next signal with a handler. Those without have their effect here.
fn next_to_handle(task: &Task) -> Option<(SigInfo, Action)> {
    let process = &task.process;
    loop {
        task.work.fetch_and(!work::SIGNAL, Ordering::SeqCst);
        if process.exiting.load(Ordering::Acquire) || task.signals.must_end.load(Ordering::Relaxed) {
            exit::exit_thread(0);
        }
        let mut state = process.signal_state();
        if let Some(status) = state.group_exit {
            drop(state);
            exit::exit_group(status);
        }
        if state.notice.is_some() || state.stop.is_some() {
            drop(state);
            stop::tell_parent(process);
            stop::wait_while_stopped();
            continue;
        }
        let info = take(task, task.signals.blocked())?;
        let signal = info.signal;
        if SignalSet::STOPS.contains(signal) {
            state.stop_wanted = true;
        }
        let action = process.actions.lock().take(signal);
        let protected = state.protected && !SignalSet::UNBLOCKABLE.contains(signal);
        drop(state);
        let info = finish_taking(process, info);
        match action.disposition() {
            Disposition::Handler => return Some((info, action)),
            Disposition::Ignore => {}
            Disposition::Default if protected => {}
            Disposition::Default => match signal.default_action() {
                DefaultAction::Ignore | DefaultAction::Continue => {}
                DefaultAction::Stop => stop::begin(signal),
                DefaultAction::Terminate => exit::exit_group(signal.number() as u32),
                DefaultAction::Core => exit::exit_group(signal.number() as u32 | core_flag(process)),
            },
        }
    }
}

/// Takes a signal of the task's or its process's that is not in `blocked`. Context: the process's state is locked.
fn take(task: &Task, blocked: SignalSet) -> Option<SigInfo> {
    let own = &task.signals.mailbox;
    own.take_synchronous(blocked)
        .or_else(|| own.take(SIGKILL.set().with(SIGSTOP)))
        .or_else(|| own.take(!blocked))
        .or_else(|| task.process.signals.shared.take(!blocked))
}

/// Takes one of the running task's pending signals, blocked or not, if one of `wanted` is there: `signalfd(2)`,
/// `sigtimedwait(2)`.
pub fn take_signal(wanted: SignalSet) -> Option<SigInfo> {
    let task = current();
    let process = &task.process;
    let wanted = wanted.as_mask();
    if !has_signal(wanted) {
        return None;
    }
    let info = {
        let _state = process.signal_state();
        take(&task, !wanted)?
    };
    task.recompute_pending();
    Some(finish_taking(process, info))
}

/// Whether one of `wanted` is pending for the running task.
pub fn has_signal(wanted: SignalSet) -> bool {
    let task = current();
    let pending = task.signals.pending() | task.process.signals.pending();
    !(pending & wanted.as_mask()).is_empty()
}

/// Fills in what is known only when a signal is taken. Context: no lock held.
fn finish_taking(process: &Process, mut info: SigInfo) -> SigInfo {
    if let Fields::Timer { id, overrun, .. } = &mut info.fields {
        *overrun = crate::time::timer_signal_taken(process, *id);
    }
    info
}

/// The flag in the wait status, for a process whose limits ask for a core dump. The file itself is not written.
fn core_flag(process: &Process) -> u32 {
    if process.limits.lock().get(Resource::Core).soft == 0 { 0 } else { CORE_DUMPED }
}

/// Makes user mode continue in the handler of a signal that was taken.
fn run_handler(task: &Task, user: &mut TrapFrame, info: &SigInfo, action: &Action) {
    let signal = info.signal;
    match frame::push(task, user, info, action) {
        Ok(()) => {
            // The mask to return to lies in the frame now.
            task.signals.take_saved_mask();
            let own =
                if action.flags().contains(ActionFlags::NO_DEFER) { SignalSet::EMPTY } else { signal.set() };
            task.set_blocked(task.signals.blocked() | action.mask | own);
            let mut alt_stack = task.signals.alt_stack.lock();
            if alt_stack.disarms_itself() {
                *alt_stack = super::altstack::AltStack::NONE;
            }
        }
        Err(_) => handler_impossible(signal),
    }
}

/// There is no room for a signal's frame, or nothing to return through.
fn handler_impossible(signal: Signal) {
    if signal == SIGSEGV {
        send::force_fatal(SIGSEGV);
    } else {
        send::force(SigInfo::kernel(SIGSEGV));
    }
}

/// What the exit path of a system call does with an error that asks for a restart: makes sure that it is seen to.
#[cold]
pub fn note_restart() {
    current().note_signal_work();
}
