//! Sockets of AF_INET over the loopback interface: TCP, UDP, ICMP, and what `ifconfig` and `route` ask.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use guest_programs::process::{End, child, kill, wait, wait_with};
use guest_programs::sys::{close, read, write, zeroed};
use guest_programs::{Case, Sys, call, cases, check, eq, err, ok, run, signal};

const CASES: &[Case] = cases![
    kinds_of_socket,
    echo,
    names_of_both_ends,
    bind_errors,
    connection_refused,
    connection_refused_without_waiting,
    connecting_without_waiting,
    unreachable_networks,
    many_bytes_both_ways: 60,
    a_full_connection_makes_its_sender_wait: 60,
    halves_are_shut,
    a_closed_connection_is_broken,
    unread_data_resets,
    a_listener_shut_wakes_its_accept,
    backlog_is_accepted_in_order,
    many_connections: 60,
    a_socket_is_shared_after_fork,
    exit_closes_connections,
    peek_and_wait_all,
    time_limits,
    poll_on_streams,
    epoll_on_streams,
    options,
    waiting_is_interrupted,
    datagrams,
    connected_datagrams,
    long_datagrams,
    datagrams_without_room,
    messages,
    a_fault_ends_a_transfer,
    echo_requests,
    interfaces_and_routes,
    threads_on_one_connection: 60,
];

fn main() {
    run(&[CASES], &[])
}

const STREAM: i32 = libc::SOCK_STREAM;
const DGRAM: i32 = libc::SOCK_DGRAM;
const NONBLOCK: i32 = libc::SOCK_NONBLOCK;
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn socket(kind: i32) -> i32 {
    ok!(call!(SYS_socket, libc::AF_INET, kind, 0)) as i32
}

fn address(host: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    let mut a: libc::sockaddr_in = zeroed();
    a.sin_family = libc::AF_INET as u16;
    a.sin_port = port.to_be();
    a.sin_addr.s_addr = u32::from(host).to_be();
    a
}

fn bind(fd: i32, host: Ipv4Addr, port: u16) -> Sys {
    call!(SYS_bind, fd, &address(host, port), 16)
}

fn connect(fd: i32, host: Ipv4Addr, port: u16) -> Sys {
    call!(SYS_connect, fd, &address(host, port), 16)
}

fn name(fd: i32, nr: i64) -> Sys<SocketAddrV4> {
    let mut a: libc::sockaddr_in = zeroed();
    let mut n = 16u32;
    guest_programs::sys::syscall(nr, &[fd as usize, &raw mut a as usize, &raw mut n as usize])?;
    Ok(SocketAddrV4::new(u32::from_be(a.sin_addr.s_addr).into(), u16::from_be(a.sin_port)))
}

fn option(fd: i32, level: i32, option: i32) -> Sys<i32> {
    let mut value = 0i32;
    let mut n = 4u32;
    call!(SYS_getsockopt, fd, level, option, &raw mut value, &raw mut n)?;
    Ok(value)
}

fn set_option(fd: i32, level: i32, option: i32, value: i32) -> Sys {
    call!(SYS_setsockopt, fd, level, option, &value, 4)
}

fn events(fd: i32, wanted: i16, wait: i32) -> i16 {
    let mut poll = libc::pollfd { fd, events: wanted, revents: 0 };
    ok!(call!(SYS_poll, &raw mut poll, 1, wait));
    poll.revents
}

/// A listener, and its port.
fn listener() -> (TcpListener, u16) {
    let listener = ok!(TcpListener::bind((LOCALHOST, 0)));
    let port = ok!(listener.local_addr()).port();
    (listener, port)
}

/// A connection: whoever connected, and whoever accepted.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, port) = listener();
    let client = ok!(TcpStream::connect((LOCALHOST, port)));
    let (server, _) = ok!(listener.accept());
    (client, server)
}

