//! Signals that find a system call waiting: EINTR, SA_RESTART, and calls that are never restarted.

use guest_programs::process::{End, child, finish, kill, wait};
use guest_programs::signal::{count, counted, handle, tick};
use guest_programs::sync::until;
use guest_programs::sys::{close, getpid, pipe, read, write, zeroed};
use guest_programs::time::{MILLI, SECOND, check_sleep, clock, elapsed, nanos, timespec};
use guest_programs::{Case, call, cases, check, eq, err, ok};

pub const CASES: &[Case] = cases![
    read_is_interrupted,
    read_is_restarted,
    write_is_interrupted_or_partial,
    write_is_restarted,
    nanosleep_tells_remaining_time,
    nanosleep_sleeps_through_ignored_and_stop,
    poll_is_never_restarted,
    epoll_wait_is_never_restarted,
    futex_wait_is_interrupted,
    ppoll_mask_is_temporary,
    open_of_fifo_is_interrupted,
    flock_is_interrupted,
    restart_after_stop_and_continue,
];

fn interrupted() {
    handle(libc::SIGALRM, 0, count);
    tick(10);
}

fn restarted() {
    handle(libc::SIGALRM, libc::SA_RESTART, count);
    tick(3);
}

/// A child that does `then` after this process's handler ran a number of times.
fn after_signals(then: impl FnOnce()) -> i32 {
    let page: &std::sync::atomic::AtomicU32 = guest_programs::mem::at(guest_programs::mem::shared(4096));
    let pid = child(|| {
        until(|| page.load(std::sync::atomic::Ordering::SeqCst) == 1);
        then();
    });
    SHARED.store(page as *const _ as usize, std::sync::atomic::Ordering::SeqCst);
    handle(libc::SIGALRM, libc::SA_RESTART, tell_after_ten);
    tick(3);
    pid
}

static SHARED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn tell_after_ten(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    count(signal, info, context);
    if counted() >= 10 {
        guest_programs::mem::poke(SHARED.load(std::sync::atomic::Ordering::SeqCst), 1u32);
    }
}

fn read_is_interrupted() {
    let (out, _inn) = ok!(pipe(0));
    interrupted();
    for _ in 0..5 {
        err!(read(out, &mut [0]), EINTR);
    }
}

fn read_is_restarted() {
    let (out, inn) = ok!(pipe(0));
    let pid = after_signals(|| _ = ok!(write(inn, b"z")));
    let mut byte = [0];
    eq!(read(out, &mut byte), Ok(1));
    check!(counted() >= 10 && byte == *b"z");
    tick(0);
    eq!(wait(pid), End::Exit(0));
}

fn write_is_interrupted_or_partial() {
    let (_out, inn) = ok!(pipe(0));
    interrupted();
    // More than fits: what went in is told; then nothing goes in at all.
    let n = ok!(write(inn, &vec![0; 1 << 20]));
    check!(n > 0 && n < 1 << 20);
    err!(write(inn, &vec![0; 1 << 16]), EINTR);
}

fn write_is_restarted() {
    let (out, inn) = ok!(pipe(0));
    let fill = ok!(write(inn, &[1; 65536]));
    let pid = after_signals(|| {
        let mut got = 0;
        let mut buf = [0u8; 4096];
        while got < fill + 100 {
            got += ok!(read(out, &mut buf));
        }
    });
    eq!(write(inn, &[2; 100]), Ok(100));
    check!(counted() >= 10);
    tick(0);
    eq!(wait(pid), End::Exit(0));
}

fn nanosleep_tells_remaining_time() {
    handle(libc::SIGALRM, libc::SA_RESTART, count);
    tick(10);
    let mut left: libc::timespec = zeroed();
    // Not restarted even with SA_RESTART, since a handler ran.
    err!(call!(SYS_nanosleep, &timespec(1000 * SECOND), &mut left), EINTR);
    let left = nanos(&left);
    check!(left < 1000 * SECOND && left > 900 * SECOND, "{left} left");
    let mut left: libc::timespec = zeroed();
    err!(call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &timespec(1000 * SECOND), &mut left), EINTR);
    check!(nanos(&left) > 900 * SECOND);
    // An absolute sleep does not tell.
    let mut left = timespec(5);
    let end = timespec(ok!(clock(libc::CLOCK_MONOTONIC)) + 1000 * SECOND);
    err!(call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &end, &mut left), EINTR);
    eq!(nanos(&left), 5);
}

