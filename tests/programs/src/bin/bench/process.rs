//! Making processes and running programs in them.

use crate::timed;
use guest_programs::process::{End, child, clone_onto, execve, self_exe, wait};
use guest_programs::{call, check, elf, fs, mem, ok};

/// The smallest program there can be, so that what is measured is the kernel's part.
pub fn exec_tiny(n: u32) -> i64 {
    fs::put(c"/tmp/bench-tiny", &elf::tiny(&elf::exit_code(0)), 0o755);
    extern "C" fn run(_: usize) -> i32 {
        execve(c"/tmp/bench-tiny", &[c"tiny"], &[]);
        99
    }
    let stack = mem::stack(65536);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let took = timed(n, || {
        let pid = ok!(clone_onto(flags, stack, run, 0, 0, 0, 0));
        check!(wait(pid) == End::Exit(0));
    });
    ok!(mem::munmap(stack - 65536 - mem::PAGE, 65536 + mem::PAGE));
    ok!(call!(SYS_unlink, c"/tmp/bench-tiny"));
    took
}

/// This very program, which is an ordinary static one.
pub fn exec_self(n: u32) -> i64 {
    timed(n, || {
        let pid = child(|| {
            execve(self_exe(), &[c"bench", c"@true"], &[]);
        });
        check!(wait(pid) == End::Exit(0));
    })
}

/// A fork of a process that has 16 MiB in use.
pub fn fork_with_memory(n: u32) -> i64 {
    const LENGTH: usize = 16 << 20;
    let at = mem::anon(LENGTH);
    let _ = call!(SYS_madvise, at, LENGTH, libc::MADV_NOHUGEPAGE);
    (0..LENGTH / mem::PAGE).for_each(|i| mem::poke(at + i * mem::PAGE, 1u8));
    let took = timed(n, || check!(wait(child(|| ())) == End::Exit(0)));
    ok!(mem::munmap(at, LENGTH));
    took
}
