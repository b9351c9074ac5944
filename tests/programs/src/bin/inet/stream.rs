//! What goes through a connection, and how it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use guest_programs::process::{End, child, wait};
use guest_programs::sys::write;
use guest_programs::{Case, call, cases, check, eq, err, ok, signal};

use super::socket::{LOCALHOST, STREAM, byte, events, listener, pair, socket};

pub const CASES: &[Case] = cases![
    echo,
    many_bytes_both_ways: 60,
    a_full_connection_makes_its_sender_wait: 60,
    halves_are_shut,
    a_closed_connection_is_broken,
    unread_data_resets,
    peek_and_wait_all,
    a_fault_ends_a_transfer,
    threads_on_one_connection: 60,
];

fn echo() {
    let (listener, port) = listener();
    let server = thread::spawn(move || {
        let (mut stream, _) = ok!(listener.accept());
        let mut buffer = [0; 100];
        loop {
            let count = ok!(stream.read(&mut buffer));
            if count == 0 {
                break;
            }
            ok!(stream.write_all(&buffer[..count]));
        }
    });
    let mut stream = ok!(TcpStream::connect((LOCALHOST, port)));
    for round in 0..200usize {
        let message: Vec<u8> = (0..1 + round % 90).map(|n| byte(n + round)).collect();
        ok!(stream.write_all(&message));
        let mut answer = vec![0; message.len()];
        ok!(stream.read_exact(&mut answer));
        eq!(answer, message);
    }
    ok!(stream.shutdown(Shutdown::Write));
    eq!(ok!(stream.read(&mut [0; 9])), 0);
    ok!(server.join());
}

fn many_bytes_both_ways() {
    const BYTES: usize = 3_000_000;
    let (client, server) = pair();
    let work = |mut stream: TcpStream, salt: usize| {
        let mut out = ok!(stream.try_clone());
        let sender = thread::spawn(move || {
            let data: Vec<u8> = (0..BYTES).map(|n| byte(n + salt)).collect();
            // In pieces of all sizes.
            let mut at = 0;
            let mut size = 1;
            while at < BYTES {
                let end = (at + size).min(BYTES);
                ok!(out.write_all(&data[at..end]));
                at = end;
                size = size * 3 % 100_003;
            }
            ok!(out.shutdown(Shutdown::Write));
        });
        let mut all = Vec::new();
        ok!(stream.read_to_end(&mut all));
        ok!(sender.join());
        let other = 7 - salt;
        check!(all.len() == BYTES && all.iter().enumerate().all(|(n, b)| *b == byte(n + other)));
    };
    let far = thread::spawn(move || work(server, 3));
    work(client, 4);
    ok!(far.join());
}

fn a_full_connection_makes_its_sender_wait() {
    let (client, mut server) = pair();
    ok!(client.set_nonblocking(true));
    let mut sent = 0;
    let block = [7u8; 10_000];
    loop {
        match (&client).write(&block) {
            Ok(count) => sent += count,
            Err(error) => {
                eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
        check!(sent < 64 << 20, "a connection takes any number of bytes");
    }
    check!(sent > 4096);
    eq!(events(client.as_raw_fd(), libc::POLLOUT, 0), 0);
    let mut pending = 0i32;
    ok!(call!(SYS_ioctl, server.as_raw_fd(), libc::FIONREAD, &raw mut pending));
    check!(pending > 0 && pending as usize <= sent);
    // Somebody reads, and the sender goes on.
    ok!(client.set_nonblocking(false));
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        ok!(server.read_to_end(&mut all));
        all.len()
    });
    ok!((&client).write_all(&[8; 500_000]));
    drop(client);
    eq!(ok!(reader.join()), sent + 500_000);
}

fn halves_are_shut() {
    let (mut client, mut server) = pair();
    ok!(client.write_all(b"last"));
    ok!(client.shutdown(Shutdown::Write));
    eq!(client.write(b"more").err().map(|error| error.kind()), Some(ErrorKind::BrokenPipe));
    let mut all = Vec::new();
    ok!(server.read_to_end(&mut all));
    eq!(all, b"last");
    eq!(events(server.as_raw_fd(), libc::POLLIN | libc::POLLRDHUP, 0), libc::POLLIN | libc::POLLRDHUP);
    ok!(server.write_all(b"answer"));
    let mut answer = [0; 6];
    ok!(client.read_exact(&mut answer));
    eq!(&answer, b"answer");
    ok!(server.shutdown(Shutdown::Write));
    eq!(ok!(client.read(&mut answer)), 0);
    let all = libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP;
    eq!(events(client.as_raw_fd(), libc::POLLIN | libc::POLLRDHUP, 10_000), all);
    // What is shut for reading ends at once.
    let (client, mut server) = pair();
    ok!(client.shutdown(Shutdown::Read));
    eq!(ok!((&client).read(&mut answer)), 0);
    ok!(server.write_all(b"x"));
    err!(call!(SYS_shutdown, socket(STREAM), 0), ENOTCONN);
    err!(call!(SYS_shutdown, client.as_raw_fd(), 3), EINVAL);
}

