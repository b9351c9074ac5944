//! Descriptors, and the odd requests that go to an open file.

use alloc::sync::Arc;

use super::locking;
use crate::errno::{Errno, KResult};
use crate::fs::file::{FileKind, OpenFile};
use crate::fs::flags::{O_ACCMODE, O_APPEND, O_ASYNC, O_CLOEXEC, O_NOATIME};
use crate::fs::regular::seal;
use crate::fs::table::{self, Fd, OnExec, file_limit, open_file, usable_file};
use crate::process::current;
use crate::syscall::{Call, SysResult};

pub fn dup(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    table::install(file, OnExec::Keep).map(|fd| fd.0 as u64)
}

pub fn dup2(call: &mut Call<'_>) -> SysResult {
    let (old, new) = (Fd(call.int(0)), Fd(call.int(1)));
    if old == new {
        open_file(old)?;
        return Ok(new.0 as u64);
    }
    replace(old, new, OnExec::Keep)
}

pub fn dup3(call: &mut Call<'_>) -> SysResult {
    let (old, new, flags) = (Fd(call.int(0)), Fd(call.int(1)), call.uint(2));
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    replace(old, new, OnExec::close_if(flags & O_CLOEXEC != 0))
}

fn replace(old: Fd, new: Fd, on_exec: OnExec) -> SysResult {
    let limit = file_limit();
    let (gone, owner) = {
        let task = current();
        let files = task.process.files.lock();
        let file = files.get(old)?;
        (files.replace(new, file, on_exec, limit)?, files.lock_owner())
    };
    if let Some(gone) = gone {
        table::closed(&gone, owner);
    }
    Ok(new.0 as u64)
}

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

pub fn fcntl(call: &mut Call<'_>) -> SysResult {
    let (fd, command, argument) = (Fd(call.int(0)), call.uint(1), call.raw(2));
    let file = open_file(fd)?;
    if file.is_path() && !matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL) {
        return Err(Errno::EBADF);
    }
    let files = || current().process.files();
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let limit = file_limit();
            let from = usize::try_from(argument as i32).map_err(|_| Errno::EINVAL)?;
            if from as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            let on_exec = OnExec::close_if(command == F_DUPFD_CLOEXEC);
            files().add(file, on_exec, from, limit).map(|fd| fd.0 as u64)
        }
        F_GETFD => files().on_exec(fd).map(|on_exec| u64::from(on_exec == OnExec::Close)),
        F_SETFD => files().set_on_exec(fd, OnExec::close_if(argument & 1 != 0)).map(|()| 0),
        F_GETFL => Ok(u64::from(file.flags())),
        F_SETFL => set_flags(&file, argument as u32),
        F_GETLK | F_OFD_GETLK => locking::get(&file, call.user(2), command == F_OFD_GETLK),
        F_SETLK | F_OFD_SETLK => locking::set(&file, call.user(2), command == F_OFD_SETLK, false),
        F_SETLKW | F_OFD_SETLKW => locking::set(&file, call.user(2), command == F_OFD_SETLKW, true),
        F_SETOWN => {
            file.set_owner(argument as i32);
            Ok(0)
        }
        F_GETOWN => Ok(file.owner() as i64 as u64),
        F_SETPIPE_SZ => {
            let pipe = file.pipe().ok_or(Errno::EBADF)?;
            let privileged = current().process.credentials().is_privileged();
            pipe.set_capacity(argument as u32 as usize, privileged).map(|size| size as u64)
        }
        F_GETPIPE_SZ => Ok(file.pipe().ok_or(Errno::EBADF)?.capacity() as u64),
        F_ADD_SEALS => {
            let seals = argument as u32;
            let known =
                seal::SEAL | seal::SHRINK | seal::GROW | seal::WRITE | seal::FUTURE_WRITE | seal::EXEC;
            let regular = file.regular().ok_or(Errno::EINVAL)?;
            file.check_writable().map_err(|_| Errno::EPERM)?;
            if seals & !known != 0 {
                return Err(Errno::EINVAL);
            }
            regular.add_seals(seals).map(|()| 0)
        }
        F_GET_SEALS => Ok(file.regular().ok_or(Errno::EINVAL)?.seals().into()),
        _ => Err(Errno::EINVAL),
    }
}

