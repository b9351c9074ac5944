//! Pipes: order, capacity, atomicity, ends of file, blocking and not.

use guest_programs::process::{End, child, in_child, wait};
use guest_programs::sync::Gate;
use guest_programs::sys::{close, pipe, read, read_all, write, write_all};
use guest_programs::{Case, call, cases, check, eq, err, mem, ok, run, signal};

const CASES: &[Case] = cases![
    bytes_in_order,
    end_of_file_when_writers_close,
    broken_when_readers_close,
    capacity_nonblocking,
    capacity_can_be_changed,
    small_writes_are_whole,
    small_write_waits_for_room,
    large_write_fills_what_there_is,
    writers_do_not_interleave_small_writes: 60,
    reader_waits_for_data,
    writer_waits_for_room,
    many_bytes_through: 60,
    flags_and_errors,
    inherited_ends_keep_it_open,
    read_into_bad_memory_loses_nothing,
    vectors_through_pipes,
    chain_of_processes: 60,
    many_readers_each_byte_once: 60,
    unread_data_survives_writer,
    poll_tells_state,
    many_pipes,
    fifo_reopened,
    splice_and_tee_or_refused,
];

fn main() {
    run(&[CASES], &[])
}

fn nonblocking(fd: i32) {
    ok!(call!(SYS_fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK));
}

/// Writes until it would wait; gives how much went in.
fn fill(fd: i32) -> usize {
    let mut total = 0;
    while let Ok(n) = write(fd, &[7; 4096]) {
        total += n;
    }
    while let Ok(n) = write(fd, &[7]) {
        total += n;
    }
    total
}

fn bytes_in_order() {
    let (out, inn) = ok!(pipe(0));
    eq!(write(inn, b"abc"), Ok(3));
    eq!(write(inn, b"defg"), Ok(4));
    let mut buf = [0; 5];
    eq!((read(out, &mut buf), &buf), (Ok(5), b"abcde"));
    eq!((read(out, &mut buf), &buf[..2]), (Ok(2), &b"fg"[..]));
}

fn end_of_file_when_writers_close() {
    let (out, inn) = ok!(pipe(0));
    let second = ok!(call!(SYS_dup, inn)) as i32;
    eq!(write(inn, b"last"), Ok(4));
    ok!(close(inn));
    nonblocking(out);
    let mut buf = [0; 10];
    eq!(read(out, &mut buf), Ok(4));
    err!(read(out, &mut buf), EAGAIN);
    ok!(close(second));
    eq!(read(out, &mut buf), Ok(0));
    eq!(read(out, &mut buf), Ok(0));
}

fn broken_when_readers_close() {
    signal::handle(libc::SIGPIPE, 0, signal::count);
    let (out, inn) = ok!(pipe(0));
    let second = ok!(call!(SYS_dup, out)) as i32;
    ok!(close(out));
    eq!(write(inn, b"x"), Ok(1));
    ok!(close(second));
    err!(write(inn, b"x"), EPIPE);
    eq!(signal::counted(), 1);
    // A writer that waits is told, too.
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| {
        signal::dispose(libc::SIGPIPE, libc::SIG_IGN);
        ok!(close(out));
        let mut total = 0;
        loop {
            match write(inn, &[1; 65536]) {
                Ok(n) => total += n,
                Err(e) => {
                    err!(Err::<usize, _>(e), EPIPE);
                    check!(total >= 4096);
                    break;
                }
            }
        }
    });
    ok!(close(inn));
    eq!(read(out, &mut [0; 100]), Ok(100));
    ok!(close(out));
    eq!(wait(pid), End::Exit(0));
}

fn capacity_nonblocking() {
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    eq!(fill(inn), 65536);
    err!(write(inn, b"x"), EAGAIN);
    let mut buf = [0; 4096];
    eq!(read(out, &mut buf), Ok(4096));
    eq!(write(inn, &buf), Ok(4096));
    let mut total = 0;
    while let Ok(n) = read(out, &mut buf) {
        total += n;
    }
    eq!(total, 65536);
}

