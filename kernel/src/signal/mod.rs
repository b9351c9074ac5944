//! Signals: `signal(7)`.
//!
//! A signal is *sent* ([`send_process`], [`send_task`]) to a process or one of its threads, stays *pending* there, and is
//! *taken* by a thread that is about to return to user mode ([`deliver_pending`]): it then ends or stops the process, or
//! the thread continues in a handler, from which it comes back by `rt_sigreturn(2)`. The bit
//! [`crate::process::work::SIGNAL`] is set whenever a thread may have something to take, so that nothing else has
//! to be looked at on the way out of the kernel.

mod action;
mod altstack;
mod deliver;
mod extended;
mod fault;
mod frame;
mod info;
mod kill;
mod number;
mod pending;
mod permission;
mod restart;
mod send;
mod sigreturn;
mod state;
mod stop;
mod syscalls;
mod wait;

#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tests;

pub use action::{Action, ActionFlags, Disposition, SignalActions, ignores_children};
pub use deliver::{deliver_pending, has_signal, note_restart, take_signal};
pub use fault::{exception, fault};
pub use info::{ChildEvent, Fields, RawFields, SigInfo, code};
pub use number::*;
pub use pending::UserCount;
pub use restart::set_restart;
pub use send::{
    Sent, end_other_threads, end_threads, force, is_being_killed, must_end, on_new_thread, on_thread_exit,
    send_group, send_process, send_task, send_to_current,
};
pub use state::{Change, ProcessSignals, TaskSignals};
pub use syscalls::SYSTEM_CALLS;
pub use wait::{read_mask, with_temporary_mask};

use crate::process::{Process, current};

/// The running task's process has started another program: handlers are gone, what was ignored still is, and there is
/// no alternate stack. Pending and blocked signals stay.
pub fn reset_for_exec(process: &Process) {
    let task = current();
    let fresh = state::actions(process).for_exec();
    let before = core::mem::replace(&mut *process.actions.lock(), fresh);
    drop(before);
    *task.signals.alt_stack.lock() = altstack::AltStack::NONE;
    restart::forget();
}
