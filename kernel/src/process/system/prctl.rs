//! `prctl(2)` and `personality(2)`.

use core::sync::atomic::Ordering;

use crate::errno::Errno;
use crate::process::{TaskName, current};
use crate::signal::Signal;
use crate::syscall::{Call, SysResult};

// include/uapi/linux/prctl.h
const SET_PDEATHSIG: i32 = 1;
const GET_PDEATHSIG: i32 = 2;
const GET_DUMPABLE: i32 = 3;
const SET_DUMPABLE: i32 = 4;
const GET_KEEPCAPS: i32 = 7;
const GET_TIMING: i32 = 13;
const SET_TIMING: i32 = 14;
const SET_NAME: i32 = 15;
const GET_NAME: i32 = 16;
const GET_SECCOMP: i32 = 21;
const CAPBSET_READ: i32 = 23;
const GET_TSC: i32 = 25;
const SET_TSC: i32 = 26;
const GET_SECUREBITS: i32 = 27;
const SET_TIMERSLACK: i32 = 29;
const GET_TIMERSLACK: i32 = 30;
const SET_CHILD_SUBREAPER: i32 = 36;
const GET_CHILD_SUBREAPER: i32 = 37;
const SET_NO_NEW_PRIVS: i32 = 38;
const GET_NO_NEW_PRIVS: i32 = 39;
const GET_TID_ADDRESS: i32 = 40;
const GET_THP_DISABLE: i32 = 42;
const CAP_AMBIENT: i32 = 47;
const CAP_AMBIENT_IS_SET: u64 = 1;

/// PR_TSC_ENABLE: programs may read the time-stamp counter.
const TSC_ENABLE: u64 = 1;

/// The highest capability there is in Linux 6.1: CAP_CHECKPOINT_RESTORE.
pub(super) const LAST_CAPABILITY: u64 = 40;

/// `prctl(2)`
pub(super) fn prctl(call: &mut Call<'_>) -> SysResult {
    let task = current();
    let process = &task.process;
    let relaxed = Ordering::Relaxed;
    let (value, to) = (call.raw(1), call.user(1));
    let no_more = call.raw(2) == 0 && call.raw(3) == 0 && call.raw(4) == 0;
    match call.int(0) {
        SET_PDEATHSIG => {
            let number = i32::try_from(value).map_err(|_| Errno::EINVAL)?;
            if number != 0 && Signal::new(number).is_none() {
                return Err(Errno::EINVAL);
            }
            process.parent_death_signal.store(number as u32, relaxed);
        }
        GET_PDEATHSIG => to.write(&process.parent_death_signal.load(relaxed))?,
        GET_DUMPABLE => return Ok(process.dumpable.load(relaxed).into()),
        SET_DUMPABLE if value <= 1 => process.dumpable.store(value == 1, relaxed),
        GET_KEEPCAPS | GET_TIMING | GET_SECCOMP | GET_SECUREBITS | GET_THP_DISABLE => {}
        SET_TIMING if value == 0 => {}
        SET_NAME => {
            let mut name = [0; 16];
            let read = to.read_partial(&mut name[..15])?;
            if read < 15 && !name[..read].contains(&0) {
                return Err(Errno::EFAULT);
            }
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            task.set_name(TaskName::new(name));
        }
        GET_NAME => {
            to.write_bytes(task.name().padded())?;
        }
        CAPBSET_READ if value <= LAST_CAPABILITY => return Ok(1),
        GET_TSC => to.write(&(TSC_ENABLE as u32))?,
        SET_TSC if value == TSC_ENABLE => {}
        SET_TIMERSLACK => task.sched.remembered.set_timer_slack(value),
        GET_TIMERSLACK => return Ok(task.sched.remembered.timer_slack()),
        SET_CHILD_SUBREAPER => process.child_subreaper.store(value != 0, relaxed),
        GET_CHILD_SUBREAPER => to.write(&u32::from(process.child_subreaper.load(relaxed)))?,
        SET_NO_NEW_PRIVS if value == 1 && no_more => {
            process.attributes.no_new_privileges.store(true, relaxed);
        }
        GET_NO_NEW_PRIVS if value == 0 && no_more => {
            return Ok(process.attributes.no_new_privileges.load(relaxed).into());
        }
        GET_TID_ADDRESS => to.write(&task.clear_child_tid.load(relaxed))?,
        CAP_AMBIENT if value == CAP_AMBIENT_IS_SET && call.raw(2) <= LAST_CAPABILITY => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `personality(2)`
pub(super) fn personality(call: &mut Call<'_>) -> SysResult {
    /// Asks only.
    const QUERY: u32 = 0xffff_ffff;
    let personality = &current().process.attributes.personality;
    let new = call.uint(0);
    let old = if new == QUERY {
        personality.load(Ordering::Relaxed)
    } else {
        personality.swap(new, Ordering::Relaxed)
    };
    Ok(old.into())
}
