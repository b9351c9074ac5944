//! System calls of `epoll(7)`.

use alloc::sync::Arc;

use platform::Nanoseconds;

use super::epoll::{EDGE, EXCLUSIVE, Epoll, Event, Timeout, WAKE_UP};
use super::epoll_nesting;
use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_CLOEXEC, O_RDWR};
use crate::fs::poll::PollEvents;
use crate::fs::table::{Fd, OnExec, install, usable_file};
use crate::mm::UserAddr;
use crate::signal::{SignalSet, read_mask, with_temporary_mask};
use crate::syscall::{Call, SysResult};
use crate::time::abi::Timespec;

const ADD: i32 = 1;
const DELETE: i32 = 2;
const MODIFY: i32 = 3;

/// What may be asked for beside [`EXCLUSIVE`].
const WITH_EXCLUSIVE: u32 =
    PollEvents::IN.union(PollEvents::OUT).union(PollEvents::ALWAYS).bits() | WAKE_UP | EDGE | EXCLUSIVE;

/// Most events one call may ask for.
const MAX_EVENTS: i32 = i32::MAX / size_of::<Event>() as i32;

fn create(flags: u32) -> SysResult {
    if flags & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = OpenFile::device("anon_inode:[eventpoll]", Arc::new(Epoll::new()), O_RDWR);
    let fd = install(file, OnExec::close_if(flags & O_CLOEXEC != 0))?;
    Ok(fd.0 as u64)
}

pub(super) fn epoll_create(call: &mut Call<'_>) -> SysResult {
    // The size was once a hint; that it must not be 0 is left of it.
    if call.int(0) <= 0 { Err(Errno::EINVAL) } else { create(0) }
}

pub(super) fn epoll_create1(call: &mut Call<'_>) -> SysResult {
    create(call.uint(0))
}

pub(super) fn epoll_ctl(call: &mut Call<'_>) -> SysResult {
    let (operation, fd) = (call.int(1), Fd(call.int(2)));
    let event = if operation == DELETE { Event { events: 0, data: 0 } } else { call.user(3).read()? };
    let set_file = usable_file(Fd(call.int(0)))?;
    let file = usable_file(fd)?;
    if !file.can_be_watched() {
        return Err(Errno::EPERM);
    }
    let inner = file.ops_as::<Epoll>();
    let Some(set) = set_file.ops_as::<Epoll>().filter(|_| !Arc::ptr_eq(&set_file, &file)) else {
        return Err(Errno::EINVAL);
    };
    if operation != DELETE && event.events & EXCLUSIVE != 0 {
        let fits = operation == ADD && inner.is_none() && event.events & !WITH_EXCLUSIVE == 0;
        if !fits {
            return Err(Errno::EINVAL);
        }
    }
    match operation {
        ADD => {
            let _nesting = match inner {
                Some(inner) => Some(epoll_nesting::check(set, inner)?),
                None => None,
            };
            set.add(&file, fd, event)?;
        }
        DELETE => set.remove(&file, fd)?,
        MODIFY => set.modify(&file, fd, event)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

#[inline]
fn wait(call: &Call<'_>, timeout: Timeout, mask: Option<SignalSet>) -> SysResult {
    let (to, room) = (call.user(1), call.int(2));
    if room <= 0 || room > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    let room = room as usize;
    to.check(room * size_of::<Event>())?;
    let file = usable_file(Fd(call.int(0)))?;
    let set = file.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    let count = with_temporary_mask(mask, || set.wait(to, room, timeout))?;
    Ok(count as u64)
}

fn milliseconds(timeout: i32) -> Timeout {
    match timeout {
        0 => Timeout::AtOnce,
        1.. => Timeout::At(crate::time::now().saturating_add(Nanoseconds(timeout as u64 * 1_000_000))),
        _ => Timeout::Never,
    }
}

fn timespec(timeout: UserAddr) -> KResult<Timeout> {
    if timeout.is_null() {
        return Ok(Timeout::Never);
    }
    Ok(match timeout.read::<Timespec>()?.duration()? {
        Nanoseconds::ZERO => Timeout::AtOnce,
        duration => Timeout::At(crate::time::now().saturating_add(duration)),
    })
}

pub(super) fn epoll_wait(call: &mut Call<'_>) -> SysResult {
    wait(call, milliseconds(call.int(3)), None)
}

pub(super) fn epoll_pwait(call: &mut Call<'_>) -> SysResult {
    let mask = read_mask(call.user(4), call.size(5))?;
    wait(call, milliseconds(call.int(3)), mask)
}

pub(super) fn epoll_pwait2(call: &mut Call<'_>) -> SysResult {
    let timeout = timespec(call.user(3))?;
    let mask = read_mask(call.user(4), call.size(5))?;
    wait(call, timeout, mask)
}
