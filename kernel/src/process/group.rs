//! Process groups and sessions: `setpgid(2)`, `setsid(2)` and their like.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering;

use super::tree::{self, Tree};
use super::{Pid, Process, current};
use crate::errno::{Errno, KResult};
use crate::signal::{SIGCONT, SIGHUP, SigInfo, send_process};
use crate::syscall::numbers as nr;
use crate::syscall::{Call, Handler, SysResult};
use crate::tty;

/// System calls on groups and sessions.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (nr::SETPGID, setpgid),
    (nr::GETPGID, getpgid),
    (nr::GETPGRP, getpgrp),
    (nr::SETSID, setsid),
    (nr::GETSID, getsid),
];

/// The process `pid`, where 0 stands for the running one.
fn named(tree: &Tree, pid: Pid) -> KResult<Arc<Process>> {
    if pid.0 == 0 { Ok(current().process.clone()) } else { tree.process(pid).ok_or(Errno::ESRCH) }
}

fn setpgid(call: &mut Call<'_>) -> SysResult {
    let (pid, group) = (call.pid(0), call.pid(1));
    let own = &current().process;
    let pid = if pid.0 == 0 { own.pid } else { pid };
    let group = if group.0 == 0 { pid } else { group };
    if group.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let process = {
        let tree = tree::lock();
        tree.process(pid).ok_or(Errno::ESRCH)?
    };
    let mut tree = tree::lock();
    let own_session = tree.of(own).session;
    let is_child = tree.of(&process).parent.as_ptr() == Arc::as_ptr(own);
    if is_child {
        if tree.of(&process).session != own_session {
            return Err(Errno::EPERM);
        }
        if process.has_executed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    } else if !Arc::ptr_eq(&process, own) {
        return Err(Errno::ESRCH);
    }
    // A session leader stays in its group.
    if tree.of(&process).session == process.pid {
        return Err(Errno::EPERM);
    }
    if group != process.pid
        && !tree.any_process(|other| tree.of(other).group == group && tree.of(other).session == own_session)
    {
        return Err(Errno::EPERM);
    }
    tree.of_mut(&process).group = group;
    drop(tree);
    Ok(0)
}

fn getpgid(call: &mut Call<'_>) -> SysResult {
    let (process, group);
    {
        let tree = tree::lock();
        process = named(&tree, call.pid(0))?;
        group = tree.of(&process).group;
    }
    Ok(group.0 as u64)
}

fn getpgrp(_call: &mut Call<'_>) -> SysResult {
    Ok(tree::lock().of(&current().process).group.0 as u64)
}

fn getsid(call: &mut Call<'_>) -> SysResult {
    let (process, session);
    {
        let tree = tree::lock();
        process = named(&tree, call.pid(0))?;
        session = tree.of(&process).session;
    }
    Ok(session.0 as u64)
}

fn setsid(_call: &mut Call<'_>) -> SysResult {
    let process = &current().process;
    {
        let mut tree = tree::lock();
        if tree.of(process).session == process.pid
            || tree.any_process(|other| tree.of(other).group == process.pid)
        {
            return Err(Errno::EPERM);
        }
        let related = tree.of_mut(process);
        related.session = process.pid;
        related.group = process.pid;
    }
    tty::leave(process);
    Ok(process.pid.0 as u64)
}

/// Whether nobody outside the group, but in its session, is there to care for its stopped processes (POSIX: an orphaned
/// process group). `but_for` is a process that is about to end.
///
/// Linux does not count process 1 as such a carer. Here it is often the shell itself.
pub fn is_orphaned(tree: &Tree, group: Pid, but_for: Option<&Process>) -> bool {
    let leaves = |process: &Process| but_for.is_some_and(|other| ptr::eq(other, process));
    !tree.any_process(|process| {
        let related = tree.of(process);
        related.group == group
            && !related.zombie
            && !leaves(process)
            && related.parent.upgrade().is_some_and(|parent| {
                let above = tree.of(&parent);
                !leaves(&parent) && above.group != group && above.session == related.session
            })
    })
}

/// A process ends: groups that nobody cares for any more once it has gone, and that have stopped processes, are hung
/// up. Context: before the process is marked as ended and its children get another parent.
pub fn on_process_exit(tree: &Tree, process: &Arc<Process>) {
    let own = tree.of(process);
    let uncared = |group| {
        if is_orphaned(tree, group, Some(process)) {
            hang_up_stopped(tree, group, process);
        }
    };
    // Its own group, if its parent was the one outside, and the groups of its children, which it was outside of. One that
    // comes twice is no longer stopped the second time.
    if own.parent.upgrade().is_some_and(|parent| is_outside(tree, &parent, process)) {
        uncared(own.group);
    }
    own.children
        .iter()
        .filter(|child| is_outside(tree, process, child))
        .for_each(|child| uncared(tree.of(child).group));
}

/// Whether `parent` is in another group than `child`, but in the same session.
fn is_outside(tree: &Tree, parent: &Process, child: &Process) -> bool {
    let (above, below) = (tree.of(parent), tree.of(child));
    above.group != below.group && above.session == below.session
}

fn hang_up_stopped(tree: &Tree, group: Pid, ending: &Arc<Process>) {
    let others = || tree.group_members(group).filter(|member| !Arc::ptr_eq(member, ending));
    if others().any(|member| member.signals.is_stopped()) {
        for member in others() {
            send_process(&member, SigInfo::kernel(SIGHUP));
            send_process(&member, SigInfo::kernel(SIGCONT));
        }
    }
}
