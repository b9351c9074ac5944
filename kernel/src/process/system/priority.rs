//! Nice values and I/O priorities.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::errno::{Errno, KResult};
use crate::process::credentials::Uid;
use crate::process::{Pid, Process, Resource, Task, current, tree};
use crate::sched::Nice;
use crate::syscall::{Call, SysResult};

/// Whom a call is about.
#[derive(Clone, Copy)]
enum Whom {
    Thread(Pid),
    Group(Pid),
    User(u32),
}

fn threads(processes: impl Iterator<Item = Arc<Process>>) -> KResult<Vec<Arc<Task>>> {
    let mut all = Vec::new();
    for process in processes {
        let threads = process.threads.lock();
        all.try_reserve(threads.len()).map_err(|_| Errno::ENOMEM)?;
        all.extend(threads.iter().cloned());
    }
    Ok(all)
}

impl Whom {
    /// The tasks it means; 0 stands for the caller's own.
    fn tasks(self) -> KResult<Vec<Arc<Task>>> {
        let own = current();
        let found = match self {
            Self::Thread(Pid(0)) => vec![own.shared()],
            Self::Thread(tid) => tree::find_task(tid).into_iter().collect(),
            Self::Group(group) => {
                let group = if group == Pid(0) { tree::lock().of(&own.process).group } else { group };
                threads(tree::group_members(group))?
            }
            Self::User(user) => {
                let user = if user == 0 { own.process.credentials().uid } else { Uid(user) };
                threads(tree::processes().filter(|process| process.credentials().uid == user))?
            }
        };
        if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
    }
}

/// Whether the caller's effective user is the real or effective one of the task's process.
pub(super) fn owns(task: &Task) -> bool {
    let own = current().process.credentials();
    let other = task.process.credentials();
    own.is_privileged() || own.euid == other.euid || own.euid == other.uid
}

fn nice_target(call: &Call<'_>) -> KResult<Whom> {
    match call.int(0) {
        0 => Ok(Whom::Thread(call.pid(1))),
        1 => Ok(Whom::Group(call.pid(1))),
        2 => Ok(Whom::User(call.uint(1))),
        _ => Err(Errno::EINVAL),
    }
}

/// `getpriority(2)`: 40 for the least nice to 1 for the nicest, so that it is no error.
pub(super) fn getpriority(call: &mut Call<'_>) -> SysResult {
    let tasks = nice_target(call)?.tasks()?;
    let least = tasks.iter().map(|task| task.sched.nice()).min().ok_or(Errno::ESRCH)?;
    Ok((20 - i64::from(least.get())) as u64)
}

/// Whether the caller may set `task` to `nice`: lower values only as far as RLIMIT_NICE goes.
pub(super) fn may_set_nice(task: &Task, nice: Nice) -> bool {
    let limit = task.process.limits.lock().get(Resource::Nice).soft;
    nice >= task.sched.nice()
        || current().process.credentials().is_privileged()
        || u64::from((20 - i16::from(nice.get())) as u16) <= limit
}

/// `setpriority(2)`
pub(super) fn setpriority(call: &mut Call<'_>) -> SysResult {
    let nice = Nice::clamped(call.int(2));
    let mut result = Ok(0);
    for task in nice_target(call)?.tasks()? {
        if !owns(&task) {
            result = Err(Errno::EPERM);
        } else if !may_set_nice(&task, nice) {
            result = Err(Errno::EACCES);
        } else {
            task.sched.set_nice(nice);
        }
    }
    result
}

fn io_target(call: &Call<'_>) -> KResult<Whom> {
    match call.int(0) {
        1 => Ok(Whom::Thread(call.pid(1))),
        2 => Ok(Whom::Group(call.pid(1))),
        3 => Ok(Whom::User(call.uint(1))),
        _ => Err(Errno::EINVAL),
    }
}

/// `ioprio_get(2)`
pub(super) fn ioprio_get(call: &mut Call<'_>) -> SysResult {
    let tasks = io_target(call)?.tasks()?;
    let best = tasks.iter().map(|task| task.sched.remembered.io_priority()).min();
    Ok(best.ok_or(Errno::ESRCH)?.into())
}

/// `ioprio_set(2)`
pub(super) fn ioprio_set(call: &mut Call<'_>) -> SysResult {
    const REAL_TIME: u16 = 1;
    const BEST_EFFORT: u16 = 2;
    const IDLE: u16 = 3;
    let priority = u16::try_from(call.int(2)).map_err(|_| Errno::EINVAL)?;
    match (priority >> 13, priority & 0x1fff) {
        (REAL_TIME, 0..8) if !current().process.credentials().is_privileged() => return Err(Errno::EPERM),
        (REAL_TIME | BEST_EFFORT, 0..8) | (IDLE, _) | (0, 0) => {}
        _ => return Err(Errno::EINVAL),
    }
    for task in io_target(call)?.tasks()? {
        if !owns(&task) {
            return Err(Errno::EPERM);
        }
        task.sched.remembered.set_io_priority(priority);
    }
    Ok(0)
}