fn capacity_can_be_changed() {
    let (_out, inn) = ok!(pipe(libc::O_NONBLOCK));
    eq!(call!(SYS_fcntl, inn, libc::F_GETPIPE_SZ), Ok(65536));
    eq!(call!(SYS_fcntl, inn, libc::F_SETPIPE_SZ, 5000), Ok(8192));
    eq!(fill(inn), 8192);
    err!(call!(SYS_fcntl, inn, libc::F_SETPIPE_SZ, 4096), EBUSY);
    eq!(call!(SYS_fcntl, inn, libc::F_SETPIPE_SZ, 1 << 17), Ok(1 << 17));
    eq!(fill(inn), (1 << 17) - 8192);
}

fn small_writes_are_whole() {
    // Without waiting, a write of up to 4096 bytes goes in whole or not at all.
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    fill(inn);
    let mut buf = [0; 4096];
    eq!(read(out, &mut buf[..100]), Ok(100));
    err!(write(inn, &buf), EAGAIN);
    eq!(read(out, &mut buf), Ok(4096));
    eq!(write(inn, &buf), Ok(4096));
    let parts = [[buf.as_ptr() as usize, 2000usize], [buf.as_ptr() as usize, 2096]];
    err!(call!(SYS_writev, inn, parts.as_ptr(), 2), EAGAIN);
}

fn small_write_waits_for_room() {
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    fill(inn);
    ok!(call!(SYS_fcntl, inn, libc::F_SETFL, 0));
    ok!(call!(SYS_fcntl, out, libc::F_SETFL, 0));
    let pid = child(|| eq!(write(inn, &[9; 4096]), Ok(4096)));
    let mut buf = [0; 4096];
    let mut total = 0;
    while total < 65536 {
        total += ok!(read(out, &mut buf));
    }
    ok!(close(inn));
    eq!(ok!(read_all(out)).len() + total, 65536 + 4096);
    eq!(wait(pid), End::Exit(0));
}

fn large_write_fills_what_there_is() {
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    let big = vec![1; 100_000];
    eq!(write(inn, &big), Ok(65536));
    let mut buf = vec![0; 8192];
    eq!(read(out, &mut buf), Ok(8192));
    eq!(write(inn, &big), Ok(8192));
}

fn writers_do_not_interleave_small_writes() {
    let (out, inn) = ok!(pipe(0));
    let pids = [0u8, 1, 2, 3].map(|n| {
        child(|| {
            for i in 0..100u8 {
                let mut block = [n; 1024];
                block[0] = i;
                eq!(write(inn, &block), Ok(1024));
            }
        })
    });
    ok!(close(inn));
    let all = ok!(read_all(out));
    eq!(all.len(), 4 * 100 * 1024);
    let mut next = [0u8; 4];
    for block in all.chunks(1024) {
        let n = usize::from(block[1]);
        check!(block[1..].iter().all(|b| usize::from(*b) == n) && block[0] == next[n]);
        next[n] += 1;
    }
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn reader_waits_for_data() {
    let (out, inn) = ok!(pipe(0));
    let ready = Gate::new();
    let pid = child(|| {
        ready.open();
        let mut buf = [0; 10];
        // What there is, not all that was asked for.
        eq!((read(out, &mut buf), &buf[..2]), (Ok(2), &b"hi"[..]));
    });
    ready.pass();
    eq!(write(inn, b"hi"), Ok(2));
    eq!(wait(pid), End::Exit(0));
}

fn writer_waits_for_room() {
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| eq!(write(inn, &vec![3; 300_000]), Ok(300_000)));
    ok!(close(inn));
    let all = ok!(read_all(out));
    check!(all.len() == 300_000 && all.iter().all(|b| *b == 3));
    eq!(wait(pid), End::Exit(0));
}

fn many_bytes_through() {
    let (out, inn) = ok!(pipe(0));
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 11) as u8;
    const TOTAL: usize = 3_000_000;
    let pid = child(|| {
        let data: Vec<u8> = (0..TOTAL).map(byte).collect();
        let mut at = 0;
        for size in [1, 100, 4096, 5000, 70_000].iter().cycle() {
            let n = (*size).min(TOTAL - at);
            ok!(write_all(inn, &data[at..at + n]));
            at += n;
            if at == TOTAL {
                break;
            }
        }
    });
    ok!(close(inn));
    let mut at = 0;
    let mut buf = vec![0; 9000];
    for size in [9000, 1, 4096, 777].iter().cycle() {
        let n = ok!(read(out, &mut buf[..*size]));
        if n == 0 {
            break;
        }
        check!(buf[..n].iter().enumerate().all(|(i, b)| *b == byte(at + i)));
        at += n;
    }
    eq!(at, TOTAL);
    eq!(wait(pid), End::Exit(0));
}

