//! Making and closing descriptors.

use crate::errno::{Errno, KResult};
use crate::fs::anonymous;
use crate::fs::caller::{AT_FDCWD, Caller, UserPath};
use crate::fs::flags::{O_CLOEXEC, O_CREAT, O_DIRECT, O_LARGEFILE, O_NONBLOCK, O_TRUNC, O_WRONLY};
use crate::fs::open::{OpenRequest, open as open_path};
use crate::fs::table::{self, Fd, FileTable, OnExec, install};
use crate::mm::UserAddr;
use crate::process::current;
use crate::syscall::{Call, SysResult};

pub fn open(call: &mut Call<'_>) -> SysResult {
    open_user(AT_FDCWD, call.user(0), call.uint(1), call.uint(2))
}

pub fn openat(call: &mut Call<'_>) -> SysResult {
    open_user(call.int(0), call.user(1), call.uint(2), call.uint(3))
}

pub fn creat(call: &mut Call<'_>) -> SysResult {
    open_user(AT_FDCWD, call.user(0), O_CREAT | O_WRONLY | O_TRUNC, call.uint(1))
}

fn open_user(directory: i32, path: UserAddr, flags: u32, mode: u32) -> SysResult {
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    // What Linux adds for every 64-bit program.
    let request = OpenRequest::new(flags | O_LARGEFILE, mode & !caller.context.umask())?;
    let start = caller.start(directory, path.as_bytes())?;
    let file = open_path(&caller, start.as_ref(), path.as_bytes(), request)?;
    install(file, OnExec::close_if(flags & O_CLOEXEC != 0)).map(|fd| fd.0 as u64)
}

/// `openat2(2)` with no restriction on the walk; those are not offered.
pub fn openat2(call: &mut Call<'_>) -> SysResult {
    let (how, size) = (call.user(2), call.size(3));
    if size < 24 {
        return Err(Errno::EINVAL);
    }
    let [flags, mode, resolve] = how.read::<[u64; 3]>()?;
    for extra in 24..size.min(4096) {
        if how.offset(extra as u64).read::<u8>()? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let wants_mode = flags & u64::from(O_CREAT) != 0 || flags & 0o20000000 != 0;
    if flags >> 32 != 0 || mode & !0o7777 != 0 || (mode != 0 && !wants_mode) || resolve & !0x3f != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    open_user(call.int(0), call.user(1), flags as u32, mode as u32)
}

pub fn close(call: &mut Call<'_>) -> SysResult {
    table::close(Fd(call.int(0))).map(|()| 0)
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

pub fn close_range(call: &mut Call<'_>) -> SysResult {
    let (first, last, flags) = (call.uint(0), call.uint(1), call.uint(2));
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let process = &task.process;
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let copy = process.files().fork()?;
        let old = core::mem::replace(&mut *process.files.lock(), copy);
        drop(old);
    }
    let files: alloc::sync::Arc<FileTable> = process.files();
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        files.close_range_on_exec(first as usize, last as usize);
    } else {
        files.close_range(first as usize, last as usize);
    }
    Ok(0)
}

pub fn pipe(call: &mut Call<'_>) -> SysResult {
    make_pipe(call.user(0), 0)
}

pub fn pipe2(call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(1);
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & O_DIRECT != 0 {
        // Packets are not offered.
        return Err(Errno::EINVAL);
    }
    make_pipe(call.user(0), flags)
}

fn make_pipe(to: UserAddr, flags: u32) -> SysResult {
    let on_exec = OnExec::close_if(flags & O_CLOEXEC != 0);
    let [read, write] = anonymous::pipe(flags & O_NONBLOCK);
    let read = install(read, on_exec)?;
    let made: KResult<()> = match install(write, on_exec) {
        Ok(write) => to.write(&[read.0, write.0]).inspect_err(|_| {
            // The program never saw them.
            let _ = table::close(write);
        }),
        Err(error) => Err(error),
    };
    if let Err(error) = made {
        let _ = table::close(read);
        return Err(error);
    }
    Ok(0)
}
