//! A timer that has been disarmed sends nothing any more.

use guest_programs::signal::{block, pending, set};
use guest_programs::sys::{gettid, zeroed};
use guest_programs::time::{now, rounds, timespec};
use guest_programs::{Case, call, cases, eq, ok};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::thread::spawn;

pub const CASES: &[Case] =
    cases![interval_timer_is_silent_once_disarmed, posix_timer_is_silent_once_disarmed];

const MICRO: i64 = 1000;

fn stay_on(cpu: usize) {
    // On a machine of one CPU everybody stays where he is.
    let _ = call!(SYS_sched_setaffinity, gettid(), 8, &(1u64 << cpu));
}

/// Arms a timer on one CPU and disarms it on another, sooner and later.
fn disarm_in_time(arm: fn(i64)) {
    /// How long the timer is to be armed for; 0 when that is done.
    static WANTED: AtomicI64 = AtomicI64::new(0);
    static OVER: AtomicU32 = AtomicU32::new(0);
    block(&[libc::SIGALRM]);
    let other = spawn(move || {
        stay_on(0);
        while OVER.load(SeqCst) == 0 {
            let length = WANTED.load(SeqCst);
            if length != 0 {
                arm(length);
                WANTED.store(0, SeqCst);
            }
            guest_programs::sys::yield_now();
        }
    });
    stay_on(1);
    for round in rounds(10_000) {
        WANTED.store(60 * MICRO, SeqCst);
        while WANTED.load(SeqCst) != 0 {
            guest_programs::sys::yield_now();
        }
        let start = now();
        while now() - start < i64::from(round % 120) * MICRO {
            spin_loop();
        }
        arm(0);
        let before = pending();
        let start = now();
        while now() - start < 30 * MICRO {
            spin_loop();
        }
        eq!(pending(), before);
        let _ = call!(SYS_rt_sigtimedwait, &set(&[libc::SIGALRM]), 0, &timespec(0), 8);
    }
    OVER.store(1, SeqCst);
    ok!(other.join().map_err(|_| ()));
}

fn interval_timer_is_silent_once_disarmed() {
    disarm_in_time(|length| {
        let mut timer: libc::itimerval = zeroed();
        timer.it_value.tv_usec = length / MICRO;
        ok!(call!(SYS_setitimer, libc::ITIMER_REAL, &timer, 0));
    });
}

fn posix_timer_is_silent_once_disarmed() {
    static TIMER: AtomicU32 = AtomicU32::new(0);
    let mut timer = 0u32;
    ok!(call!(SYS_timer_create, libc::CLOCK_MONOTONIC, 0, &mut timer));
    TIMER.store(timer, SeqCst);
    disarm_in_time(|length| {
        let time = libc::itimerspec { it_interval: timespec(0), it_value: timespec(length) };
        ok!(call!(SYS_timer_settime, TIMER.load(SeqCst), 0, &time, 0));
    });
}
