//! Locks on files, as programs ask for them.

use alloc::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::fs::file::{FileKind, OpenFile};
use crate::fs::locks::{Lock, LockMode, LockOwner, LockSort};
use crate::fs::table::{Fd, usable_file};
use crate::mm::UserAddr;
use crate::process::{Pid, current};
use crate::syscall::{Call, SysResult};

const LOCK_SH: u32 = 1;
const LOCK_EX: u32 = 2;
const LOCK_NB: u32 = 4;
const LOCK_UN: u32 = 8;

pub fn flock(call: &mut Call<'_>) -> SysResult {
    let file = usable_file(Fd(call.int(0)))?;
    let operation = call.uint(1);
    let lock = |mode| Lock {
        sort: LockSort::Whole,
        mode,
        owner: LockOwner::of_file(&file),
        pid: current().process.pid,
        start: 0,
        last: u64::MAX,
    };
    let locks = &file.inode().locks;
    let wait = operation & LOCK_NB == 0;
    match operation & !LOCK_NB {
        LOCK_SH => change(locks, &lock(LockMode::Shared), wait)?,
        LOCK_EX => change(locks, &lock(LockMode::Exclusive), wait)?,
        LOCK_UN => locks.give_up(&lock(LockMode::Shared))?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Takes a lock of the whole file. One held already is given up first, as `flock(2)` says.
fn change(locks: &crate::fs::locks::FileLocks, lock: &Lock, wait: bool) -> KResult<()> {
    locks.give_up(lock)?;
    locks.take(lock, wait)
}

/// `struct flock` of x86-64.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FlockArgument {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    length: i64,
    pid: i32,
    pad_end: u32,
}

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

/// The range that an argument means; the mode, unless it is to be unlocked.
fn range(file: &Arc<OpenFile>, argument: &FlockArgument, of_file: bool) -> KResult<(Lock, Option<LockMode>)> {
    let mode = match argument.kind {
        F_RDLCK => Some(LockMode::Shared),
        F_WRLCK => Some(LockMode::Exclusive),
        F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let base = match argument.whence {
        0 => 0,
        1 => *file.position.lock() as i64,
        2 => file.inode().size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(argument.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (start, last) = match argument.length {
        0 => (start as u64, u64::MAX),
        length if length > 0 => {
            let last = start.checked_add(length - 1).ok_or(Errno::EOVERFLOW)?;
            (start as u64, last as u64)
        }
        // A negative length means what lies before.
        length => {
            let first = start.checked_add(length).filter(|&first| first >= 0).ok_or(Errno::EINVAL)?;
            (first as u64, (start - 1) as u64)
        }
    };
    let task = current();
    let owner = if of_file { LockOwner::of_file(file) } else { task.process.files.lock().lock_owner() };
    let pid = if of_file { Pid(-1) } else { task.process.pid };
    let lock =
        Lock { sort: LockSort::Record, mode: mode.unwrap_or(LockMode::Shared), owner, pid, start, last };
    Ok((lock, mode))
}

/// `F_GETLK` and `F_OFD_GETLK`.
pub fn get(file: &Arc<OpenFile>, at: UserAddr, of_file: bool) -> SysResult {
    let mut argument: FlockArgument = at.read()?;
    if of_file && argument.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (wanted, mode) = range(file, &argument, of_file)?;
    if mode.is_none() {
        return Err(Errno::EINVAL);
    }
    match file.inode().locks.conflict(&wanted) {
        None => argument.kind = F_UNLCK,
        Some(held) => {
            argument.kind = if held.mode == LockMode::Shared { F_RDLCK } else { F_WRLCK };
            argument.whence = 0;
            argument.start = held.start as i64;
            argument.length = if held.last == u64::MAX { 0 } else { (held.last - held.start + 1) as i64 };
            argument.pid = held.pid.0;
        }
    }
    at.write(&argument).map(|()| 0)
}

/// `F_SETLK`, `F_SETLKW` and their `OFD` kin.
pub fn set(file: &Arc<OpenFile>, at: UserAddr, of_file: bool, wait: bool) -> SysResult {
    let argument: FlockArgument = at.read()?;
    if of_file && argument.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (wanted, mode) = range(file, &argument, of_file)?;
    if matches!(file.kind(), FileKind::Path) {
        return Err(Errno::EBADF);
    }
    match mode {
        None => file.inode().locks.give_up(&wanted)?,
        Some(LockMode::Shared) => {
            file.check_readable()?;
            file.inode().locks.take(&wanted, wait)?;
        }
        Some(LockMode::Exclusive) => {
            file.check_writable()?;
            file.inode().locks.take(&wanted, wait)?;
        }
    }
    Ok(0)
}