fn flags_and_errors() {
    let (out, inn) = ok!(pipe(libc::O_CLOEXEC | libc::O_NONBLOCK));
    eq!(call!(SYS_fcntl, out, libc::F_GETFD), Ok(1));
    err!(read(out, &mut [0]), EAGAIN);
    err!(read(inn, &mut [0]), EBADF);
    err!(write(out, b"x"), EBADF);
    err!(call!(SYS_pipe2, [0i32; 2].as_mut_ptr(), libc::O_APPEND), EINVAL);
    err!(call!(SYS_pipe2, mem::KERNEL, 0), EFAULT);
    err!(call!(SYS_pipe, mem::unmapped()), EFAULT);
    let mut fds = [0i32; 2];
    eq!(call!(SYS_pipe, fds.as_mut_ptr()), Ok(0));
    eq!((call!(SYS_fcntl, fds[0], libc::F_GETFL), call!(SYS_fcntl, fds[1], libc::F_GETFL)), (Ok(0), Ok(1)));
    // A failed call leaves no descriptors behind.
    let next = ok!(call!(SYS_dup, 0)) as i32;
    eq!(next, fds[1] + 1);
}

fn inherited_ends_keep_it_open() {
    let (out, inn) = ok!(pipe(0));
    let gate = Gate::new();
    let pid = child(|| gate.pass());
    ok!(close(inn));
    nonblocking(out);
    err!(read(out, &mut [0]), EAGAIN);
    gate.open();
    eq!(wait(pid), End::Exit(0));
    eq!(read(out, &mut [0]), Ok(0));
}

fn read_into_bad_memory_loses_nothing() {
    let (out, inn) = ok!(pipe(0));
    eq!(write(inn, b"abcdef"), Ok(6));
    err!(call!(SYS_read, out, mem::unmapped(), 6), EFAULT);
    err!(call!(SYS_read, out, mem::KERNEL, 6), EFAULT);
    let mut buf = [0; 6];
    eq!((read(out, &mut buf), &buf), (Ok(6), b"abcdef"));
    err!(call!(SYS_write, inn, mem::unmapped(), 6), EFAULT);
    nonblocking(out);
    err!(read(out, &mut buf), EAGAIN);
}

fn vectors_through_pipes() {
    let (out, inn) = ok!(pipe(0));
    let parts = [[b"one".as_ptr() as usize, 3usize], [b"two!".as_ptr() as usize, 4]];
    eq!(call!(SYS_writev, inn, parts.as_ptr(), 2), Ok(7));
    let (mut a, mut b) = ([0u8; 2], [0u8; 20]);
    let parts = [[a.as_mut_ptr() as usize, 2usize], [b.as_mut_ptr() as usize, 20]];
    eq!(call!(SYS_readv, out, parts.as_ptr(), 2), Ok(7));
    eq!((&a, &b[..5]), (b"on", &b"etwo!"[..]));
}

