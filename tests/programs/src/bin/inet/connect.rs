//! Opening sockets: kinds, names, and connections that come about or do not.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, RawFd};

use guest_programs::sys::{close, read, zeroed};
use guest_programs::{Case, call, cases, check, eq, err, ok};

use super::socket::{
    DGRAM, LOCALHOST, NONBLOCK, STREAM, address, bind, connect, events, free_port, listener, name, option,
    socket,
};

pub const CASES: &[Case] = cases![
    kinds_of_socket,
    names_of_both_ends,
    bind_errors,
    connection_refused,
    connection_refused_without_waiting,
    connecting_without_waiting,
    an_answer_is_kept_without_asking_for_the_connection,
    connections_are_taken_back,
    unreachable_networks,
];

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
    // It is not over for those who have not been told so by a second call.
    err!(call!(SYS_listen, fd, 5), EINVAL);
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

fn an_answer_is_kept_without_asking_for_the_connection() {
    let (listener, port) = listener();
    let fd = socket(STREAM | NONBLOCK);
    err!(connect(fd, LOCALHOST, port), EINPROGRESS);
    let (mut server, _) = ok!(listener.accept());
    ok!(server.write_all(b"answer"));
    drop(server);
    eq!(events(fd, libc::POLLRDHUP, 10_000), libc::POLLRDHUP);
    ok!(call!(SYS_shutdown, fd, libc::SHUT_WR));
    // Both directions are over.
    eq!(events(fd, libc::POLLHUP, 10_000), libc::POLLHUP);
    let mut buffer = [0; 9];
    eq!(ok!(read(fd, &mut buffer)), 6);
    eq!(&buffer[..6], b"answer");
    eq!(ok!(read(fd, &mut buffer)), 0);
}

/// Takes a connection or an address back.
pub fn disconnect(fd: i32) {
    let none: libc::sockaddr_in = zeroed();
    ok!(call!(SYS_connect, fd, &none, 16));
}

fn connections_are_taken_back() {
    let (listener, port) = listener();
    for kind in [STREAM, DGRAM] {
        let fd = socket(kind);
        ok!(connect(fd, LOCALHOST, port));
        eq!(ok!(name(fd, libc::SYS_getsockname)).ip(), &LOCALHOST);
        disconnect(fd);
        // Linux tells of the port of a connection still, which is anybody's again.
        let own = ok!(name(fd, libc::SYS_getsockname));
        eq!(own.ip(), &Ipv4Addr::UNSPECIFIED);
        check!(kind == STREAM || own.port() == 0);
        err!(name(fd, libc::SYS_getpeername), ENOTCONN);
        let fixed = free_port();
        ok!(bind(fd, Ipv4Addr::UNSPECIFIED, fixed));
        ok!(connect(fd, LOCALHOST, port));
        disconnect(fd);
        eq!(name(fd, libc::SYS_getsockname), Ok(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, fixed)));
    }
    drop(listener);
}

fn unreachable_networks() {
    // No way leads there, or nobody answers: a documentation network is nobody's.
    let fd = socket(DGRAM);
    let result = call!(SYS_sendto, fd, [0u8; 4].as_ptr(), 4, 0, &address(Ipv4Addr::BROADCAST, 9), 16);
    err!(result, EACCES | ENETUNREACH);
    err!(call!(SYS_sendto, fd, [0u8; 4].as_ptr(), 4, 0, 0, 0), EDESTADDRREQ);
}
