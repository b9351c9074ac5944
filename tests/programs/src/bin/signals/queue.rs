//! Queues: real-time signals with values, sigtimedwait, sigsuspend.

use guest_programs::process::{End, child, wait};
use guest_programs::signal::{
    block, count, counted, current_mask, handle, pending, raise, set, take, unblock,
};
use guest_programs::sys::getpid;
use guest_programs::time::{MILLI, check_sleep, elapsed, timespec};
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    standard_signals_do_not_queue,
    realtime_signals_queue_in_order,
    lowest_number_first,
    sigqueue_carries_a_value,
    sigqueue_errors,
    timedwait_takes_pending,
    timedwait_times_out,
    timedwait_interrupted_by_other_handler,
    timedwait_takes_without_running_handler,
    suspend_waits_and_restores_mask,
    suspend_delivers_pending_at_once,
    pause_returns_after_handler,
    queue_limit,
];

const RT: i32 = 40;

fn queue(pid: i32, signal: i32, value: usize) -> Sys {
    // siginfo: signo, errno, code, padding, pid, uid, value
    let mut info = [0u32; 32];
    info[0] = signal as u32;
    info[2] = libc::SI_QUEUE as u32;
    info[4] = getpid() as u32;
    info[6] = value as u32;
    info[7] = (value >> 32) as u32;
    call!(SYS_rt_sigqueueinfo, pid, signal, info.as_ptr())
}

fn value_of(info: &libc::siginfo_t) -> usize {
    // SAFETY: reads the value field of a whole structure.
    unsafe { info.si_value().sival_ptr as usize }
}

fn standard_signals_do_not_queue() {
    handle(libc::SIGUSR1, 0, count);
    block(&[libc::SIGUSR1]);
    (0..10).for_each(|_| raise(libc::SIGUSR1));
    unblock(&[libc::SIGUSR1]);
    eq!(counted(), 1);
}

fn realtime_signals_queue_in_order() {
    block(&[RT]);
    for value in 0..50 {
        ok!(queue(getpid(), RT, value | 0x1234_0000_0000));
    }
    for value in 0..50 {
        let info = take(&[RT]);
        eq!((info.si_code, value_of(&info)), (libc::SI_QUEUE, value | 0x1234_0000_0000));
    }
    eq!(pending(), 0);
    // Delivered to a handler, each runs it once.
    handle(RT, 0, count);
    (0..20).for_each(|_| raise(RT));
    eq!(counted(), 0);
    unblock(&[RT]);
    eq!(counted(), 20);
}

static ORDER: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    ORDER.store(ORDER.load(SeqCst) * 100 + signal as u64, SeqCst);
}

fn lowest_number_first() {
    let signals = [50, libc::SIGUSR2, 35, libc::SIGUSR1, 64];
    // All others blocked in each handler, so that they run one after another.
    signals.iter().for_each(|s| guest_programs::signal::handle_masked(*s, 0, note, &signals));
    block(&signals);
    signals.iter().for_each(|s| raise(*s));
    unblock(&signals);
    eq!(ORDER.load(SeqCst), 1_012_355_064);
}

fn sigqueue_carries_a_value() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn see(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel passes a whole structure.
        SEEN.store(value_of(unsafe { &*info }), SeqCst);
    }
    for signal in [libc::SIGUSR1, RT] {
        handle(signal, 0, see);
        ok!(queue(getpid(), signal, usize::MAX - signal as usize));
        eq!(SEEN.load(SeqCst), usize::MAX - signal as usize);
    }
    block(&[RT]);
    let me = getpid();
    let pid = child(|| _ = ok!(queue(me, RT, 77)));
    let info = take(&[RT]);
    // SAFETY: filled by the sender.
    eq!((unsafe { info.si_pid() }, value_of(&info)), (pid, 77));
    eq!(wait(pid), End::Exit(0));
}

fn sigqueue_errors() {
    err!(queue(0x3fff_ffff, RT, 0), ESRCH);
    err!(queue(getpid(), 65, 0), EINVAL);
    eq!(queue(getpid(), 0, 0), Ok(0));
    err!(call!(SYS_rt_sigqueueinfo, getpid(), RT, mem::KERNEL), EFAULT);
    // Pretending to be the kernel, or kill, to another process is not allowed.
    let pid = child(|| {
        let info = [
            RT as u32, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0,
        ];
        err!(call!(SYS_rt_sigqueueinfo, guest_programs::sys::getppid(), RT, info.as_ptr()), EPERM);
    });
    eq!(wait(pid), End::Exit(0));
}

fn timedwait(signals: &[i32], timeout: i64) -> Sys {
    call!(SYS_rt_sigtimedwait, &set(signals), 0, &timespec(timeout), 8)
}

