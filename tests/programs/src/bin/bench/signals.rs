//! Signals.

use crate::timed;
use guest_programs::process::{child, finish, kill};
use guest_programs::sys::{getpid, gettid, zeroed};
use guest_programs::{call, check, mem, ok, signal};

pub fn to_self(n: u32) -> i64 {
    signal::handle(libc::SIGUSR1, 0, signal::count);
    let (pid, tid) = (getpid(), gettid());
    timed(n, || _ = call!(SYS_tgkill, pid, tid, libc::SIGUSR1))
}

pub fn fault_to_handler(n: u32) -> i64 {
    let at = mem::unmapped();
    timed(n, || check!(signal::read_faults(at).is_some()))
}

/// Blocking a signal and letting it through again.
pub fn mask(n: u32) -> i64 {
    timed(n / 2, || {
        signal::block(&[libc::SIGUSR1]);
        signal::unblock(&[libc::SIGUSR1]);
    })
}

/// A signal to another process, and its answer by another: half a round trip is one operation.
pub fn to_other(n: u32) -> i64 {
    signal::block(&[libc::SIGUSR1]);
    let parent = getpid();
    let next = || {
        let set = signal::set(&[libc::SIGUSR1]);
        let mut info: libc::siginfo_t = zeroed();
        check!(ok!(call!(SYS_rt_sigtimedwait, &set, &mut info, 0, 8)) == libc::SIGUSR1 as usize);
    };
    let pid = child(|| {
        loop {
            next();
            ok!(kill(parent, libc::SIGUSR1));
        }
    });
    let took = timed(n / 2, || {
        ok!(kill(pid, libc::SIGUSR1));
        next();
    });
    finish(pid);
    took
}
