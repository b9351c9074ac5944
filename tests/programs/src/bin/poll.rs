//! Waiting for many things: poll, select, epoll; eventfd, timerfd, signalfd.

use guest_programs::process::{End, child, wait};
use guest_programs::sync::until;
use guest_programs::sys::{close, pipe, read, write, zeroed};
use guest_programs::time::{MILLI, SECOND, check_sleep, clock, elapsed, timespec};
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok, run};

const CASES: &[Case] = cases![
    poll_counts_ready,
    poll_times_out,
    poll_bad_descriptors,
    poll_wakes_when_ready,
    poll_only_sleeps,
    select_sets,
    select_errors,
    pselect_and_ppoll_times,
    epoll_level,
    epoll_edge,
    epoll_oneshot,
    epoll_modify_and_delete,
    epoll_errors,
    epoll_nested,
    epoll_closed_descriptor_leaves,
    epoll_many,
    epoll_across_threads: 60,
    epoll_hangup_is_always_told,
    eventfd_counts,
    eventfd_semaphore_and_limits,
    eventfd_between_processes,
    timerfd_once_and_again,
    timerfd_errors,
    timerfd_with_epoll,
    signalfd_reads_signals,
    signalfd_errors,
    regular_files_are_ready,
];

fn main() {
    run(&[CASES], &[])
}

fn poll(fds: &mut [libc::pollfd], timeout: i32) -> Sys {
    call!(SYS_poll, fds.as_mut_ptr(), fds.len(), timeout)
}

fn entry(fd: i32, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0x55 }
}

fn poll_counts_ready() {
    let (out, inn) = ok!(pipe(0));
    let mut fds = [entry(out, libc::POLLIN), entry(inn, libc::POLLOUT), entry(-5, libc::POLLIN)];
    eq!(poll(&mut fds, -1), Ok(1));
    eq!(fds.map(|f| f.revents), [0, libc::POLLOUT, 0]);
    eq!(write(inn, b"x"), Ok(1));
    eq!(poll(&mut fds, 0), Ok(2));
    eq!(fds[0].revents, libc::POLLIN);
    let mut twice = [entry(out, libc::POLLIN), entry(out, libc::POLLIN | libc::POLLRDNORM)];
    eq!(poll(&mut twice, 0), Ok(2));
    eq!(twice[1].revents, libc::POLLIN | libc::POLLRDNORM);
}

fn poll_times_out() {
    let (out, _inn) = ok!(pipe(0));
    check_sleep(40 * MILLI, elapsed(|| eq!(poll(&mut [entry(out, libc::POLLIN)], 40), Ok(0))));
    check_sleep(0, elapsed(|| eq!(poll(&mut [entry(out, libc::POLLIN)], 0), Ok(0))));
}

fn poll_bad_descriptors() {
    let mut fds = [entry(999, libc::POLLIN)];
    eq!((poll(&mut fds, -1), fds[0].revents), (Ok(1), libc::POLLNVAL));
    err!(call!(SYS_poll, mem::KERNEL, 1, 0), EFAULT);
    err!(call!(SYS_poll, mem::unmapped(), 1, 0), EFAULT);
    eq!(call!(SYS_poll, mem::unmapped(), 0, 0), Ok(0));
    err!(call!(SYS_poll, mem::anon(4096), 1 << 30, 0), EINVAL);
}

fn poll_wakes_when_ready() {
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| {
        guest_programs::time::sleep(10 * MILLI);
        eq!(write(inn, b"x"), Ok(1));
    });
    let mut fds = [entry(out, libc::POLLIN)];
    eq!((poll(&mut fds, -1), fds[0].revents), (Ok(1), libc::POLLIN));
    eq!(wait(pid), End::Exit(0));
    ok!(read(out, &mut [0]));
    // The other end goes away while waiting.
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| {
        ok!(close(out));
        guest_programs::time::sleep(5 * MILLI);
    });
    ok!(close(inn));
    let mut fds = [entry(out, libc::POLLIN)];
    eq!((poll(&mut fds, -1), fds[0].revents), (Ok(1), libc::POLLHUP));
    eq!(wait(pid), End::Exit(0));
}

fn poll_only_sleeps() {
    check_sleep(20 * MILLI, elapsed(|| eq!(call!(SYS_poll, 0, 0, 20), Ok(0))));
    check_sleep(20 * MILLI, elapsed(|| eq!(call!(SYS_select, 0, 0, 0, 0, &[0i64, 20_000]), Ok(0))));
}