fn chain_of_processes() {
    let (mut from, first) = ok!(pipe(0));
    let mut pids = vec![];
    for _ in 0..10 {
        let (out, inn) = ok!(pipe(0));
        pids.push(child(|| {
            ok!(close(first));
            ok!(close(out));
            let mut byte = [0];
            while ok!(read(from, &mut byte)) == 1 {
                byte[0] += 1;
                eq!(write(inn, &byte), Ok(1));
            }
        }));
        ok!(close(inn));
        ok!(close(from));
        from = out;
    }
    eq!(write(first, &[0, 50, 100]), Ok(3));
    ok!(close(first));
    eq!(read_all(from), Ok(vec![10, 60, 110]));
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn many_readers_each_byte_once() {
    let (out, inn) = ok!(pipe(0));
    let (sums, sums_in) = ok!(pipe(0));
    let pids = [0; 4].map(|_| {
        child(|| {
            ok!(close(inn));
            let (mut sum, mut buf) = (0u64, [0; 64]);
            loop {
                let n = ok!(read(out, &mut buf));
                if n == 0 {
                    break;
                }
                sum += buf[..n].iter().map(|b| u64::from(*b)).sum::<u64>();
            }
            eq!(write(sums_in, &sum.to_le_bytes()), Ok(8));
        })
    });
    (0..2000).for_each(|i| eq!(write(inn, &[(i % 250) as u8 + 1; 10]), Ok(10)));
    ok!(close(inn));
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
    ok!(close(sums_in));
    let total: u64 =
        ok!(read_all(sums)).chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default())).sum();
    eq!(total, (0..2000u64).map(|i| (i % 250 + 1) * 10).sum());
}

fn unread_data_survives_writer() {
    let (out, inn) = ok!(pipe(0));
    in_child(|| eq!(write(inn, &[5; 10_000]), Ok(10_000)));
    ok!(close(inn));
    eq!(ok!(read_all(out)), vec![5; 10_000]);
}

fn poll(fd: i32, events: i16) -> i16 {
    let mut fd = libc::pollfd { fd, events, revents: 0 };
    ok!(call!(SYS_poll, &mut fd, 1, 0));
    fd.revents
}

fn poll_tells_state() {
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    eq!((poll(out, libc::POLLIN), poll(inn, libc::POLLOUT)), (0, libc::POLLOUT));
    fill(inn);
    eq!((poll(out, libc::POLLIN), poll(inn, libc::POLLOUT)), (libc::POLLIN, 0));
    ok!(close(inn));
    eq!(poll(out, libc::POLLIN), libc::POLLIN | libc::POLLHUP);
    ok!(read_all(out));
    eq!(poll(out, libc::POLLIN), libc::POLLHUP);
    let (out, inn) = ok!(pipe(0));
    ok!(close(out));
    eq!(poll(inn, libc::POLLOUT), libc::POLLOUT | libc::POLLERR);
}

fn many_pipes() {
    let pipes: Vec<(i32, i32)> = (0..200).map(|_| ok!(pipe(0))).collect();
    for (i, (_, inn)) in pipes.iter().enumerate() {
        eq!(write(*inn, &[i as u8; 100]), Ok(100));
    }
    for (i, (out, inn)) in pipes.into_iter().enumerate() {
        ok!(close(inn));
        eq!(ok!(read_all(out)), vec![i as u8; 100]);
        ok!(close(out));
    }
}

fn fifo_reopened() {
    guest_programs::fs::scratch();
    ok!(call!(SYS_mknodat, libc::AT_FDCWD, c"fifo", libc::S_IFIFO | 0o600, 0));
    for round in 0..20u8 {
        let pid = child(|| {
            let fd = ok!(guest_programs::sys::open(c"fifo", libc::O_WRONLY, 0));
            eq!(write(fd, &[round; 10]), Ok(10));
        });
        let fd = ok!(guest_programs::sys::open(c"fifo", libc::O_RDONLY, 0));
        eq!(read_all(fd), Ok(vec![round; 10]));
        ok!(close(fd));
        eq!(wait(pid), End::Exit(0));
    }
    // Both directions at once never waits.
    let fd = ok!(guest_programs::sys::open(c"fifo", libc::O_RDWR, 0));
    eq!(write(fd, b"self"), Ok(4));
    eq!(read(fd, &mut [0; 8]), Ok(4));
}

fn splice_and_tee_or_refused() {
    // Not every program's need: either it moves the bytes or says that it cannot; it never loses any.
    let ((a, b), (c, d)) = (ok!(pipe(0)), ok!(pipe(0)));
    eq!(write(b, b"data"), Ok(4));
    match call!(SYS_splice, a, 0, d, 0, 100, 0) {
        Ok(n) => {
            eq!(n, 4);
            eq!(read(c, &mut [0; 10]), Ok(4));
        }
        Err(e) => {
            err!(Err::<usize, _>(e), ENOSYS | EINVAL);
            eq!(read(a, &mut [0; 10]), Ok(4));
        }
    }
}
