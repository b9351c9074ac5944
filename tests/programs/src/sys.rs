//! Raw system calls and the handful of wrappers that nearly every case needs.

use crate::{Errno, call};
use std::arch::asm;
use std::ffi::CStr;

/// What a system call gives: a non-negative value or an error number.
pub type Sys<T = usize> = Result<T, Errno>;

/// Anything that can stand as a system call argument.
pub trait Arg {
    /// The value as it goes into the register.
    fn arg(self) -> usize;
}

macro_rules! integer_args {
    ($($t:ty)*) => { $(impl Arg for $t { fn arg(self) -> usize { self as usize } })* };
}
integer_args!(i32 i64 isize u32 u64 usize);

impl<T> Arg for *const T {
    fn arg(self) -> usize {
        self as usize
    }
}
impl<T> Arg for *mut T {
    fn arg(self) -> usize {
        self as usize
    }
}
impl<T> Arg for &T {
    fn arg(self) -> usize {
        self as *const T as usize
    }
}
impl<T> Arg for &mut T {
    fn arg(self) -> usize {
        self as *mut T as usize
    }
}
impl Arg for &CStr {
    fn arg(self) -> usize {
        self.as_ptr() as usize
    }
}

/// Makes system call `nr` with up to six arguments, without libc in between.
pub fn syscall(nr: i64, args: &[usize]) -> Sys {
    let mut a = [0usize; 6];
    a[..args.len()].copy_from_slice(args);
    let ret: isize;
    // SAFETY: the registers are those of the Linux x86-64 convention and memory counts as clobbered; see the crate
    // documentation for why arbitrary arguments are acceptable here.
    unsafe {
        asm!("syscall", inlateout("rax") nr as isize => ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if (-4095..0).contains(&ret) { Err(Errno(-ret as i32)) } else { Ok(ret as usize) }
}

/// Ends the process at once: no destructors, no atexit handlers, no flushing.
pub fn exit_group(status: i32) -> ! {
    loop {
        let _ = call!(SYS_exit_group, status);
    }
}

/// Ends the calling thread only.
pub fn exit_thread(status: i32) -> ! {
    loop {
        let _ = call!(SYS_exit, status);
    }
}

/// `open` relative to the working directory.
pub fn open(path: &CStr, flags: i32, mode: u32) -> Sys<i32> {
    call!(SYS_openat, libc::AT_FDCWD, path, flags, mode).map(|fd| fd as i32)
}

/// `close`.
pub fn close(fd: i32) -> Sys {
    call!(SYS_close, fd)
}

/// `read` into all of `buf`, once.
pub fn read(fd: i32, buf: &mut [u8]) -> Sys {
    call!(SYS_read, fd, buf.as_mut_ptr(), buf.len())
}

/// `write` all of `buf`, once.
pub fn write(fd: i32, buf: &[u8]) -> Sys {
    call!(SYS_write, fd, buf.as_ptr(), buf.len())
}

/// `lseek`.
pub fn lseek(fd: i32, offset: i64, whence: i32) -> Sys {
    call!(SYS_lseek, fd, offset, whence)
}

/// `pipe2`: (read end, write end).
pub fn pipe(flags: i32) -> Sys<(i32, i32)> {
    let mut fds = [0i32; 2];
    call!(SYS_pipe2, fds.as_mut_ptr(), flags)?;
    Ok((fds[0], fds[1]))
}

/// Reads until end of file.
pub fn read_all(fd: i32) -> Sys<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        match read(fd, &mut buf) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Writes until all is written.
pub fn write_all(fd: i32, mut buf: &[u8]) -> Sys<()> {
    while !buf.is_empty() {
        match write(fd, buf) {
            Ok(n) => buf = &buf[n..],
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Process number of the caller, from the kernel.
pub fn getpid() -> i32 {
    call!(SYS_getpid).map_or(-1, |pid| pid as i32)
}

/// Thread number of the caller, from the kernel.
pub fn gettid() -> i32 {
    call!(SYS_gettid).map_or(-1, |tid| tid as i32)
}

/// Parent's process number.
pub fn getppid() -> i32 {
    call!(SYS_getppid).map_or(-1, |pid| pid as i32)
}

/// Lets somebody else run.
pub fn yield_now() {
    let _ = call!(SYS_sched_yield);
}

/// A value of a plain C structure with all bytes zero.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: used for the plain C structures of libc only, for which all-zero bytes are a value.
    unsafe { std::mem::zeroed() }
}

unsafe extern "C" {
    static environ: *const usize;
}

/// Entry `kind` of the auxiliary vector as the kernel wrote it, 0 if absent. (The C library edits its own copy.)
pub fn auxv(kind: u64) -> u64 {
    // SAFETY: environ still points to the vector that the kernel left on the stack, since nothing here sets variables;
    // the auxiliary vector follows its terminating null and ends with an entry of kind 0.
    unsafe {
        let mut at = environ;
        while *at != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        while *at != 0 {
            if *at as u64 == kind {
                return *at.add(1) as u64;
            }
            at = at.add(2);
        }
    }
    0
}
