//! Listeners, and whom connections belong to.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread;

use guest_programs::descriptors::{accept_with_the_last, with_limit};
use guest_programs::process::{End, child, kill, wait};
use guest_programs::sys::{close, read};
use guest_programs::{Case, call, cases, check, eq, err, ok};

use super::connect::disconnect;
use super::socket::{LOCALHOST, STREAM, bind, connect, events, listener, name, option, pair, socket};

pub const CASES: &[Case] = cases![
    a_listener_shut_wakes_its_accept,
    an_error_of_before_is_nothing_to_accept,
    without_a_descriptor_nothing_is_accepted,
    a_waiting_accept_has_its_descriptor,
    backlog_is_accepted_in_order,
    many_connections: 60,
    a_socket_is_shared_after_fork,
    exit_closes_connections,
];

fn a_listener_shut_wakes_its_accept() {
    let (listener, port) = listener();
    let fd = listener.as_raw_fd();
    let waiter = thread::spawn(move || call!(SYS_accept, fd, 0, 0).err());
    eq!(events(fd, libc::POLLIN, 20), 0);
    ok!(call!(SYS_shutdown, fd, libc::SHUT_RD));
    eq!(ok!(waiter.join()), Some(guest_programs::Errno(libc::EINVAL)));
    let error = TcpStream::connect((LOCALHOST, port)).err().map(|error| error.kind());
    eq!(error, Some(ErrorKind::ConnectionRefused));
}

fn an_error_of_before_is_nothing_to_accept() {
    let (client, server) = pair();
    let fd = client.as_raw_fd();
    ok!(call!(SYS_write, fd, b"never read".as_ptr(), 10));
    drop(server);
    check!(events(fd, 0, 10_000) & libc::POLLERR != 0);
    disconnect(fd);
    ok!(call!(SYS_listen, fd, 5));
    let limit = libc::timeval { tv_sec: 0, tv_usec: 40_000 };
    ok!(call!(SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &limit, 16));
    err!(call!(SYS_accept, fd, 0, 0), EAGAIN);
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    ok!(call!(SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &never, 16));
    let waiter = child(|| {
        let _ = call!(SYS_accept, fd, 0, 0);
    });
    // Whoever waits can be killed.
    eq!(events(fd, libc::POLLIN, 20) & libc::POLLIN, 0);
    ok!(kill(waiter, libc::SIGKILL));
    eq!(wait(waiter), End::Signal(libc::SIGKILL));
    let port = ok!(name(fd, libc::SYS_getsockname)).port();
    let _client = ok!(TcpStream::connect((LOCALHOST, port)));
    ok!(close(ok!(call!(SYS_accept, fd, 0, 0)) as i32));
}

fn without_a_descriptor_nothing_is_accepted() {
    let (listener, port) = listener();
    let fd = listener.as_raw_fd();
    let mut client = ok!(TcpStream::connect((LOCALHOST, port)));
    let refused = with_limit(3, || call!(SYS_accept, fd, 0, 0));
    err!(refused, EMFILE);
    let (mut server, _) = ok!(listener.accept());
    ok!(server.write_all(b"still"));
    drop(server);
    let mut text = String::new();
    ok!(client.read_to_string(&mut text));
    eq!(text, "still");
}

fn a_waiting_accept_has_its_descriptor() {
    let (listener, port) = listener();
    let client = socket(STREAM);
    accept_with_the_last(listener.as_raw_fd(), || {
        ok!(connect(client, LOCALHOST, port));
    });
    eq!(read(client, &mut [0]), Ok(0));
}

fn backlog_is_accepted_in_order() {
    let fd = socket(STREAM);
    ok!(bind(fd, LOCALHOST, 0));
    ok!(call!(SYS_listen, fd, 16));
    eq!(option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN), Ok(1));
    let port = ok!(name(fd, libc::SYS_getsockname)).port();
    let mut clients: Vec<TcpStream> = (0..8).map(|_| ok!(TcpStream::connect((LOCALHOST, port)))).collect();
    // What is sent before is there when it is accepted.
    for (n, client) in clients.iter_mut().enumerate() {
        ok!(client.write_all(&[n as u8]));
    }
    for n in 0..8u8 {
        eq!(events(fd, libc::POLLIN, 10_000), libc::POLLIN);
        let server = ok!(call!(SYS_accept4, fd, 0, 0, libc::SOCK_CLOEXEC)) as i32;
        let mut byte = [99];
        eq!(ok!(read(server, &mut byte)), 1);
        eq!(byte[0], n);
        ok!(close(server));
    }
    eq!(events(fd, libc::POLLIN, 0), 0);
}

fn many_connections() {
    const AT_A_TIME: usize = 40;
    let (listener, port) = listener();
    let server = thread::spawn(move || {
        for _ in 0..3 * AT_A_TIME {
            let (mut stream, _) = ok!(listener.accept());
            let mut number = [0; 4];
            ok!(stream.read_exact(&mut number));
            ok!(stream.write_all(&number));
        }
    });
    for round in 0..3u32 {
        let mut streams: Vec<(u32, TcpStream)> = (0..AT_A_TIME as u32)
            .map(|n| (round * 1000 + n, ok!(TcpStream::connect((LOCALHOST, port)))))
            .collect();
        for (number, stream) in streams.iter_mut().rev() {
            ok!(stream.write_all(&number.to_ne_bytes()));
        }
        for (number, stream) in &mut streams {
            let mut answer = [0; 4];
            ok!(stream.read_exact(&mut answer));
            eq!(u32::from_ne_bytes(answer), *number);
            eq!(ok!(stream.read(&mut answer)), 0);
        }
    }
    ok!(server.join());
}

fn a_socket_is_shared_after_fork() {
    let (client, mut server) = pair();
    let worker = child(|| ok!((&client).write_all(b"from the child")));
    eq!(wait(worker), End::Exit(0));
    ok!((&client).write_all(b" and the parent"));
    // The connection ends with the last of them.
    drop(client);
    let mut all = String::new();
    ok!(server.read_to_string(&mut all));
    eq!(all, "from the child and the parent");
}

fn exit_closes_connections() {
    let (listener, port) = listener();
    let worker = child(|| {
        let mut stream = ok!(TcpStream::connect((LOCALHOST, port)));
        ok!(stream.write_all(b"done"));
        std::process::exit(0);
    });
    let (mut stream, _) = ok!(listener.accept());
    let mut all = Vec::new();
    ok!(stream.read_to_end(&mut all));
    eq!(all, b"done");
    eq!(wait(worker), End::Exit(0));
}
