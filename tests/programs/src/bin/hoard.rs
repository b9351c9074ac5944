//! Not a test for a machine with more to lose: uses the memory up, then has many threads wait for many files at once, so
//! that what the kernel needs for system calls in passing runs out too. The calls may fail for lack of memory, and the
//! largest program may be killed for it; everything else goes on. Process 1 of a small machine.

use guest_programs::process::{End, child, finish, in_child, wait_with};
use guest_programs::sys::{close, exit_group, pipe, zeroed};
use guest_programs::{Errno, call, check, eq, fail, mem, ok};
use std::thread;

const THREADS: usize = 100;
/// Descriptors that each of them polls.
const DESCRIPTORS: usize = 400;
/// What is left free before the threads begin, in bytes.
const LEFT: u64 = 2 << 20;

fn free_bytes() -> u64 {
    let mut info: libc::sysinfo = zeroed();
    ok!(call!(SYS_sysinfo, &mut info));
    info.freeram * u64::from(info.mem_unit)
}

/// Touches memory until little is left, says so, and keeps it.
fn fill(said: i32) {
    const PART: usize = 16 * mem::PAGE;
    while free_bytes() > LEFT {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let Ok(at) = call!(SYS_mmap, 0, PART, access, kind, -1, 0) else { break };
        (0..PART).step_by(mem::PAGE).for_each(|offset| mem::poke(at + offset, 1u8));
    }
    ok!(call!(SYS_write, said, c"!", 1));
    loop {
        let _ = call!(SYS_pause);
    }
}

/// Polls far more than there is memory for, in all threads at once, beginning when `begin` can be read.
fn poll_all(begin: i32) {
    let (quiet, _writer) = ok!(pipe(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let thread = thread::Builder::new().stack_size(32 << 10).spawn_scoped(scope, || {
                let mut entries =
                    vec![libc::pollfd { fd: quiet, events: libc::POLLIN, revents: 0 }; DESCRIPTORS];
                let mut first = libc::pollfd { fd: begin, events: libc::POLLIN, revents: 0 };
                eq!(call!(SYS_poll, &mut first, 1, -1), Ok(1));
                for _ in 0..3 {
                    match call!(SYS_poll, entries.as_mut_ptr(), DESCRIPTORS, 300) {
                        Ok(0) | Err(Errno(libc::ENOMEM)) => {}
                        other => fail!("poll: {other:?}"),
                    }
                }
            });
            check!(thread.is_ok());
        }
    });
}

fn main() {
    let (began, begin) = ok!(pipe(0));
    let (filled, fills) = ok!(pipe(0));
    let poller = child(|| poll_all(began));
    // The threads are made, or nearly, before memory is short: afterwards there would be none.
    guest_programs::sync::until(|| {
        let tasks = std::fs::read_dir(format!("/proc/{poller}/task"));
        tasks.is_ok_and(|tasks| tasks.count() > THREADS)
    });
    let hog = child(|| fill(fills));
    ok!(close(fills));
    let mut byte = 0u8;
    eq!(call!(SYS_read, filled, &mut byte, 1), Ok(1));
    ok!(call!(SYS_write, begin, c"!", 1));
    match ok!(wait_with(poller, libc::__WALL)).1 {
        End::Exit(0) | End::Signal(libc::SIGKILL) => {}
        end => fail!("the one that polls: {end:?}"),
    }
    finish(hog);
    in_child(|| exit_group(0));
    guest_programs::harness::print("all others live\n");
}