fn byte(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// A port nobody listens on: its owner has just closed it.
fn free_port() -> u16 {
    listener().1
}

fn kinds_of_socket() {
    let kind = |kind, protocol| call!(SYS_socket, libc::AF_INET, kind, protocol);
    for (a, b) in [(STREAM, 0), (STREAM, libc::IPPROTO_TCP), (DGRAM, 0), (DGRAM, libc::IPPROTO_UDP)] {
        let fd = ok!(kind(a, b)) as i32;
        eq!(option(fd, libc::SOL_SOCKET, libc::SO_TYPE), Ok(a));
        eq!(option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN), Ok(libc::AF_INET));
        eq!(option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN), Ok(0));
        ok!(close(fd));
    }
    err!(kind(STREAM, libc::IPPROTO_UDP), EPROTONOSUPPORT);
    err!(kind(DGRAM, libc::IPPROTO_TCP), EPROTONOSUPPORT);
    err!(kind(libc::SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    err!(kind(libc::SOCK_RAW, 0), EPROTONOSUPPORT);
    err!(kind(77, 0), EINVAL);
    let fd = ok!(kind(STREAM | libc::SOCK_CLOEXEC | NONBLOCK, 0)) as i32;
    eq!(ok!(call!(SYS_fcntl, fd, libc::F_GETFD)), libc::FD_CLOEXEC as usize);
    check!(ok!(call!(SYS_fcntl, fd, libc::F_GETFL)) & libc::O_NONBLOCK as usize != 0);
    err!(call!(SYS_lseek, fd, 0, 0), ESPIPE);
    eq!(events(fd, libc::POLLIN | libc::POLLOUT, 0), libc::POLLOUT | libc::POLLHUP);
}

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

fn names_of_both_ends() {
    let (listener, port) = listener();
    let client = socket(STREAM);
    eq!(name(client, libc::SYS_getsockname), Ok(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)));
    err!(name(client, libc::SYS_getpeername), ENOTCONN);
    ok!(connect(client, LOCALHOST, port));
    let (server, from) = ok!(listener.accept());
    let own = ok!(name(client, libc::SYS_getsockname));
    eq!(*own.ip(), LOCALHOST);
    check!(own.port() >= 1024);
    eq!(from, std::net::SocketAddr::V4(own));
    eq!(name(client, libc::SYS_getpeername), Ok(SocketAddrV4::new(LOCALHOST, port)));
    eq!(ok!(server.local_addr()), ok!(client_of(client).peer_addr()));
    err!(connect(client, LOCALHOST, port), EISCONN);
    // The whole of the network 127 is here.
    let other = socket(STREAM);
    ok!(bind(other, Ipv4Addr::new(127, 1, 2, 3), 0));
    ok!(connect(other, LOCALHOST, port));
    let (_, from) = ok!(listener.accept());
    eq!(from.ip(), std::net::IpAddr::V4(Ipv4Addr::new(127, 1, 2, 3)));
}

/// The stream behind a descriptor, which stays open when it is dropped.
fn client_of(fd: i32) -> TcpStream {
    let copy = ok!(call!(SYS_dup, fd)) as RawFd;
    // SAFETY: the copy is nobody else's.
    unsafe { TcpStream::from_raw_fd(copy) }
}

fn bind_errors() {
    let (_listener, port) = listener();
    let fd = socket(STREAM);
    err!(bind(fd, LOCALHOST, port), EADDRINUSE);
    err!(bind(fd, Ipv4Addr::UNSPECIFIED, port), EADDRINUSE);
    err!(bind(fd, Ipv4Addr::new(192, 0, 2, 1), 0), EADDRNOTAVAIL);
    err!(call!(SYS_bind, fd, &address(LOCALHOST, 0), 15), EINVAL);
    err!(call!(SYS_bind, fd, 8, 16), EFAULT);
    ok!(bind(fd, Ipv4Addr::new(127, 0, 0, 2), port));
    err!(bind(fd, LOCALHOST, 0), EINVAL);
    let mut unix: libc::sockaddr_in = address(LOCALHOST, 0);
    unix.sin_family = libc::AF_UNIX as u16;
    err!(call!(SYS_bind, socket(STREAM), &unix, 16), EAFNOSUPPORT);
    err!(call!(SYS_listen, socket(DGRAM), 1), EOPNOTSUPP);
    err!(call!(SYS_accept, socket(STREAM), 0, 0), EINVAL);
    let udp = ok!(UdpSocket::bind((LOCALHOST, 0)));
    let taken = ok!(udp.local_addr()).port();
    err!(bind(socket(DGRAM), LOCALHOST, taken), EADDRINUSE);
    // The two do not know each other.
    drop(ok!(TcpListener::bind((LOCALHOST, taken))));
}

fn connection_refused() {
    let port = free_port();
    let error = TcpStream::connect((LOCALHOST, port)).err().map(|error| error.kind());
    eq!(error, Some(ErrorKind::ConnectionRefused));
    // The socket can be used again.
    let fd = socket(STREAM);
    err!(connect(fd, LOCALHOST, port), ECONNREFUSED);
    let (listener, port) = listener();
    ok!(connect(fd, LOCALHOST, port));
    drop(ok!(listener.accept()));
    err!(call!(SYS_recvfrom, socket(STREAM), [0u8; 4].as_mut_ptr(), 4, 0, 0, 0), ENOTCONN);
}