fn select_sets() {
    let (out, inn) = ok!(pipe(0));
    let bit = |fd: i32| 1u64 << fd;
    let mut reads = bit(out) | bit(inn);
    let mut writes = bit(inn);
    eq!(call!(SYS_select, inn + 1, &mut reads, &mut writes, 0, &mut [0i64, 0]), Ok(1));
    eq!((reads, writes), (0, bit(inn)));
    eq!(write(inn, b"x"), Ok(1));
    (reads, writes) = (bit(out), bit(inn));
    eq!(call!(SYS_select, inn + 1, &mut reads, &mut writes, 0, 0), Ok(2));
    eq!((reads, writes), (bit(out), bit(inn)));
    // Descriptors at or above the count are not looked at.
    reads = bit(out);
    eq!(call!(SYS_select, out, &mut reads, 0, 0, &mut [0i64, 0]), Ok(0));
    // The time left is told.
    let mut time = [1000i64, 0];
    reads = bit(out);
    eq!(call!(SYS_select, out + 1, &mut reads, 0, 0, &mut time), Ok(1));
    check!(time[0] >= 900 && time[0] <= 1000);
}

fn select_errors() {
    let mut set = [!0u64; 16];
    err!(call!(SYS_select, 1000, set.as_mut_ptr(), 0, 0, 0), EBADF);
    err!(call!(SYS_select, -1, 0, 0, 0, 0), EINVAL);
    err!(call!(SYS_select, 10, mem::KERNEL, 0, 0, 0), EFAULT);
    err!(call!(SYS_select, 0, 0, 0, 0, &[-1i64, 0]), EINVAL);
    err!(call!(SYS_pselect6, 0, 0, 0, 0, &timespec(-1), 0), EINVAL);
}

fn pselect_and_ppoll_times() {
    check_sleep(
        15 * MILLI,
        elapsed(|| eq!(call!(SYS_pselect6, 0, 0, 0, 0, &timespec(15 * MILLI), 0), Ok(0))),
    );
    check_sleep(15 * MILLI, elapsed(|| eq!(call!(SYS_ppoll, 0, 0, &timespec(15 * MILLI), 0, 8), Ok(0))));
    let wrong = libc::timespec { tv_sec: 0, tv_nsec: SECOND };
    err!(call!(SYS_ppoll, 0, 0, &wrong, 0, 8), EINVAL);
    err!(call!(SYS_ppoll, 0, 0, 0, &0u64, 9), EINVAL);
}

fn epoll() -> i32 {
    ok!(call!(SYS_epoll_create1, libc::EPOLL_CLOEXEC)) as i32
}

fn control(ep: i32, op: i32, fd: i32, events: i32, data: u64) -> Sys {
    let event = libc::epoll_event { events: events as u32, u64: data };
    call!(SYS_epoll_ctl, ep, op, fd, &event)
}

fn add(ep: i32, fd: i32, events: i32, data: u64) {
    ok!(control(ep, libc::EPOLL_CTL_ADD, fd, events, data));
}

/// Events as (data, events), sorted.
fn events(ep: i32, timeout: i32) -> Vec<(u64, i32)> {
    let mut events: [libc::epoll_event; 16] = zeroed();
    let n = ok!(call!(SYS_epoll_wait, ep, events.as_mut_ptr(), 16, timeout));
    let mut all: Vec<(u64, i32)> = events[..n].iter().map(|e| (e.u64, e.events as i32)).collect();
    all.sort_unstable();
    all
}

const IN: i32 = libc::EPOLLIN;
const OUT: i32 = libc::EPOLLOUT;

fn epoll_level() {
    let ep = epoll();
    eq!(call!(SYS_fcntl, ep, libc::F_GETFD), Ok(1));
    let (out, inn) = ok!(pipe(0));
    add(ep, out, IN, 11);
    add(ep, inn, OUT, 22);
    eq!(events(ep, 0), [(22, OUT)]);
    eq!(write(inn, b"ab"), Ok(2));
    for _ in 0..3 {
        eq!(events(ep, -1), [(11, IN), (22, OUT)]);
    }
    eq!(read(out, &mut [0; 2]), Ok(2));
    eq!(events(ep, 0), [(22, OUT)]);
    ok!(control(ep, libc::EPOLL_CTL_DEL, inn, 0, 0));
    check_sleep(20 * MILLI, elapsed(|| eq!(events(ep, 20), [])));
}