fn set_flags(file: &Arc<OpenFile>, flags: u32) -> SysResult {
    if flags & O_NOATIME != 0 && file.flags() & O_NOATIME == 0 {
        file.inode().check_owner(&current().process.credentials())?;
    }
    let keeps_order = file.regular().is_some_and(|regular| regular.seals() & seal::WRITE != 0);
    if keeps_order && (flags ^ file.flags()) & O_APPEND != 0 && flags & O_ACCMODE == 0 {
        return Err(Errno::EPERM);
    }
    // Nothing sends SIGIO, so asking for it is refused rather than forgotten.
    file.set_flags(flags & !O_ASYNC);
    Ok(0)
}

const FIOCLEX: u32 = 0x5451;
const FIONCLEX: u32 = 0x5450;
const FIONBIO: u32 = 0x5421;
const FIOASYNC: u32 = 0x5452;
const FIONREAD: u32 = 0x541b;
const FIOQSIZE: u32 = 0x5460;
const FIGETBSZ: u32 = 2;

pub fn ioctl(call: &mut Call<'_>) -> SysResult {
    let (fd, request, argument) = (Fd(call.int(0)), call.uint(1), call.user(2));
    let file = usable_file(fd)?;
    match request {
        FIOCLEX => current().process.files().set_on_exec(fd, OnExec::Close).map(|()| 0),
        FIONCLEX => current().process.files().set_on_exec(fd, OnExec::Keep).map(|()| 0),
        FIONBIO => {
            file.set_nonblocking(argument.read::<i32>()? != 0);
            Ok(0)
        }
        FIOASYNC => argument.read::<i32>().map(|_| 0),
        FIGETBSZ if file.path().is_some() && file.ops().is_none() => argument.write(&4096i32).map(|()| 0),
        FIOQSIZE if matches!(file.kind(), FileKind::Regular | FileKind::Directory) => {
            argument.write(&file.inode().size()).map(|()| 0)
        }
        FIONREAD => match (file.pipe(), file.regular()) {
            (Some(pipe), _) => argument.write(&(pipe.used() as i32)).map(|()| 0),
            (_, Some(regular)) => {
                let position = *file.position.lock();
                let left = (regular.size() as i64).saturating_sub(position as i64);
                argument.write(&(left.clamp(i32::MIN.into(), i32::MAX.into()) as i32)).map(|()| 0)
            }
            _ => forward(&file, request, call),
        },
        _ => forward(&file, request, call),
    }
}

fn forward(file: &Arc<OpenFile>, request: u32, call: &Call<'_>) -> SysResult {
    match file.ops() {
        Some(ops) => ops.ioctl(file, request, call.user(2)),
        None => Err(Errno::ENOTTY),
    }
}

/// Files are in memory: only devices have something to write through.
pub fn sync(_call: &mut Call<'_>) -> SysResult {
    crate::devices::sync();
    Ok(0)
}

/// The same, of one file.
pub fn sync_file(call: &mut Call<'_>) -> SysResult {
    let file = usable_file(Fd(call.int(0)))?;
    match file.kind() {
        FileKind::Regular | FileKind::Directory => Ok(0),
        FileKind::Device(ops) | FileKind::Seekable(ops) if file.path().is_some() => ops.sync().map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

fn in_memory(file: &OpenFile) -> KResult<()> {
    if file.pipe().is_some() { Err(Errno::ESPIPE) } else { Ok(()) }
}

pub fn fadvise64(call: &mut Call<'_>) -> SysResult {
    let file = usable_file(Fd(call.int(0)))?;
    in_memory(&file)?;
    if call.uint(3) > 5 || call.long(2) < 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

pub fn readahead(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_readable()?;
    if file.regular().is_some() { Ok(0) } else { Err(Errno::EINVAL) }
}
