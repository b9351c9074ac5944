//! Resource limits and usage.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::usage::RawUsage;
use crate::process::{Limit, Pid, Process, Resource, Usage, current, tree};
use crate::syscall::{Call, SysResult};

/// `struct rlimit64`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawLimit {
    soft: u64,
    hard: u64,
}

/// The most files a process may have open (Linux's `nr_open`).
const MOST_FILES: u64 = 1 << 20;

fn get(process: &Process, resource: u32, to: UserAddr) -> KResult<()> {
    let limit = process.limits.lock().by_number(resource as usize)?;
    to.write(&RawLimit { soft: limit.soft, hard: limit.hard })
}

fn set(process: &Arc<Process>, resource: u32, new: RawLimit) -> KResult<()> {
    let privileged = current().process.credentials().is_privileged();
    let resource = resource as usize;
    if resource == Resource::OpenFiles as usize && new.hard > MOST_FILES && new.soft <= new.hard {
        return Err(Errno::EPERM);
    }
    let limit = Limit { soft: new.soft, hard: new.hard };
    process.limits.lock().set_by_number(resource, limit, privileged)?;
    if resource == Resource::Cpu as usize {
        process.timers.set_cpu_limit(process, limit);
    }
    Ok(())
}

/// `getrlimit(2)`
pub(super) fn getrlimit(call: &mut Call<'_>) -> SysResult {
    get(&current().process, call.uint(0), call.user(1))?;
    Ok(0)
}

/// `setrlimit(2)`
pub(super) fn setrlimit(call: &mut Call<'_>) -> SysResult {
    let new = call.user(1).read::<RawLimit>()?;
    set(&current().process, call.uint(0), new)?;
    Ok(0)
}

/// Whether the caller may look at and change the limits of `process`.
fn may_reach(process: &Process) -> bool {
    let own = current().process.credentials();
    let other = process.credentials();
    own.is_privileged()
        || [other.uid, other.euid, other.suid] == [own.uid; 3]
            && [other.gid, other.egid, other.sgid] == [own.gid; 3]
}

/// `prlimit(2)`
pub(super) fn prlimit64(call: &mut Call<'_>) -> SysResult {
    let (resource, new, old) = (call.uint(1), call.user(2), call.user(3));
    let new = if new.is_null() { None } else { Some(new.read::<RawLimit>()?) };
    let process = match call.pid(0) {
        Pid(0) => current().process.clone(),
        tid => tree::find_task(tid).ok_or(Errno::ESRCH)?.process.clone(),
    };
    if !Arc::ptr_eq(&process, &current().process) && !may_reach(&process) {
        return Err(Errno::EPERM);
    }
    let before = process.limits.lock().by_number(resource as usize)?;
    if let Some(new) = new {
        set(&process, resource, new)?;
    }
    if !old.is_null() {
        old.write(&RawLimit { soft: before.soft, hard: before.hard })?;
    }
    Ok(0)
}

/// `getrusage(2)`
pub(super) fn getrusage(call: &mut Call<'_>) -> SysResult {
    const SELF: i32 = 0;
    const CHILDREN: i32 = -1;
    const THREAD: i32 = 1;
    let task = current();
    let process = &task.process;
    let usage = match call.int(0) {
        SELF => process.usage(),
        CHILDREN => *process.children_usage.lock(),
        THREAD => {
            let (user, system) = process.split(task.runtime());
            Usage {
                user,
                system,
                minor_faults: task.minor_faults.load(Ordering::Relaxed),
                major_faults: task.major_faults.load(Ordering::Relaxed),
                voluntary_switches: task.sched.voluntary_switches.load(Ordering::Relaxed),
                involuntary_switches: task.sched.involuntary_switches.load(Ordering::Relaxed),
                max_resident_kib: task.space().map_or(0, |space| space.peak_resident_pages() * 4),
            }
        }
        _ => return Err(Errno::EINVAL),
    };
    call.user(1).write(&RawUsage::from(&usage))?;
    Ok(0)
}