fn epoll_edge() {
    let ep = epoll();
    let (out, inn) = ok!(pipe(0));
    add(ep, out, IN | libc::EPOLLET, 1);
    eq!(events(ep, 0), []);
    eq!(write(inn, b"ab"), Ok(2));
    eq!(events(ep, 0), [(1, IN)]);
    // Told once; again only when more comes, whether or not the rest has been read.
    eq!(events(ep, 0), []);
    eq!(read(out, &mut [0]), Ok(1));
    eq!(events(ep, 0), []);
    eq!(write(inn, b"c"), Ok(1));
    eq!(events(ep, 0), [(1, IN)]);
    // Ready when added: told.
    let second = epoll();
    add(second, out, IN | libc::EPOLLET, 2);
    eq!(events(second, 0), [(2, IN)]);
    // Modifying tells anew.
    ok!(control(second, libc::EPOLL_CTL_MOD, out, IN | libc::EPOLLET, 3));
    eq!(events(second, 0), [(3, IN)]);
}

fn epoll_oneshot() {
    let ep = epoll();
    let (out, inn) = ok!(pipe(0));
    add(ep, out, IN | libc::EPOLLONESHOT, 1);
    eq!(write(inn, b"ab"), Ok(2));
    eq!(events(ep, 0), [(1, IN)]);
    eq!(write(inn, b"c"), Ok(1));
    eq!(events(ep, 0), []);
    ok!(control(ep, libc::EPOLL_CTL_MOD, out, IN | libc::EPOLLONESHOT, 2));
    eq!(events(ep, 0), [(2, IN)]);
}

fn epoll_modify_and_delete() {
    let ep = epoll();
    let (out, inn) = ok!(pipe(0));
    add(ep, inn, 0, 5);
    eq!(events(ep, 0), []);
    ok!(control(ep, libc::EPOLL_CTL_MOD, inn, OUT, 6));
    eq!(events(ep, 0), [(6, OUT)]);
    ok!(control(ep, libc::EPOLL_CTL_DEL, inn, 0, 0));
    eq!(events(ep, 0), []);
    add(ep, inn, OUT, 7);
    eq!(events(ep, 0), [(7, OUT)]);
    // A duplicate descriptor is an entry of its own.
    let other = ok!(call!(SYS_dup, inn)) as i32;
    add(ep, other, OUT, 8);
    eq!(events(ep, 0), [(7, OUT), (8, OUT)]);
    let _ = out;
}

fn epoll_errors() {
    let ep = epoll();
    let (out, inn) = ok!(pipe(0));
    add(ep, out, IN, 0);
    err!(control(ep, libc::EPOLL_CTL_ADD, out, IN, 0), EEXIST);
    err!(control(ep, libc::EPOLL_CTL_MOD, inn, IN, 0), ENOENT);
    err!(control(ep, libc::EPOLL_CTL_DEL, inn, IN, 0), ENOENT);
    err!(control(ep, libc::EPOLL_CTL_ADD, 999, IN, 0), EBADF);
    err!(control(999, libc::EPOLL_CTL_ADD, out, IN, 0), EBADF);
    err!(control(out, libc::EPOLL_CTL_ADD, out, IN, 0), EINVAL);
    err!(control(ep, libc::EPOLL_CTL_ADD, ep, IN, 0), EINVAL);
    err!(control(ep, 77, out, IN, 0), EINVAL);
    err!(call!(SYS_epoll_ctl, ep, libc::EPOLL_CTL_ADD, out, mem::KERNEL), EFAULT);
    err!(call!(SYS_epoll_create1, 1), EINVAL);
    err!(call!(SYS_epoll_create, 0), EINVAL);
    ok!(call!(SYS_epoll_create, 1));
    let mut event: libc::epoll_event = zeroed();
    err!(call!(SYS_epoll_wait, ep, &mut event, 0, 0), EINVAL);
    err!(call!(SYS_epoll_wait, ep, &mut event, -1, 0), EINVAL);
    err!(call!(SYS_epoll_wait, out, &mut event, 1, 0), EINVAL);
    err!(call!(SYS_epoll_wait, 999, &mut event, 1, 0), EBADF);
    err!(call!(SYS_epoll_wait, ep, mem::KERNEL, 1, 0), EFAULT);
    guest_programs::fs::scratch();
    guest_programs::fs::put(c"f", b"", 0o644);
    let file = ok!(guest_programs::sys::open(c"f", libc::O_RDONLY, 0));
    err!(control(ep, libc::EPOLL_CTL_ADD, file, IN, 0), EPERM);
}