fn connection_refused_without_waiting() {
    let fd = socket(STREAM | NONBLOCK);
    err!(connect(fd, LOCALHOST, free_port()), EINPROGRESS);
    let got = events(fd, libc::POLLIN | libc::POLLOUT, 10_000);
    eq!(got, libc::POLLIN | libc::POLLOUT | libc::POLLERR | libc::POLLHUP);
    eq!(option(fd, libc::SOL_SOCKET, libc::SO_ERROR), Ok(libc::ECONNREFUSED));
    eq!(option(fd, libc::SOL_SOCKET, libc::SO_ERROR), Ok(0));
    err!(connect(fd, LOCALHOST, free_port()), ECONNABORTED);
    err!(connect(fd, LOCALHOST, free_port()), EINPROGRESS);
    eq!(events(fd, libc::POLLOUT, 10_000) & libc::POLLERR, libc::POLLERR);
    err!(connect(fd, LOCALHOST, free_port()), ECONNREFUSED);
}

fn connecting_without_waiting() {
    let (listener, port) = listener();
    let fd = socket(STREAM | NONBLOCK);
    err!(connect(fd, LOCALHOST, port), EINPROGRESS);
    eq!(events(fd, libc::POLLOUT, 10_000), libc::POLLOUT);
    eq!(option(fd, libc::SOL_SOCKET, libc::SO_ERROR), Ok(0));
    // The first call after the end tells of it, the second of what is.
    ok!(connect(fd, LOCALHOST, port));
    err!(connect(fd, LOCALHOST, port), EISCONN);
    let (mut server, _) = ok!(listener.accept());
    err!(read(fd, &mut [0; 4]), EAGAIN);
    ok!(server.write_all(b"here"));
    eq!(events(fd, libc::POLLIN, 10_000), libc::POLLIN);
    eq!(ok!(read(fd, &mut [0; 9])), 4);
    ok!(listener.set_nonblocking(true));
    eq!(listener.accept().err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
}

fn unreachable_networks() {
    // No way leads there, or nobody answers: a documentation network is nobody's.
    let fd = socket(DGRAM);
    let result = call!(SYS_sendto, fd, [0u8; 4].as_ptr(), 4, 0, &address(Ipv4Addr::BROADCAST, 9), 16);
    err!(result, EACCES | ENETUNREACH);
    err!(call!(SYS_sendto, fd, [0u8; 4].as_ptr(), 4, 0, 0, 0), EDESTADDRREQ);
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

fn options() {
    let (listener, port) = listener();
    let client = ok!(TcpStream::connect((LOCALHOST, port)));
    let fd = client.as_raw_fd();
    for nodelay in [true, false] {
        ok!(client.set_nodelay(nodelay));
        eq!(ok!(client.nodelay()), nodelay);
    }
    ok!(client.set_ttl(7));
    eq!(ok!(client.ttl()), 7);
    err!(set_option(fd, libc::IPPROTO_IP, libc::IP_TTL, 256), EINVAL);
    let level = libc::SOL_SOCKET;
    for name in [libc::SO_REUSEADDR, libc::SO_KEEPALIVE, libc::SO_BROADCAST, libc::SO_REUSEPORT] {
        eq!(option(fd, level, name), Ok(0));
        ok!(set_option(fd, level, name, 5));
        eq!(option(fd, level, name), Ok(1));
    }
    for name in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        ok!(set_option(fd, level, name, 20_000));
        eq!(option(fd, level, name), Ok(40_000));
    }
    for (name, value) in [(libc::TCP_KEEPIDLE, 60), (libc::TCP_KEEPINTVL, 5), (libc::TCP_KEEPCNT, 3)] {
        ok!(set_option(fd, libc::IPPROTO_TCP, name, value));
        eq!(option(fd, libc::IPPROTO_TCP, name), Ok(value));
        err!(set_option(fd, libc::IPPROTO_TCP, name, 0), EINVAL);
    }
    eq!(option(fd, level, libc::SO_PROTOCOL), Ok(libc::IPPROTO_TCP));
    err!(option(fd, level, 9999), ENOPROTOOPT);
    err!(set_option(fd, libc::IPPROTO_TCP, 9999, 0), ENOPROTOOPT);
    err!(call!(SYS_setsockopt, fd, level, libc::SO_KEEPALIVE, 8, 4), EFAULT);
    // A server may have its port back at once.
    let (server, _) = ok!(listener.accept());
    drop(server);
    drop(client);
    drop(listener);
    drop(ok!(TcpListener::bind((LOCALHOST, port))));
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

fn datagrams() {
    let (a, b) = (ok!(UdpSocket::bind((LOCALHOST, 0))), ok!(UdpSocket::bind((LOCALHOST, 0))));
    let (at_a, at_b) = (ok!(a.local_addr()), ok!(b.local_addr()));
    let mut buffer = [0; 20];
    for message in [&b"one"[..], b"", b"three"] {
        eq!(ok!(a.send_to(message, at_b)), message.len());
    }
    eq!(events(b.as_raw_fd(), libc::POLLIN | libc::POLLOUT, 10_000), libc::POLLIN | libc::POLLOUT);
    let mut pending = 0i32;
    ok!(call!(SYS_ioctl, b.as_raw_fd(), libc::FIONREAD, &raw mut pending));
    eq!(pending, 3);
    eq!(ok!(b.peek_from(&mut buffer)), (3, at_a));
    eq!(ok!(b.recv_from(&mut buffer[..2])), (2, at_a));
    eq!(ok!(b.recv_from(&mut buffer)), (0, at_a));
    eq!(ok!(b.recv_from(&mut buffer)), (5, at_a));
    eq!(&buffer[..5], b"three");
    ok!(b.set_nonblocking(true));
    eq!(b.recv_from(&mut buffer).err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    // Whoever has no port gets one when it sends.
    let c = socket(DGRAM);
    ok!(call!(SYS_sendto, c, b"c".as_ptr(), 1, 0, &address(LOCALHOST, at_b.port()), 16));
    let own = ok!(name(c, libc::SYS_getsockname));
    eq!(*own.ip(), Ipv4Addr::UNSPECIFIED);
    eq!(ok!(b.recv_from(&mut buffer)), (1, (LOCALHOST, own.port()).into()));
}

fn connected_datagrams() {
    let (a, b, c) = (
        ok!(UdpSocket::bind((LOCALHOST, 0))),
        ok!(UdpSocket::bind((LOCALHOST, 0))),
        ok!(UdpSocket::bind((LOCALHOST, 0))),
    );
    ok!(a.connect(ok!(b.local_addr())));
    eq!(ok!(a.peer_addr()), ok!(b.local_addr()));
    let mut buffer = [0; 9];
    // Only the other end is heard.
    ok!(c.send_to(b"stranger", ok!(a.local_addr())));
    ok!(b.send_to(b"friend", ok!(a.local_addr())));
    eq!(ok!(a.recv(&mut buffer)), 6);
    ok!(a.send(b"back"));
    eq!(ok!(b.recv(&mut buffer)), 4);
    drop(b);
    ok!(a.send(b"anybody?"));
    eq!(a.recv(&mut buffer).err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    // The other end can be taken back.
    let mut none: libc::sockaddr_in = zeroed();
    ok!(call!(SYS_connect, a.as_raw_fd(), &raw mut none, 16));
    err!(name(a.as_raw_fd(), libc::SYS_getpeername), ENOTCONN);
    err!(call!(SYS_sendto, a.as_raw_fd(), b"x".as_ptr(), 1, 0, 0, 0), EDESTADDRREQ);
}

fn long_datagrams() {
    let (a, b) = (ok!(UdpSocket::bind((LOCALHOST, 0))), ok!(UdpSocket::bind((LOCALHOST, 0))));
    let at_b = ok!(b.local_addr());
    let mut buffer = vec![0; 70_000];
    for length in [1472, 1473, 8000, 65_507] {
        let data: Vec<u8> = (0..length).map(byte).collect();
        eq!(ok!(a.send_to(&data, at_b)), length);
        eq!(ok!(b.recv(&mut buffer)), length);
        check!(buffer[..length] == data[..]);
    }
    let result = a.send_to(&buffer[..65_508], at_b).err().and_then(|error| error.raw_os_error());
    eq!(result, Some(libc::EMSGSIZE));
}

fn datagrams_without_room() {
    let (a, b) = (ok!(UdpSocket::bind((LOCALHOST, 0))), ok!(UdpSocket::bind((LOCALHOST, 0))));
    ok!(set_option(b.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4096));
    let at_b = ok!(b.local_addr());
    for n in 0..1000u32 {
        ok!(a.send_to(&n.to_ne_bytes(), at_b));
    }
    ok!(b.set_nonblocking(true));
    let mut received = 0;
    let mut number = [0; 4];
    while b.recv(&mut number).is_ok() {
        eq!(u32::from_ne_bytes(number), received);
        received += 1;
    }
    check!(received > 0 && received < 1000, "{received} of 1000");
}

fn messages() {
    let (a, b) = (ok!(UdpSocket::bind((LOCALHOST, 0))), ok!(UdpSocket::bind((LOCALHOST, 0))));
    let to = address(LOCALHOST, ok!(b.local_addr()).port());
    let parts = [b"two ", b"part"].map(|part| libc::iovec { iov_base: part.as_ptr() as *mut _, iov_len: 4 });
    let mut message: libc::msghdr = zeroed();
    message.msg_name = (&raw const to) as *mut _;
    message.msg_namelen = 16;
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = 2;
    eq!(ok!(call!(SYS_sendmsg, a.as_raw_fd(), &raw const message, 0)), 8);
    let mut from: libc::sockaddr_in = zeroed();
    let mut buffer = [0u8; 5];
    let room = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 5 };
    let mut message: libc::msghdr = zeroed();
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = 16;
    message.msg_iov = (&raw const room).cast_mut();
    message.msg_iovlen = 1;
    eq!(ok!(call!(SYS_recvmsg, b.as_raw_fd(), &raw mut message, 0)), 5);
    eq!(&buffer, b"two p");
    eq!(message.msg_flags, libc::MSG_TRUNC);
    eq!(message.msg_namelen, 16);
    eq!(u16::from_be(from.sin_port), ok!(a.local_addr()).port());
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

fn echo_requests() {
    let fd = ok!(call!(SYS_socket, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)) as i32;
    let mut request = vec![8u8, 0, 0, 0, 0x12, 0x34, 0, 1];
    request.extend((0..56).map(byte));
    let sum = request.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = address(Ipv4Addr::new(127, 0, 0, 5), 0);
    eq!(ok!(call!(SYS_sendto, fd, request.as_ptr(), request.len(), 0, &to, 16)), request.len());
    let mut packet = [0u8; 200];
    // The request is heard too, for it is to this machine.
    loop {
        eq!(events(fd, libc::POLLIN, 10_000), libc::POLLIN);
        let count = ok!(read(fd, &mut packet));
        eq!(count, 20 + request.len());
        eq!(packet[0], 0x45);
        eq!(packet[9], 1);
        if packet[20] == 0 {
            break;
        }
    }
    eq!(&packet[12..16], &[127, 0, 0, 5]);
    eq!(&packet[24..20 + request.len()], &request[4..]);
}

fn interfaces_and_routes() {
    let fd = socket(DGRAM);
    let mut request: libc::ifreq = zeroed();
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    let mut ask = |number: u64| call!(SYS_ioctl, fd, number, &raw mut request).map(|_| request);
    let flags = ok!(ask(libc::SIOCGIFFLAGS));
    // SAFETY: the union holds what the request filled in.
    let flags = unsafe { i32::from(flags.ifr_ifru.ifru_flags) };
    eq!(flags & (libc::IFF_UP | libc::IFF_LOOPBACK), libc::IFF_UP | libc::IFF_LOOPBACK);
    let bytes_of = |value: libc::ifreq| {
        // SAFETY: as above.
        let address = unsafe { value.ifr_ifru.ifru_addr };
        address.sa_data[2..6].iter().map(|byte| *byte as u8).collect::<Vec<_>>()
    };
    eq!(bytes_of(ok!(ask(libc::SIOCGIFADDR))), [127, 0, 0, 1]);
    eq!(bytes_of(ok!(ask(libc::SIOCGIFNETMASK))), [255, 0, 0, 0]);
    check!(ask(libc::SIOCGIFINDEX).is_ok() && ask(libc::SIOCGIFMTU).is_ok());
    request.ifr_name[0] = b'x' as libc::c_char;
    err!(call!(SYS_ioctl, fd, libc::SIOCGIFFLAGS, &raw mut request), ENODEV);
    // SAFETY: a plain structure.
    let mut all: [libc::ifreq; 8] = unsafe { std::mem::zeroed() };
    #[repr(C)]
    struct List {
        length: i32,
        buffer: *mut libc::ifreq,
    }
    let mut list = List { length: size_of_val(&all) as i32, buffer: all.as_mut_ptr() };
    ok!(call!(SYS_ioctl, fd, libc::SIOCGIFCONF, &raw mut list));
    let count = list.length as usize / size_of::<libc::ifreq>();
    check!(
        all[..count].iter().any(|entry| entry.ifr_name[..3] == [b'l', b'o', 0].map(|b| b as libc::c_char))
    );
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
