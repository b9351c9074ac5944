//! Waiting for sockets: time limits, poll, epoll, signals.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use guest_programs::process::{End, child, kill, wait_with};
use guest_programs::sys::{read, zeroed};
use guest_programs::{Case, call, cases, check, eq, err, ok, signal};

use super::socket::{LOCALHOST, events, listener, pair};

pub const CASES: &[Case] = cases![time_limits, poll_on_streams, epoll_on_streams, waiting_is_interrupted,];

fn time_limits() {
    let (mut client, _server) = pair();
    ok!(client.set_read_timeout(Some(Duration::from_millis(40))));
    eq!(ok!(client.read_timeout()), Some(Duration::from_millis(40)));
    let start = Instant::now();
    eq!(client.read(&mut [0; 4]).err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    check!(start.elapsed() >= Duration::from_millis(40));
    ok!(client.set_write_timeout(Some(Duration::from_millis(40))));
    let mut refused = false;
    for _ in 0..10_000 {
        if let Err(error) = client.write(&[0; 100_000]) {
            eq!(error.kind(), ErrorKind::WouldBlock);
            refused = true;
            break;
        }
    }
    check!(refused);
}

fn poll_on_streams() {
    let (mut client, mut server) = pair();
    let fd = client.as_raw_fd();
    let both = libc::POLLIN | libc::POLLOUT;
    eq!(events(fd, both, 0), libc::POLLOUT);
    ok!(server.write_all(b"abc"));
    eq!(events(fd, both, 10_000), libc::POLLIN | libc::POLLOUT);
    ok!(client.read_exact(&mut [0; 3]));
    eq!(events(fd, both, 0), libc::POLLOUT);
    // A task that sleeps is woken.
    let waiter = thread::spawn(move || events(fd, libc::POLLIN, 10_000));
    ok!(server.write_all(b"d"));
    eq!(ok!(waiter.join()), libc::POLLIN);
    let mut set: libc::fd_set = zeroed();
    // SAFETY: the descriptor is small enough for a set.
    unsafe { libc::FD_SET(fd, &mut set) };
    let mut time = libc::timeval { tv_sec: 10, tv_usec: 0 };
    eq!(ok!(call!(SYS_select, fd + 1, &raw mut set, 0, 0, &raw mut time)), 1);
    drop(server);
    check!(events(fd, libc::POLLRDHUP, 10_000) & libc::POLLRDHUP != 0);
}

fn epoll_on_streams() {
    let (listener, port) = listener();
    let epoll = ok!(call!(SYS_epoll_create1, 0)) as i32;
    let watch = |fd: i32, events: i32| {
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        ok!(call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event));
    };
    let next = |wait: i32| {
        let mut event: libc::epoll_event = zeroed();
        let count = ok!(call!(SYS_epoll_wait, epoll, &raw mut event, 1, wait));
        (count == 1).then_some((event.u64 as i32, event.events as i32))
    };
    watch(listener.as_raw_fd(), libc::EPOLLIN);
    eq!(next(0), None);
    let mut client = ok!(TcpStream::connect((LOCALHOST, port)));
    eq!(next(10_000), Some((listener.as_raw_fd(), libc::EPOLLIN)));
    let (server, _) = ok!(listener.accept());
    eq!(next(0), None);
    // Each arrival is told once.
    watch(server.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET | libc::EPOLLRDHUP);
    for _ in 0..3 {
        ok!(client.write_all(b"more"));
        eq!(next(10_000), Some((server.as_raw_fd(), libc::EPOLLIN)));
        eq!(next(0), None);
    }
    drop(client);
    let end = libc::EPOLLIN | libc::EPOLLRDHUP;
    eq!(next(10_000), Some((server.as_raw_fd(), end)));
}

fn waiting_is_interrupted() {
    let (client, _server) = pair();
    signal::handle(libc::SIGUSR1, 0, signal::count);
    let worker = child(|| err!(read(client.as_raw_fd(), &mut [0; 4]), EINTR));
    // A signal that comes before it waits does nothing: another must follow.
    let end = loop {
        match ok!(wait_with(worker, libc::WNOHANG)) {
            (0, _) => {}
            (_, end) => break end,
        }
        ok!(kill(worker, libc::SIGUSR1));
        thread::sleep(Duration::from_millis(2));
    };
    eq!(end, End::Exit(0));
}
