//! `sched_setattr(2)` and `sched_getattr(2)`, whose structure grows with its version.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::priority::may_set_nice;
use super::scheduling::{find, set_policy};
use crate::errno::Errno;
use crate::sched::{Nice, Policy};
use crate::syscall::{Call, SysResult};

/// `struct sched_attr`, first version (include/uapi/linux/sched/types.h).
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const FIRST_SIZE: u32 = 48;
const _: () = assert!(size_of::<Attributes>() == FIRST_SIZE as usize);

/// SCHED_FLAG_RESET_ON_FORK
const RESET_ON_FORK: u64 = 1;
/// SCHED_FLAG_KEEP_POLICY
const KEEP_POLICY: u64 = 8;
/// SCHED_FLAG_KEEP_PARAMS
const KEEP_PARAMETERS: u64 = 16;

/// `sched_setattr(2)`
pub(super) fn sched_setattr(call: &mut Call<'_>) -> SysResult {
    let at = call.user(1);
    if at.is_null() || call.int(0) < 0 || call.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let size = match at.read::<u32>()? {
        0 => FIRST_SIZE,
        size => size,
    };
    if !(FIRST_SIZE..=4096).contains(&size) {
        at.write(&FIRST_SIZE)?;
        return Err(Errno::E2BIG);
    }
    let wanted = at.read::<Attributes>()?;
    // What a later version has must be zero.
    for offset in FIRST_SIZE..size {
        if at.offset(offset.into()).read::<u8>()? != 0 {
            at.write(&FIRST_SIZE)?;
            return Err(Errno::E2BIG);
        }
    }
    if wanted.flags & !(RESET_ON_FORK | KEEP_POLICY | KEEP_PARAMETERS) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = find(call.pid(0))?;
    let remembered = &task.sched.remembered;
    let keeps_policy = wanted.flags & KEEP_POLICY != 0;
    let policy = if keeps_policy { Some(remembered.policy()) } else { Policy::from_number(wanted.policy) };
    let policy = policy.ok_or(Errno::EINVAL)?;
    let keeps = wanted.flags & KEEP_PARAMETERS != 0;
    let priority = if keeps { remembered.priority().into() } else { wanted.priority };
    let nice = Nice::clamped(wanted.nice);
    let sets_nice = !keeps && matches!(policy, Policy::Other | Policy::Batch | Policy::Idle);
    if sets_nice && !may_set_nice(&task, nice) {
        return Err(Errno::EPERM);
    }
    let priority = i32::try_from(priority).map_err(|_| Errno::EINVAL)?;
    set_policy(&task, policy, priority, wanted.flags & RESET_ON_FORK != 0)?;
    if sets_nice {
        task.sched.set_nice(nice);
    }
    Ok(0)
}

/// `sched_getattr(2)`
pub(super) fn sched_getattr(call: &mut Call<'_>) -> SysResult {
    let (to, size) = (call.user(1), call.uint(2));
    if to.is_null() || call.int(0) < 0 || !(FIRST_SIZE..=4096).contains(&size) || call.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = find(call.pid(0))?;
    let remembered = &task.sched.remembered;
    to.write(&Attributes {
        size: FIRST_SIZE,
        policy: remembered.policy() as u32,
        flags: if remembered.reset_on_fork() { RESET_ON_FORK } else { 0 },
        nice: task.sched.nice().get().into(),
        priority: remembered.priority().into(),
        ..Attributes::default()
    })?;
    Ok(0)
}
