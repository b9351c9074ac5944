//! Descriptors that run out.

use std::thread;

use crate::sync::until;
use crate::sys::{close, yield_now, zeroed};
use crate::{Errno, call, eq, err, ok};

/// Does `work` with no more than so many descriptors.
pub fn with_limit<R>(descriptors: u64, work: impl FnOnce() -> R) -> R {
    let mut limit: libc::rlimit = zeroed();
    ok!(call!(SYS_getrlimit, libc::RLIMIT_NOFILE, &raw mut limit));
    ok!(call!(SYS_setrlimit, libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: descriptors, ..limit }));
    let result = work();
    ok!(call!(SYS_setrlimit, libc::RLIMIT_NOFILE, &limit));
    result
}

/// The number that the next descriptor has.
fn next(open: i32) -> u64 {
    let fd = ok!(call!(SYS_dup, open));
    ok!(close(fd as i32));
    fd as u64
}

/// A thread waits in `accept` of `listener`, which is not nonblocking, with the last descriptor there may be: nobody else gets
/// it, and what `connect` connects then has it, which itself opens nothing. The connection is closed.
pub fn accept_with_the_last(listener: i32, connect: impl FnOnce()) {
    let last = next(listener);
    let fd = with_limit(last + 1, || {
        let waiter = thread::spawn(move || {
            loop {
                match call!(SYS_accept, listener, 0, 0) {
                    // While the other thread has it, to see whether it gets it.
                    Err(Errno(libc::EMFILE)) => yield_now(),
                    result => return result,
                }
            }
        });
        until(|| {
            let got = call!(SYS_dup, listener);
            let _ = got.map(|fd| close(fd as i32));
            got.is_err()
        });
        err!(call!(SYS_dup, listener), EMFILE);
        err!(call!(SYS_dup2, listener, last), EBUSY);
        connect();
        let fd = ok!(ok!(waiter.join()));
        eq!(fd as u64, last);
        fd
    });
    ok!(close(fd as i32));
    // Whoever has nothing to accept gives it back.
    let flags = ok!(call!(SYS_fcntl, listener, libc::F_GETFL));
    ok!(call!(SYS_fcntl, listener, libc::F_SETFL, flags as i32 | libc::O_NONBLOCK));
    err!(call!(SYS_accept, listener, 0, 0), EAGAIN);
    eq!(next(listener), last);
}