fn epoll_nested() {
    let (outer, inner) = (epoll(), epoll());
    let (out, inn) = ok!(pipe(0));
    add(outer, inner, IN, 1);
    add(inner, out, IN, 2);
    eq!(events(outer, 0), []);
    eq!(write(inn, b"x"), Ok(1));
    eq!((events(outer, -1), events(inner, 0)), (vec![(1, IN)], vec![(2, IN)]));
    let mut fds = [entry(outer, libc::POLLIN)];
    eq!((poll(&mut fds, 0), fds[0].revents), (Ok(1), libc::POLLIN));
    ok!(read(out, &mut [0]));
    eq!(events(outer, 0), []);
    // A circle is refused.
    err!(control(inner, libc::EPOLL_CTL_ADD, outer, IN, 0), ELOOP);
}

fn epoll_closed_descriptor_leaves() {
    let ep = epoll();
    let (out, inn) = ok!(pipe(0));
    add(ep, inn, OUT, 1);
    let keep = ok!(call!(SYS_dup, inn)) as i32;
    ok!(close(inn));
    // The open file lives on in the duplicate, and so does the entry.
    eq!(events(ep, 0), [(1, OUT)]);
    ok!(close(keep));
    eq!(events(ep, 0), []);
    let _ = out;
}

fn epoll_many() {
    let ep = epoll();
    let pipes: Vec<(i32, i32)> = (0..100).map(|_| ok!(pipe(0))).collect();
    pipes.iter().enumerate().for_each(|(i, (out, _))| add(ep, *out, IN, i as u64));
    (0..100).step_by(7).for_each(|i| eq!(write(pipes[i].1, b"x"), Ok(1)));
    // With room for a few at a time, all get their turn.
    let mut seen = std::collections::BTreeSet::new();
    until(|| {
        let mut some: [libc::epoll_event; 4] = zeroed();
        let n = ok!(call!(SYS_epoll_wait, ep, some.as_mut_ptr(), 4, 0));
        check!(n == 4);
        some.iter().for_each(|e| {
            seen.insert(e.u64);
        });
        seen.len() == 15
    });
    check!(seen.iter().all(|i| i % 7 == 0));
}

fn epoll_across_threads() {
    // Several threads wait on one epoll for a one-shot descriptor; each byte is seen by exactly one.
    let ep = epoll();
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    let (stop, stopper) = ok!(pipe(0));
    add(ep, out, IN | libc::EPOLLET | libc::EPOLLONESHOT, 1);
    add(ep, stop, IN, 2);
    static SEEN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                loop {
                    let mut event: libc::epoll_event = zeroed();
                    eq!(call!(SYS_epoll_wait, ep, &mut event, 1, -1), Ok(1));
                    if { event.u64 } == 2 {
                        break;
                    }
                    let mut byte = [0];
                    while let Ok(1) = read(out, &mut byte) {
                        SEEN.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    ok!(control(ep, libc::EPOLL_CTL_MOD, out, IN | libc::EPOLLET | libc::EPOLLONESHOT, 1));
                }
            })
        })
        .collect();
    (0..2000).for_each(|_| eq!(write(inn, b"x"), Ok(1)));
    until(|| SEEN.load(std::sync::atomic::Ordering::SeqCst) == 2000);
    eq!(write(stopper, b"x"), Ok(1));
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn epoll_hangup_is_always_told() {
    let ep = epoll();
    let (out, inn) = ok!(pipe(0));
    add(ep, out, 0, 1);
    ok!(close(inn));
    eq!(events(ep, -1), [(1, libc::EPOLLHUP)]);
    let (out, inn) = ok!(pipe(0));
    add(ep, inn, 0, 2);
    ok!(close(out));
    eq!(events(ep, -1), [(1, libc::EPOLLHUP), (2, libc::EPOLLERR)]);
}

fn eventfd(initial: u32, flags: i32) -> i32 {
    ok!(call!(SYS_eventfd2, initial, flags)) as i32
}

fn take(fd: i32) -> Sys<u64> {
    let mut buf = [0; 8];
    eq!(read(fd, &mut buf)?, 8);
    Ok(u64::from_ne_bytes(buf))
}

fn give(fd: i32, n: u64) -> Sys {
    write(fd, &n.to_ne_bytes())
}

