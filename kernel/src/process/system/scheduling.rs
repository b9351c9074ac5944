//! `sched_*(2)`.

use alloc::sync::Arc;

use platform::{CpuSet, Nanoseconds};

use super::priority::owns;
use crate::errno::{Errno, KResult};
use crate::percpu;
use crate::process::{Pid, Resource, Task, current, tree};
use crate::sched::{self, Policy};
use crate::syscall::{Call, SysResult};
use crate::time::abi::Timespec;

/// Asks that children start with the default policy.
pub(super) const RESET_ON_FORK: u32 = 0x4000_0000;

/// The task a call is about; 0 stands for the caller.
pub(super) fn find(tid: Pid) -> KResult<Arc<Task>> {
    match tid {
        Pid(0) => Ok(current().shared()),
        Pid(..0) => Err(Errno::EINVAL),
        tid => tree::find_task(tid).ok_or(Errno::ESRCH),
    }
}

/// `sched_yield(2)`
pub(super) fn sched_yield(_: &mut Call<'_>) -> SysResult {
    sched::yield_now();
    Ok(0)
}

/// Bytes of the kernel's own mask.
const MASK_BYTES: usize = size_of::<u64>();

/// `sched_setaffinity(2)`
pub(super) fn sched_setaffinity(call: &mut Call<'_>) -> SysResult {
    let length = call.size(1).min(MASK_BYTES);
    let mut mask = [0; MASK_BYTES];
    call.user(2).read_bytes(&mut mask[..length])?;
    let task = if call.pid(0).0 < 0 { Err(Errno::ESRCH) } else { find(call.pid(0)) }?;
    if !owns(&task) {
        return Err(Errno::EPERM);
    }
    let cpus = CpuSet::from_bits(u64::from_le_bytes(mask)).and(percpu::online());
    if cpus.is_empty() {
        return Err(Errno::EINVAL);
    }
    sched::set_affinity(&task, cpus);
    Ok(0)
}

/// `sched_getaffinity(2)`
pub(super) fn sched_getaffinity(call: &mut Call<'_>) -> SysResult {
    let length = call.size(1);
    if length < MASK_BYTES || !length.is_multiple_of(size_of::<u64>()) {
        return Err(Errno::EINVAL);
    }
    let task = if call.pid(0).0 < 0 { Err(Errno::ESRCH) } else { find(call.pid(0)) }?;
    let mask = task.sched.affinity().and(percpu::online());
    call.user(2).write(&mask.bits())?;
    Ok(MASK_BYTES as u64)
}

/// Sets a policy after checking that the caller may.
pub(super) fn set_policy(task: &Task, policy: Policy, priority: i32, reset_on_fork: bool) -> KResult<()> {
    let priority = u8::try_from(priority).ok().filter(|value| policy.priorities().contains(value));
    let priority = priority.ok_or(Errno::EINVAL)?;
    if !owns(task) {
        return Err(Errno::EPERM);
    }
    if !current().process.credentials().is_privileged() {
        let limit = task.process.limits.lock().get(Resource::RealtimePriority).soft;
        let before = &task.sched.remembered;
        let is_raise = priority > before.priority() || policy != before.policy() && priority > 0;
        if is_raise && u64::from(priority) > limit || before.reset_on_fork() && !reset_on_fork {
            return Err(Errno::EPERM);
        }
    }
    task.sched.remembered.set_policy(policy, priority, reset_on_fork);
    Ok(())
}

/// `sched_setscheduler(2)`
pub(super) fn sched_setscheduler(call: &mut Call<'_>) -> SysResult {
    let policy = call.uint(1);
    if call.user(2).is_null() || call.int(1) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = call.user(2).read::<i32>()?;
    let task = find(call.pid(0))?;
    let reset_on_fork = policy & RESET_ON_FORK != 0;
    let policy = Policy::from_number(policy & !RESET_ON_FORK).ok_or(Errno::EINVAL)?;
    set_policy(&task, policy, priority, reset_on_fork)?;
    Ok(0)
}

/// `sched_getscheduler(2)`
pub(super) fn sched_getscheduler(call: &mut Call<'_>) -> SysResult {
    let task = find(call.pid(0))?;
    let remembered = &task.sched.remembered;
    let reset_on_fork = if remembered.reset_on_fork() { RESET_ON_FORK } else { 0 };
    Ok((remembered.policy() as u32 | reset_on_fork).into())
}

/// `sched_setparam(2)`
pub(super) fn sched_setparam(call: &mut Call<'_>) -> SysResult {
    if call.user(1).is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = call.user(1).read::<i32>()?;
    let task = find(call.pid(0))?;
    let remembered = &task.sched.remembered;
    set_policy(&task, remembered.policy(), priority, remembered.reset_on_fork())?;
    Ok(0)
}

/// `sched_getparam(2)`
pub(super) fn sched_getparam(call: &mut Call<'_>) -> SysResult {
    if call.user(1).is_null() {
        return Err(Errno::EINVAL);
    }
    let task = find(call.pid(0))?;
    call.user(1).write(&i32::from(task.sched.remembered.priority()))?;
    Ok(0)
}

/// SCHED_DEADLINE has priorities to ask for, though no task can have it.
const DEADLINE: u32 = 6;

/// `sched_get_priority_max(2)`
pub(super) fn sched_get_priority_max(call: &mut Call<'_>) -> SysResult {
    match call.uint(0) {
        DEADLINE => Ok(0),
        number => Ok((*Policy::from_number(number).ok_or(Errno::EINVAL)?.priorities().end()).into()),
    }
}

/// `sched_get_priority_min(2)`
pub(super) fn sched_get_priority_min(call: &mut Call<'_>) -> SysResult {
    match call.uint(0) {
        DEADLINE => Ok(0),
        number => Ok((*Policy::from_number(number).ok_or(Errno::EINVAL)?.priorities().start()).into()),
    }
}

/// `sched_rr_get_interval(2)`
pub(super) fn sched_rr_get_interval(call: &mut Call<'_>) -> SysResult {
    let task = find(call.pid(0))?;
    let interval = match task.sched.remembered.policy() {
        Policy::Fifo => Nanoseconds::ZERO,
        _ => task.sched.nice().slice(),
    };
    call.user(1).write(&Timespec::from(interval))?;
    Ok(0)
}
