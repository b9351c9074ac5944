//! Job control: controlling terminals, foreground groups, hang-ups.

use alloc::sync::Arc;
use core::ptr;

use super::terminal::{Far, Tty};
use crate::errno::{Errno, KResult};
use crate::process::tree;
use crate::process::{Pid, Process, current, group};
use crate::signal::{
    Disposition, SIGCONT, SIGHUP, SIGTTIN, SIGTTOU, SigInfo, Signal, send_group, send_process,
};

/// Whom a terminal belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    /// The session it controls; 0 for none.
    pub session: Pid,
    /// The process group that may read from it; 0 for none.
    pub foreground: Pid,
}

impl Owner {
    pub const NOBODY: Self = Self { session: Pid(0), foreground: Pid(0) };
}

/// Group and session of a process.
fn standing(process: &Process) -> (Pid, Pid) {
    let tree = tree::lock();
    let related = tree.of(process);
    (related.group, related.session)
}

fn is_leader(process: &Process) -> bool {
    standing(process).1 == process.pid
}

impl Tty {
    /// Whether it is the running process's controlling terminal.
    pub(super) fn controls_current(&self) -> bool {
        current().process.terminal.lock().as_ref().is_some_and(|own| ptr::eq(Arc::as_ptr(own), self))
    }

    /// The running process is about to use its controlling terminal in a way that `signal` (SIGTTIN, SIGTTOU) keeps
    /// from processes in the background.
    pub(super) fn check_foreground(&self, signal: Signal) -> KResult<()> {
        if !self.controls_current() {
            return Ok(());
        }
        let task = current();
        let (own_group, _) = standing(&task.process);
        let foreground = self.owner.lock().foreground;
        if foreground == Pid(0) || foreground == own_group {
            return Ok(());
        }
        let action = task.process.actions.lock().get(signal);
        let default = action.disposition() == Disposition::Default;
        if task.signals.blocked().contains(signal)
            || action.disposition() == Disposition::Ignore
            || (default && task.process.signals.is_protected())
        {
            // Who cannot be stopped that way may write, but not read what is not his.
            return if signal == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        let orphaned = {
            let tree = tree::lock();
            group::is_orphaned(&tree, own_group, None)
        };
        if orphaned {
            return Err(Errno::EIO);
        }
        send_group(own_group, &SigInfo::kernel(signal));
        Err(Errno::ERESTARTSYS)
    }

    /// Makes it the running process's controlling terminal (`TIOCSCTTY`). With `steal` the superuser takes it from
    /// another session.
    pub(super) fn become_controlling(self: &Arc<Self>, steal: bool) -> KResult<()> {
        let process = &current().process;
        let (own_group, own_session) = standing(process);
        let owner = *self.owner.lock();
        if own_session == process.pid && owner.session == own_session {
            return Ok(());
        }
        if own_session != process.pid || process.terminal.lock().is_some() {
            return Err(Errno::EPERM);
        }
        if owner.session != Pid(0) {
            if !steal || !process.credentials().is_privileged() {
                return Err(Errno::EPERM);
            }
            clear_session(owner.session);
        }
        *self.owner.lock() = Owner { session: own_session, foreground: own_group };
        let before = process.terminal.lock().replace(self.clone());
        drop(before);
        Ok(())
    }

    /// Opening it makes it the controlling terminal of a session leader that has none, if it controls no session.
    pub(super) fn offer(self: &Arc<Self>) {
        let process = &current().process;
        let free = self.owner.lock().session == Pid(0);
        if free && process.terminal.lock().is_none() && is_leader(process) {
            // Any reason against it has just been ruled out, unless another process was faster.
            let _ = self.become_controlling(false);
        }
    }

    /// The foreground group, for a process that has it as its controlling terminal (`TIOCGPGRP`).
    pub(super) fn foreground(&self) -> Pid {
        self.owner.lock().foreground
    }

    /// Sets the foreground group (`TIOCSPGRP`).
    pub(super) fn set_foreground(&self, group: Pid) -> KResult<()> {
        let process = &current().process;
        self.check_foreground(SIGTTOU)
            .map_err(|error| if error == Errno::EIO { Errno::ENOTTY } else { error })?;
        let (_, own_session) = standing(process);
        if !self.controls_current() || self.owner.lock().session != own_session {
            return Err(Errno::ENOTTY);
        }
        if group.0 < 0 {
            return Err(Errno::EINVAL);
        }
        {
            let tree = tree::lock();
            if !tree.any_process(|other| tree.of(other).group == group) {
                return Err(Errno::ESRCH);
            }
            if !tree
                .any_process(|other| tree.of(other).group == group && tree.of(other).session == own_session)
            {
                return Err(Errno::EPERM);
            }
        }
        self.owner.lock().foreground = group;
        Ok(())
    }

    /// Hangs up: files opened before are dead, its session loses it and is told.
    pub(super) fn hang_up(&self) {
        let owner = core::mem::replace(&mut *self.owner.lock(), Owner::NOBODY);
        self.start_generation();
        if owner.session != Pid(0) {
            if let Some(leader) = tree::find(owner.session) {
                send_process(&leader, SigInfo::kernel(SIGHUP));
                send_process(&leader, SigInfo::kernel(SIGCONT));
            }
            clear_session(owner.session);
        }
        if owner.foreground != Pid(0) && owner.foreground != owner.session {
            send_group(owner.foreground, &SigInfo::kernel(SIGHUP));
            send_group(owner.foreground, &SigInfo::kernel(SIGCONT));
        }
    }
}

/// No process of the session has a controlling terminal any more. The caller holds that terminal.
fn clear_session(session: Pid) {
    let tree = tree::lock();
    tree.processes_where(|tree, process| tree.of(process).session == session)
        .for_each(|process| leave(&process));
}

/// `process` has no controlling terminal any more.
pub fn leave(process: &Process) {
    let terminal = process.terminal.lock().take();
    drop(terminal);
}

/// Gives up the controlling terminal, as `TIOCNOTTY` does: if the process leads its session, the whole session loses
/// it.
pub(super) fn give_up(process: &Process) {
    let terminal = process.terminal.lock().clone();
    let Some(tty) = terminal else { return };
    if let Some(owner) = tty.release_from(process) {
        hang_up_group(owner.foreground);
        if owner.foreground != Pid(0) {
            send_group(owner.foreground, &SigInfo::kernel(SIGCONT));
        }
        clear_session(owner.session);
    }
    leave(process);
}

/// A process ends: if it leads a session with a terminal, the session loses it, and a real terminal hangs up. Context: a
/// task, no lock held.
pub fn on_process_exit(process: &Process) {
    let terminal = process.terminal.lock().clone();
    let Some(tty) = terminal else { return };
    if is_leader(process) && matches!(tty.far, Far::Console | Far::Device) {
        tty.hang_up();
    } else if let Some(owner) = tty.release_from(process) {
        hang_up_group(owner.foreground);
        clear_session(owner.session);
    }
    leave(process);
}

fn hang_up_group(group: Pid) {
    if group != Pid(0) {
        send_group(group, &SigInfo::kernel(SIGHUP));
    }
}

impl Tty {
    /// Belongs to nobody any more, if it belonged to the session that `process` leads; returns to whom it did.
    fn release_from(&self, process: &Process) -> Option<Owner> {
        let (_, session) = standing(process);
        let mut owner = self.owner.lock();
        let leads = session == process.pid && owner.session == session;
        leads.then(|| core::mem::replace(&mut *owner, Owner::NOBODY))
    }
}
