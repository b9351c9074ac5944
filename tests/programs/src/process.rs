//! Children: forking, cloning, waiting.

use crate::check::FAILED;
use crate::sys::{Sys, exit_group};
use crate::{Errno, call, fail};
use std::ffi::CStr;

/// How a child ended, or what `wait` says it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exit(i32),
    /// This signal killed it.
    Signal(i32),
    /// This signal stopped it.
    Stopped(i32),
    /// SIGCONT set it going again.
    Continued,
}

impl End {
    /// From the status word of `wait4`.
    pub fn from_status(status: i32) -> End {
        if libc::WIFEXITED(status) {
            End::Exit(libc::WEXITSTATUS(status))
        } else if libc::WIFSTOPPED(status) {
            End::Stopped(libc::WSTOPSIG(status))
        } else if libc::WIFCONTINUED(status) {
            End::Continued
        } else {
            End::Signal(libc::WTERMSIG(status))
        }
    }
}

/// Forks; in the child runs `body` and exits with what it returns.
pub fn child_status(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only runs `body` and leaves by exit_group, never by returning into the caller's frames.
    match unsafe { libc::fork() } {
        -1 => fail!("fork: {:?}", Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
        0 => exit_group(body()),
        pid => pid,
    }
}

/// Forks; in the child runs `body` and exits with 0.
pub fn child(body: impl FnOnce()) -> i32 {
    child_status(|| {
        body();
        0
    })
}

/// `wait4` with options, retried when a signal interrupts it: the child's number (0 if none yet) and what it did.
pub fn wait_with(pid: i32, options: i32) -> Sys<(i32, End)> {
    let mut status = 0i32;
    loop {
        match call!(SYS_wait4, pid, &mut status, options, 0) {
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
            Ok(pid) => return Ok((pid as i32, End::from_status(status))),
        }
    }
}

/// Waits for child `pid` to end. A failure the child printed already becomes this process's own.
pub fn wait(pid: i32) -> End {
    match wait_with(pid, libc::__WALL) {
        Ok((_, End::Exit(FAILED))) => exit_group(FAILED),
        Ok((_, end)) => end,
        Err(e) => fail!("wait4({pid}): {e:?}"),
    }
}

/// Runs `body` in a child and gives how it ended (`Exit(0)` if `body` returns).
pub fn end_of(body: impl FnOnce()) -> End {
    wait(child(body))
}

/// Runs `body` in a child that must end well.
pub fn in_child(body: impl FnOnce()) {
    match end_of(body) {
        End::Exit(0) => {}
        end => fail!("child ended with {end:?}"),
    }
}

/// `kill`.
pub fn kill(pid: i32, signal: i32) -> Sys {
    call!(SYS_kill, pid, signal)
}

/// Kills a child that is not needed any more, and reaps it.
pub fn finish(pid: i32) {
    let _ = kill(pid, libc::SIGKILL);
    let _ = wait_with(pid, libc::__WALL);
}

/// `execve` with these strings; returns only on failure.
pub fn execve(path: &CStr, argv: &[&CStr], envp: &[&CStr]) -> Errno {
    let vector = |strings: &[&CStr]| -> Vec<usize> {
        strings.iter().map(|s| s.as_ptr() as usize).chain([0]).collect()
    };
    let (argv, envp) = (vector(argv), vector(envp));
    match call!(SYS_execve, path, argv.as_ptr(), envp.as_ptr()) {
        Err(e) => e,
        Ok(_) => fail!("execve returned success"),
    }
}

/// Path by which this very program was executed, absolute. Does not need /proc.
pub fn self_exe() -> &'static CStr {
    crate::harness::SELF.get().map_or_else(|| fail!("own path unknown"), |path| path.as_c_str())
}

/// Raw `clone` onto a new stack: the new task runs `entry(arg)` and then exits (that thread alone) with its result.
/// `stack` is the top of an area of memory that stays mapped until the task ends.
pub fn clone_onto(
    flags: i32,
    stack: usize,
    entry: extern "C" fn(usize) -> i32,
    arg: usize,
    parent_tid: usize,
    child_tid: usize,
    tls: usize,
) -> Sys<i32> {
    let top = (stack & !15) - 16;
    crate::mem::poke(top, entry as usize);
    crate::mem::poke(top + 8, arg);
    let ret: isize;
    // SAFETY: the new task starts on its own stack, from which it takes `entry` and `arg`; it never returns into
    // this frame. The parent sees an ordinary system call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "pop rax",
            "pop rdi",
            "call rax",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => ret,
            in("rdi") flags, in("rsi") top, in("rdx") parent_tid, in("r10") child_tid, in("r8") tls,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if ret < 0 { Err(Errno(-ret as i32)) } else { Ok(ret as i32) }
}
