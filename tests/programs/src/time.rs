//! Clocks, in nanoseconds.

use crate::sys::{Sys, zeroed};
use crate::{call, ok};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLI: i64 = 1_000_000;

/// A timespec of this many nanoseconds.
pub fn timespec(nanos: i64) -> libc::timespec {
    libc::timespec { tv_sec: nanos.div_euclid(SECOND), tv_nsec: nanos.rem_euclid(SECOND) }
}

/// Nanoseconds in a timespec.
pub fn nanos(t: &libc::timespec) -> i64 {
    t.tv_sec * SECOND + t.tv_nsec
}

/// A clock's reading by system call, nanoseconds.
pub fn clock(id: i32) -> Sys<i64> {
    let mut t: libc::timespec = zeroed();
    call!(SYS_clock_gettime, id, &mut t)?;
    Ok(nanos(&t))
}

/// CLOCK_MONOTONIC by way of libc, so by the vDSO where there is one, nanoseconds.
pub fn now() -> i64 {
    let mut t: libc::timespec = zeroed();
    // SAFETY: writes the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    nanos(&t)
}

/// Runs `body` and gives how long it took, nanoseconds.
pub fn elapsed(body: impl FnOnce()) -> i64 {
    let start = ok!(clock(libc::CLOCK_MONOTONIC));
    body();
    ok!(clock(libc::CLOCK_MONOTONIC)) - start
}

/// Up to `most` rounds, but no more than can be begun within two seconds: for what is tried often, as often as the machine
/// allows.
pub fn rounds(most: u32) -> impl Iterator<Item = u32> {
    let start = now();
    (0..most).take_while(move |_| now() - start < 2 * SECOND)
}

/// A sleep of `asked` that took `took`: never early, and late by less than a busy machine can explain.
pub fn check_sleep(asked: i64, took: i64) {
    crate::check!(took >= asked, "slept {took} ns, {asked} asked: early");
    crate::check!(took < asked + 10 * SECOND, "slept {took} ns, {asked} asked: far too late");
}

/// Sleeps at least `nanos`.
pub fn sleep(nanos: i64) {
    ok!(call!(SYS_nanosleep, &timespec(nanos), 0));
}