fn timedwait_takes_pending() {
    block(&[libc::SIGUSR1, RT]);
    raise(RT);
    raise(libc::SIGUSR1);
    eq!(timedwait(&[libc::SIGUSR1, RT], 0), Ok(libc::SIGUSR1 as usize));
    eq!(timedwait(&[libc::SIGUSR1, RT], 0), Ok(RT as usize));
    err!(timedwait(&[libc::SIGUSR1, RT], 0), EAGAIN);
}

fn timedwait_times_out() {
    block(&[libc::SIGUSR1]);
    check_sleep(30 * MILLI, elapsed(|| err!(timedwait(&[libc::SIGUSR1], 30 * MILLI), EAGAIN)));
    let wrong = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    err!(call!(SYS_rt_sigtimedwait, &set(&[10]), 0, &wrong, 8), EINVAL);
    let wrong = libc::timespec { tv_sec: -1, tv_nsec: 0 };
    err!(call!(SYS_rt_sigtimedwait, &set(&[10]), 0, &wrong, 8), EINVAL);
    err!(call!(SYS_rt_sigtimedwait, &set(&[10]), 0, 0, 7), EINVAL);
    err!(call!(SYS_rt_sigtimedwait, mem::KERNEL, 0, 0, 8), EFAULT);
}

fn timedwait_interrupted_by_other_handler() {
    block(&[libc::SIGUSR1]);
    handle(libc::SIGALRM, libc::SA_RESTART, count);
    guest_programs::signal::tick(10);
    err!(call!(SYS_rt_sigtimedwait, &set(&[libc::SIGUSR1]), 0, 0, 8), EINTR);
    guest_programs::signal::tick(0);
    check!(counted() >= 1);
}

fn timedwait_takes_without_running_handler() {
    handle(libc::SIGUSR1, 0, count);
    block(&[libc::SIGUSR1]);
    let me = getpid();
    let pid = child(|| _ = ok!(guest_programs::process::kill(me, libc::SIGUSR1)));
    eq!(take(&[libc::SIGUSR1]).si_signo, libc::SIGUSR1);
    unblock(&[libc::SIGUSR1]);
    eq!(counted(), 0);
    eq!(wait(pid), End::Exit(0));
}

static MASK: AtomicU64 = AtomicU64::new(0);

extern "C" fn see_mask(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    MASK.store(current_mask(), SeqCst);
}

fn suspend_waits_and_restores_mask() {
    handle(libc::SIGUSR1, 0, see_mask);
    block(&[libc::SIGUSR1, libc::SIGHUP]);
    let me = getpid();
    let pid = child(|| _ = ok!(guest_programs::process::kill(me, libc::SIGUSR1)));
    err!(call!(SYS_rt_sigsuspend, &set(&[libc::SIGTERM]), 8), EINTR);
    // In the handler the temporary mask holds, plus the signal itself; afterwards the old one.
    eq!(MASK.load(SeqCst), set(&[libc::SIGTERM, libc::SIGUSR1]));
    eq!(current_mask(), set(&[libc::SIGUSR1, libc::SIGHUP]));
    eq!(wait(pid), End::Exit(0));
    err!(call!(SYS_rt_sigsuspend, mem::KERNEL, 8), EFAULT);
    err!(call!(SYS_rt_sigsuspend, &0u64, 4), EINVAL);
}

fn suspend_delivers_pending_at_once() {
    handle(libc::SIGUSR1, 0, count);
    block(&[libc::SIGUSR1]);
    for n in 1..=100 {
        raise(libc::SIGUSR1);
        err!(call!(SYS_rt_sigsuspend, &0u64, 8), EINTR);
        eq!(counted(), n);
    }
    // An ignored signal does not end it.
    guest_programs::signal::dispose(libc::SIGUSR2, libc::SIG_IGN);
    let me = getpid();
    let pid = child(|| {
        ok!(guest_programs::process::kill(me, libc::SIGUSR2));
        ok!(guest_programs::process::kill(me, libc::SIGUSR1));
    });
    err!(call!(SYS_rt_sigsuspend, &0u64, 8), EINTR);
    eq!(counted(), 101);
    eq!(wait(pid), End::Exit(0));
}

fn pause_returns_after_handler() {
    handle(libc::SIGALRM, libc::SA_RESTART, count);
    guest_programs::signal::tick(10);
    err!(call!(SYS_pause), EINTR);
    guest_programs::signal::tick(0);
    check!(counted() >= 1);
}

fn queue_limit() {
    // Beyond the limit on pending signals a queued one is refused; a plain kill still marks its signal.
    let limit = libc::rlimit { rlim_cur: 5, rlim_max: 5 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_SIGPENDING, &limit, 0));
    block(&[RT]);
    let mut queued = 0;
    loop {
        match queue(getpid(), RT, queued) {
            Ok(_) => queued += 1,
            Err(guest_programs::Errno(libc::EAGAIN)) => break,
            Err(e) => guest_programs::fail!("sigqueue: {e:?}"),
        }
        check!(queued <= 5);
    }
    (0..queued).for_each(|value| eq!(value_of(&take(&[RT])), value));
}