fn a_closed_connection_is_broken() {
    let (mut client, server) = pair();
    drop(server);
    eq!(ok!(client.read(&mut [0; 4])), 0);
    // The first bytes are refused, which those after them are told.
    ok!(client.write_all(b"into the void"));
    check!(events(client.as_raw_fd(), libc::POLLOUT, 10_000) & libc::POLLHUP != 0);
    let end = wait(child(move || {
        signal::dispose(libc::SIGPIPE, libc::SIG_DFL);
        let _ = write(client.as_raw_fd(), b"x");
        let _ = write(client.as_raw_fd(), b"x");
    }));
    eq!(end, End::Signal(libc::SIGPIPE));
    let (client, server) = pair();
    drop(server);
    ok!(call!(SYS_sendto, client.as_raw_fd(), b"x".as_ptr(), 1, libc::MSG_NOSIGNAL, 0, 0));
    check!(events(client.as_raw_fd(), libc::POLLOUT, 10_000) & libc::POLLHUP != 0);
    let again = || call!(SYS_sendto, client.as_raw_fd(), b"x".as_ptr(), 1, libc::MSG_NOSIGNAL, 0, 0);
    err!(again(), EPIPE | ECONNRESET);
    err!(again(), EPIPE);
}

fn unread_data_resets() {
    let (mut client, mut server) = pair();
    ok!(client.write_all(b"never read"));
    ok!(server.write_all(b"x"));
    eq!(events(server.as_raw_fd(), libc::POLLIN, 10_000), libc::POLLIN);
    drop(server);
    let mut byte = [0];
    // What came before the end may be lost with it, as on Linux it is not.
    ok!(client.read_exact(&mut byte));
    eq!(client.read(&mut byte).err().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
    eq!(ok!(client.read(&mut byte)), 0);
    // A socket that does not linger is reset at once.
    let (client, mut server) = pair();
    let linger = [1i32, 0];
    ok!(call!(SYS_setsockopt, client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger, 8));
    drop(client);
    eq!(server.read(&mut byte).err().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
}

fn peek_and_wait_all() {
    let (mut client, server) = pair();
    ok!(client.write_all(b"hello"));
    let fd = server.as_raw_fd();
    let mut buffer = [0u8; 10];
    let mut receive = |room: usize, flags: i32| {
        let count = ok!(call!(SYS_recvfrom, fd, buffer.as_mut_ptr(), room, flags, 0, 0));
        buffer[..count].to_vec()
    };
    eq!(receive(10, libc::MSG_PEEK), b"hello");
    eq!(receive(2, libc::MSG_PEEK), b"he");
    eq!(receive(2, 0), b"he");
    let sender = thread::spawn(move || {
        ok!(client.write_all(b" wor"));
        ok!(client.write_all(b"ld..."));
        client
    });
    eq!(receive(9, libc::MSG_WAITALL), b"llo world");
    let client = ok!(sender.join());
    eq!(receive(10, 0), b"...");
    err!(call!(SYS_recvfrom, fd, [0u8; 4].as_mut_ptr(), 4, libc::MSG_DONTWAIT, 0, 0), EAGAIN);
    drop(client);
    eq!(receive(10, libc::MSG_WAITALL), b"");
}

fn a_fault_ends_a_transfer() {
    const PAGE: usize = 4096;
    let (client, server) = pair();
    let fd = client.as_raw_fd();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let at = ok!(call!(SYS_mmap, 0, 2 * PAGE, protection, flags, -1, 0));
    ok!(call!(SYS_munmap, at + PAGE, PAGE));
    match call!(SYS_write, fd, at, 2 * PAGE) {
        Ok(count) => check!(count > 0 && count <= PAGE, "{count} bytes"),
        error => err!(error, EFAULT),
    }
    err!(call!(SYS_write, fd, at + PAGE, 10), EFAULT);
    err!(call!(SYS_sendto, fd, at + PAGE, 10, 0, 0, 0), EFAULT);
    ok!((&client).write_all(&[1; 10]));
    eq!(events(server.as_raw_fd(), libc::POLLIN, 10_000), libc::POLLIN);
    err!(call!(SYS_read, server.as_raw_fd(), at + PAGE, 10), EFAULT);
    check!(ok!(call!(SYS_read, server.as_raw_fd(), at, PAGE)) > 0);
}

fn threads_on_one_connection() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 500;
    let (client, mut server) = pair();
    let senders: Vec<_> = (0..THREADS)
        .map(|n| {
            let mut stream = ok!(client.try_clone());
            thread::spawn(move || {
                for message in 0..MESSAGES {
                    // Small enough that no other can come between.
                    ok!(stream.write_all(&[n as u8, message as u8, (message >> 8) as u8, 0xaa]));
                }
            })
        })
        .collect();
    let mut next = [0; THREADS];
    let mut message = [0; 4];
    for _ in 0..THREADS * MESSAGES {
        ok!(server.read_exact(&mut message));
        let [n, low, high, mark] = message.map(usize::from);
        eq!(mark, 0xaa);
        eq!(low | high << 8, next[n]);
        next[n] += 1;
    }
    senders.into_iter().for_each(|sender| ok!(sender.join()));
    drop(client);
    eq!(ok!(server.read(&mut message)), 0);
}