fn nanosleep_sleeps_through_ignored_and_stop() {
    guest_programs::signal::dispose(libc::SIGUSR1, libc::SIG_IGN);
    let me = getpid();
    let pest = child(|| {
        loop {
            let _ = kill(me, libc::SIGUSR1);
            let _ = kill(me, libc::SIGCONT);
            guest_programs::time::sleep(MILLI);
        }
    });
    check_sleep(100 * MILLI, elapsed(|| guest_programs::time::sleep(100 * MILLI)));
    finish(pest);
}

fn poll_is_never_restarted() {
    restarted();
    err!(call!(SYS_poll, 0, 0, 100_000), EINTR);
    err!(call!(SYS_ppoll, 0, 0, 0, 0, 8), EINTR);
    err!(call!(SYS_select, 0, 0, 0, 0, 0), EINTR);
    err!(call!(SYS_pselect6, 0, 0, 0, 0, &timespec(100 * SECOND), 0), EINTR);
}

fn epoll_wait_is_never_restarted() {
    let ep = ok!(call!(SYS_epoll_create1, 0));
    restarted();
    let mut events: [libc::epoll_event; 1] = [zeroed()];
    err!(call!(SYS_epoll_wait, ep, events.as_mut_ptr(), 1, -1), EINTR);
    err!(call!(SYS_epoll_pwait, ep, events.as_mut_ptr(), 1, 100_000, 0, 8), EINTR);
}

fn futex_wait_is_interrupted() {
    let word = std::sync::atomic::AtomicU32::new(0);
    interrupted();
    err!(guest_programs::sync::futex_wait(&word, 0), EINTR);
    err!(call!(SYS_futex, &word, libc::FUTEX_WAIT, 0, &timespec(100 * SECOND)), EINTR);
}

fn ppoll_mask_is_temporary() {
    use guest_programs::signal::{block, current_mask, raise, set};
    handle(libc::SIGUSR1, 0, count);
    block(&[libc::SIGUSR1]);
    raise(libc::SIGUSR1);
    eq!(counted(), 0);
    err!(call!(SYS_ppoll, 0, 0, &timespec(100 * SECOND), &0u64, 8), EINTR);
    eq!((counted(), current_mask()), (1, set(&[libc::SIGUSR1])));
    raise(libc::SIGUSR1);
    let sigset = [&0u64 as *const u64 as usize, 8];
    err!(call!(SYS_pselect6, 0, 0, 0, 0, &timespec(100 * SECOND), sigset.as_ptr()), EINTR);
    eq!((counted(), current_mask()), (2, set(&[libc::SIGUSR1])));
    // A mask that blocks it keeps it pending through the call.
    raise(libc::SIGUSR1);
    eq!(call!(SYS_ppoll, 0, 0, &timespec(MILLI), &set(&[libc::SIGUSR1]), 8), Ok(0));
    eq!(counted(), 2);
}

fn open_of_fifo_is_interrupted() {
    guest_programs::fs::scratch();
    ok!(call!(SYS_mknodat, libc::AT_FDCWD, c"fifo", libc::S_IFIFO | 0o600, 0));
    interrupted();
    err!(guest_programs::sys::open(c"fifo", libc::O_RDONLY, 0), EINTR);
    err!(guest_programs::sys::open(c"fifo", libc::O_WRONLY, 0), EINTR);
}

fn flock_is_interrupted() {
    guest_programs::fs::scratch();
    guest_programs::fs::put(c"f", b"", 0o644);
    let first = ok!(guest_programs::sys::open(c"f", libc::O_RDONLY, 0));
    let second = ok!(guest_programs::sys::open(c"f", libc::O_RDONLY, 0));
    ok!(call!(SYS_flock, first, libc::LOCK_EX));
    interrupted();
    err!(call!(SYS_flock, second, libc::LOCK_EX), EINTR);
}

fn restart_after_stop_and_continue() {
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| {
        ok!(close(inn));
        let mut byte = [0];
        eq!(read(out, &mut byte), Ok(1));
    });
    for _ in 0..10 {
        ok!(kill(pid, libc::SIGSTOP));
        eq!(guest_programs::process::wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
        ok!(kill(pid, libc::SIGCONT));
        eq!(guest_programs::process::wait_with(pid, libc::WCONTINUED), Ok((pid, End::Continued)));
    }
    eq!(write(inn, b"x"), Ok(1));
    eq!(wait(pid), End::Exit(0));
}
