//! Handing over: between processes, through pipes, futexes and the scheduler.

use crate::{closing, timed};
use guest_programs::process::{End, child, wait};
use guest_programs::sync::{await_change, futex_wake};
use guest_programs::sys::{self, read, write};
use guest_programs::time::now;
use guest_programs::{call, check, mem, ok};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// With this process and its children bound to its first CPU.
pub fn on_one_cpu(body: impl FnOnce() -> i64) -> i64 {
    let mut mask = [0u64; 16];
    ok!(call!(SYS_sched_getaffinity, 0, 128, mask.as_mut_ptr()));
    let first = mask[0] & mask[0].wrapping_neg();
    ok!(call!(SYS_sched_setaffinity, 0, 8, &first));
    let took = body();
    ok!(call!(SYS_sched_setaffinity, 0, 128, mask.as_ptr()));
    took
}

/// Two processes that hand a byte to and fro: half a round trip is one operation.
pub fn pipe(n: u32) -> i64 {
    let (there, back) = (ok!(sys::pipe(0)), ok!(sys::pipe(0)));
    let pid = child(|| {
        for _ in 0..n / 2 {
            ok!(read(there.0, &mut [0]));
            ok!(write(back.1, b"x"));
        }
    });
    let took = timed(n / 2, || {
        ok!(write(there.1, b"x"));
        ok!(read(back.0, &mut [0]));
    });
    check!(wait(pid) == End::Exit(0));
    closing(&[there.0, there.1, back.0, back.1]);
    took
}

pub fn futex(n: u32) -> i64 {
    let page = mem::shared(mem::PAGE);
    let ball: &AtomicU32 = mem::at(page);
    let player = |parity: u32| {
        for turn in (0..n).filter(|turn| turn % 2 == parity) {
            loop {
                let now = ball.load(SeqCst);
                if now == turn {
                    break;
                }
                await_change(ball, now);
            }
            ball.store(turn + 1, SeqCst);
            ok!(futex_wake(ball, 1));
        }
    };
    let pid = child(|| player(1));
    let start = now();
    player(0);
    check!(wait(pid) == End::Exit(0));
    let took = now() - start;
    ok!(mem::munmap(page, mem::PAGE));
    took
}

pub fn yield_to_other(n: u32) -> i64 {
    let stop: &AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let pid = child(|| {
        while stop.load(SeqCst) == 0 {
            sys::yield_now();
        }
    });
    let took = timed(n, sys::yield_now);
    stop.store(1, SeqCst);
    check!(wait(pid) == End::Exit(0));
    took
}

/// What unlocking a lock costs whose waiters have just gone.
pub fn wake_nobody(n: u32) -> i64 {
    let word = AtomicU32::new(0);
    timed(n, || check!(ok!(futex_wake(&word, 1)) == 0))
}
