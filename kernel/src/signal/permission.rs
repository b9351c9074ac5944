//! Who may send a signal to whom: `kill(2)`.

use alloc::sync::Arc;

use super::number::SIGCONT;
use super::{SigInfo, Signal, send};
use crate::errno::{Errno, KResult};
use crate::process::tree;
use crate::process::{Process, Task, current};

/// What is sent: signal 0 only asks whether one could be.
pub(super) type MaybeSignal = Option<Signal>;

/// The signal of a system call's argument.
pub(super) fn parse(number: i32) -> KResult<MaybeSignal> {
    if number == 0 { Ok(None) } else { Signal::new(number).map(Some).ok_or(Errno::EINVAL) }
}

fn check(target: &Arc<Process>, signal: MaybeSignal) -> KResult<()> {
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
    let tree = tree::lock();
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
    check(target, signal)?;
    match signal {
        Some(signal) => send::send_for_user(target, thread, info(signal)?),
        None => Ok(()),
    }
}
