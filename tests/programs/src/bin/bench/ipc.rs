//! Pipes, sockets, and waiting for them.

use crate::{closing, timed};
use guest_programs::process::{End, child, wait};
use guest_programs::sys::{pipe, read, write, write_all};
use guest_programs::time::now;
use guest_programs::{call, check, ok};

pub fn pipe_64k(n: u32) -> i64 {
    let (out, inn) = ok!(pipe(0));
    throughput(n, out, inn)
}

pub fn unix_64k(n: u32) -> i64 {
    let [one, other] = socket_pair();
    throughput(n, one, other)
}

/// Another process writes `n` blocks of 64 KiB, this one reads them.
fn throughput(n: u32, out: i32, inn: i32) -> i64 {
    const BLOCK: usize = 65536;
    let pid = child(|| {
        let block = vec![1; BLOCK];
        (0..n).for_each(|_| ok!(write_all(inn, &block)));
    });
    let mut buffer = vec![0; BLOCK];
    let start = now();
    let mut left = n as usize * BLOCK;
    while left > 0 {
        left -= ok!(read(out, &mut buffer));
    }
    let took = now() - start;
    check!(wait(pid) == End::Exit(0));
    closing(&[out, inn]);
    took
}

pub fn pipe_create_close(n: u32) -> i64 {
    timed(n, || {
        let (out, inn) = ok!(pipe(0));
        closing(&[out, inn]);
    })
}

pub fn pipe_one_byte(n: u32) -> i64 {
    let (out, inn) = ok!(pipe(0));
    let took = timed(n, || {
        ok!(write(inn, b"x"));
        ok!(read(out, &mut [0]));
    });
    closing(&[out, inn]);
    took
}

pub fn poll_ten(n: u32) -> i64 {
    let pipes = [(); 10].map(|()| ok!(pipe(0)));
    let mut fds = pipes.map(|(fd, _)| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let took = timed(n, || _ = ok!(call!(SYS_poll, fds.as_mut_ptr(), 10, 0)));
    pipes.iter().for_each(|(out, inn)| closing(&[*out, *inn]));
    took
}

pub fn epoll_ready(n: u32) -> i64 {
    let ep = ok!(call!(SYS_epoll_create1, 0)) as i32;
    let event = ok!(call!(SYS_eventfd2, 1, 0)) as i32;
    let mut entry = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
    ok!(call!(SYS_epoll_ctl, ep, libc::EPOLL_CTL_ADD, event, &entry));
    let took = timed(n, || check!(ok!(call!(SYS_epoll_wait, ep, &mut entry, 1, -1)) == 1));
    closing(&[ep, event]);
    took
}

pub fn eventfd_pair(n: u32) -> i64 {
    let fd = ok!(call!(SYS_eventfd2, 0, 0)) as i32;
    let took = timed(n, || {
        ok!(write(fd, &1u64.to_ne_bytes()));
        ok!(read(fd, &mut [0; 8]));
    });
    closing(&[fd]);
    took
}

fn socket_pair() -> [i32; 2] {
    let mut fds = [0i32; 2];
    ok!(call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr()));
    fds
}

pub fn unix_round_trip(n: u32) -> i64 {
    let fds = socket_pair();
    let pid = child(|| {
        for _ in 0..n {
            ok!(read(fds[1], &mut [0]));
            ok!(write(fds[1], b"x"));
        }
    });
    let took = timed(n, || {
        ok!(write(fds[0], b"x"));
        ok!(read(fds[0], &mut [0]));
    });
    check!(wait(pid) == End::Exit(0));
    closing(&fds);
    took
}
