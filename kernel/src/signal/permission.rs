//! Who may send a signal to whom: `kill(2)`.

use alloc::sync::Arc;
use core::ops::Deref;

use super::number::SIGCONT;
use super::{SigInfo, Signal, send, stop};
use crate::errno::{Errno, KResult};
use crate::process::tree::{self, Tree};
use crate::process::{Process, Task, current};

/// What is sent: signal 0 only asks whether one could be.
pub(super) type MaybeSignal = Option<Signal>;

/// The signal of a system call's argument.
pub(super) fn parse(number: i32) -> KResult<MaybeSignal> {
    if number == 0 { Ok(None) } else { Signal::new(number).map(Some).ok_or(Errno::EINVAL) }
}

/// `tree` locks the tree of processes, or is the tree.
fn check<T: Deref<Target = Tree>>(
    target: &Arc<Process>,
    signal: MaybeSignal,
    tree: impl FnOnce() -> T,
) -> KResult<()> {
    let process = &current().process;
    if Arc::ptr_eq(process, target) {
        return Ok(());
    }
    let (own, other) = (process.credentials(), target.credentials());
    let same_user = [own.euid, own.uid].iter().any(|&uid| uid == other.uid || uid == other.suid);
    if own.is_privileged() || same_user {
        return Ok(());
    }
    // A shell may continue what it has in its session, whoever that runs as by now.
    let tree = tree();
    let same_session = tree.of(process).session == tree.of(target).session;
    if signal == Some(SIGCONT) && same_session { Ok(()) } else { Err(Errno::EPERM) }
}

/// Sends what the running process may send to `target`, or to its `thread`.
pub(super) fn send_checked(
    target: &Arc<Process>,
    thread: Option<&Arc<Task>>,
    signal: MaybeSignal,
    info: impl FnOnce(Signal) -> KResult<SigInfo>,
) -> KResult<()> {
    check(target, signal, tree::lock)?;
    let Some(signal) = signal else { return Ok(()) };
    let sent = send::send_for_user(target, thread, info(signal)?);
    stop::tell_parent(target);
    sent
}

/// Sends what the running process may send to all of those that are `wanted`, also to those that are just being made. What
/// `kill(2)` returned for each of them alone goes to `each`.
pub(super) fn send_to_many(
    signal: MaybeSignal,
    wanted: impl Fn(&Tree, &Process) -> bool,
    mut each: impl FnMut(KResult<()>),
) {
    {
        let tree = tree::lock();
        for process in tree.processes_where(&wanted) {
            let mut sent = check(&process, signal, || &*tree);
            if let Some(signal) = signal
                && sent.is_ok()
            {
                process.signals.note_broadcast(&tree);
                sent = send::send_for_user(&process, None, SigInfo::user(signal));
            }
            each(sent);
        }
    }
    if signal == Some(SIGCONT) {
        tree::processes_where(wanted).for_each(|process| stop::tell_parent(&process));
    }
}