fn eventfd_counts() {
    let fd = eventfd(3, libc::EFD_NONBLOCK);
    eq!(take(fd), Ok(3));
    err!(take(fd), EAGAIN);
    eq!(give(fd, 5), Ok(8));
    eq!(give(fd, 6), Ok(8));
    let mut fds = [entry(fd, libc::POLLIN | libc::POLLOUT)];
    eq!((poll(&mut fds, 0), fds[0].revents), (Ok(1), libc::POLLIN | libc::POLLOUT));
    eq!(take(fd), Ok(11));
    eq!((poll(&mut fds, 0), fds[0].revents), (Ok(1), libc::POLLOUT));
    err!(read(fd, &mut [0; 7]), EINVAL);
    err!(write(fd, &[0; 7]), EINVAL);
    err!(give(fd, u64::MAX), EINVAL);
    err!(call!(SYS_eventfd2, 0, 0x10), EINVAL);
}

fn eventfd_semaphore_and_limits() {
    let fd = eventfd(2, libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK);
    eq!((take(fd), take(fd)), (Ok(1), Ok(1)));
    err!(take(fd), EAGAIN);
    let fd = eventfd(0, libc::EFD_NONBLOCK);
    eq!(give(fd, u64::MAX - 1), Ok(8));
    err!(give(fd, 1), EAGAIN);
    let mut fds = [entry(fd, libc::POLLIN | libc::POLLOUT)];
    eq!((poll(&mut fds, 0), fds[0].revents), (Ok(1), libc::POLLIN));
    eq!(take(fd), Ok(u64::MAX - 1));
}

fn eventfd_between_processes() {
    let (there, back) = (eventfd(0, 0), eventfd(0, 0));
    let pid = child(|| {
        for i in 1..=500 {
            eq!(take(there), Ok(i));
            eq!(give(back, i), Ok(8));
        }
    });
    for i in 1..=500 {
        eq!(give(there, i), Ok(8));
        eq!(take(back), Ok(i));
    }
    eq!(wait(pid), End::Exit(0));
}

fn timerfd(id: i32, flags: i32) -> i32 {
    ok!(call!(SYS_timerfd_create, id, flags)) as i32
}

fn settime(fd: i32, flags: i32, first: i64, every: i64) -> Sys {
    let time = libc::itimerspec { it_interval: timespec(every), it_value: timespec(first) };
    call!(SYS_timerfd_settime, fd, flags, &time, 0)
}

fn timerfd_once_and_again() {
    for id in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME] {
        let fd = timerfd(id, 0);
        let took = elapsed(|| {
            ok!(settime(fd, 0, 20 * MILLI, 0));
            eq!(take(fd), Ok(1));
        });
        check_sleep(20 * MILLI, took);
    }
    let fd = timerfd(libc::CLOCK_MONOTONIC, 0);
    let mut count = 0;
    let took = elapsed(|| {
        ok!(settime(fd, 0, 10 * MILLI, 10 * MILLI));
        while count < 5 {
            count += ok!(take(fd));
        }
    });
    check!(took >= count as i64 * 10 * MILLI, "{count} in {took} ns");
    // Many periods at once are counted.
    ok!(settime(fd, 0, MILLI, MILLI));
    guest_programs::time::sleep(20 * MILLI);
    check!(ok!(take(fd)) >= 15);
    // Absolute, in the past: at once.
    ok!(settime(fd, libc::TFD_TIMER_ABSTIME, 1, 0));
    eq!(take(fd), Ok(1));
    ok!(settime(fd, libc::TFD_TIMER_ABSTIME, ok!(clock(libc::CLOCK_MONOTONIC)) + 10 * MILLI, 0));
    eq!(take(fd), Ok(1));
    // What is left; disarmed is zero.
    ok!(settime(fd, 0, 1000 * SECOND, 5 * SECOND));
    let mut now: libc::itimerspec = zeroed();
    ok!(call!(SYS_timerfd_gettime, fd, &mut now));
    check!(now.it_value.tv_sec >= 900 && now.it_value.tv_sec <= 1000 && now.it_interval.tv_sec == 5);
    ok!(settime(fd, 0, 0, 0));
    ok!(call!(SYS_timerfd_gettime, fd, &mut now));
    eq!((now.it_value.tv_sec, now.it_value.tv_nsec), (0, 0));
}

fn timerfd_errors() {
    err!(call!(SYS_timerfd_create, 99, 0), EINVAL);
    err!(call!(SYS_timerfd_create, libc::CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    err!(call!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 1), EINVAL);
    let fd = timerfd(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(1));
    err!(take(fd), EAGAIN);
    err!(settime(fd, 0x10, 1, 0), EINVAL);
    err!(settime(1, 0, 1, 0), EINVAL);
    err!(settime(999, 0, 1, 0), EBADF);
    let wrong = libc::itimerspec {
        it_interval: timespec(0),
        it_value: libc::timespec { tv_sec: 0, tv_nsec: SECOND },
    };
    err!(call!(SYS_timerfd_settime, fd, 0, &wrong, 0), EINVAL);
    err!(call!(SYS_timerfd_settime, fd, 0, mem::KERNEL, 0), EFAULT);
    ok!(settime(fd, 0, 1000 * SECOND, 0));
    err!(read(fd, &mut [0; 4]), EINVAL);
    err!(write(fd, &[0; 8]), EINVAL);
}

fn timerfd_with_epoll() {
    let ep = epoll();
    let fds = [30, 10, 20].map(|after| {
        let fd = timerfd(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
        ok!(settime(fd, 0, after * MILLI, 0));
        add(ep, fd, IN, after as u64);
        fd
    });
    let mut order = vec![];
    until(|| {
        for (data, _) in events(ep, -1) {
            let fd = fds[[30, 10, 20].iter().position(|a| *a == data).unwrap_or(0)];
            eq!(take(fd), Ok(1));
            order.push(data);
        }
        order.len() == 3
    });
    order.sort_unstable();
    eq!(order, [10, 20, 30]);
}

fn signalfd_reads_signals() {
    use guest_programs::signal::{block, raise, set};
    block(&[libc::SIGUSR1, libc::SIGUSR2, libc::SIGCHLD]);
    let fd =
        ok!(call!(SYS_signalfd4, -1, &set(&[libc::SIGUSR1, libc::SIGCHLD]), 8, libc::SFD_NONBLOCK)) as i32;
    let mut info: libc::signalfd_siginfo = zeroed();
    let get = |info: &mut libc::signalfd_siginfo| call!(SYS_read, fd, info, 128);
    err!(get(&mut info), EAGAIN);
    raise(libc::SIGUSR2);
    err!(get(&mut info), EAGAIN);
    raise(libc::SIGUSR1);
    let mut fds = [entry(fd, libc::POLLIN)];
    eq!((poll(&mut fds, 0), fds[0].revents), (Ok(1), libc::POLLIN));
    eq!(get(&mut info), Ok(128));
    eq!((info.ssi_signo as i32, info.ssi_pid as i32), (libc::SIGUSR1, guest_programs::sys::getpid()));
    err!(get(&mut info), EAGAIN);
    let pid = child(|| guest_programs::sys::exit_group(9));
    ok!(poll(&mut fds, -1));
    eq!(get(&mut info), Ok(128));
    eq!((info.ssi_signo as i32, info.ssi_pid as i32, info.ssi_status), (libc::SIGCHLD, pid, 9));
    eq!(wait(pid), End::Exit(9));
    // The set can be changed.
    eq!(call!(SYS_signalfd4, fd, &set(&[libc::SIGUSR2]), 8, 0), Ok(fd as usize));
    eq!(get(&mut info), Ok(128));
    eq!(info.ssi_signo as i32, libc::SIGUSR2);
}

fn signalfd_errors() {
    err!(call!(SYS_signalfd4, -1, &0u64, 8, 1), EINVAL);
    err!(call!(SYS_signalfd4, -1, &0u64, 4, 0), EINVAL);
    err!(call!(SYS_signalfd4, 999, &0u64, 8, 0), EBADF);
    err!(call!(SYS_signalfd4, 1, &0u64, 8, 0), EINVAL);
    err!(call!(SYS_signalfd4, -1, mem::KERNEL, 8, 0), EFAULT);
    let fd = ok!(call!(SYS_signalfd4, -1, &0u64, 8, libc::SFD_NONBLOCK)) as i32;
    err!(read(fd, &mut [0; 100]), EINVAL);
}

fn regular_files_are_ready() {
    guest_programs::fs::scratch();
    guest_programs::fs::put(c"f", b"", 0o644);
    let fd = ok!(guest_programs::sys::open(c"f", libc::O_RDWR, 0));
    let mut fds = [entry(fd, libc::POLLIN | libc::POLLOUT | libc::POLLPRI)];
    eq!((poll(&mut fds, -1), fds[0].revents), (Ok(1), libc::POLLIN | libc::POLLOUT));
}
