//! Sockets of AF_INET, by system calls.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use guest_programs::sys::zeroed;
use guest_programs::{Sys, call, ok};

pub const STREAM: i32 = libc::SOCK_STREAM;
pub const DGRAM: i32 = libc::SOCK_DGRAM;
pub const NONBLOCK: i32 = libc::SOCK_NONBLOCK;
pub const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub fn socket(kind: i32) -> i32 {
    ok!(call!(SYS_socket, libc::AF_INET, kind, 0)) as i32
}

pub fn address(host: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    let mut a: libc::sockaddr_in = zeroed();
    a.sin_family = libc::AF_INET as u16;
    a.sin_port = port.to_be();
    a.sin_addr.s_addr = u32::from(host).to_be();
    a
}

pub fn bind(fd: i32, host: Ipv4Addr, port: u16) -> Sys {
    call!(SYS_bind, fd, &address(host, port), 16)
}

pub fn connect(fd: i32, host: Ipv4Addr, port: u16) -> Sys {
    call!(SYS_connect, fd, &address(host, port), 16)
}

pub fn name(fd: i32, nr: i64) -> Sys<SocketAddrV4> {
    let mut a: libc::sockaddr_in = zeroed();
    let mut n = 16u32;
    guest_programs::sys::syscall(nr, &[fd as usize, &raw mut a as usize, &raw mut n as usize])?;
    Ok(SocketAddrV4::new(u32::from_be(a.sin_addr.s_addr).into(), u16::from_be(a.sin_port)))
}

pub fn option(fd: i32, level: i32, option: i32) -> Sys<i32> {
    let mut value = 0i32;
    let mut n = 4u32;
    call!(SYS_getsockopt, fd, level, option, &raw mut value, &raw mut n)?;
    Ok(value)
}

pub fn set_option(fd: i32, level: i32, option: i32, value: i32) -> Sys {
    call!(SYS_setsockopt, fd, level, option, &value, 4)
}

pub fn events(fd: i32, wanted: i16, wait: i32) -> i16 {
    let mut poll = libc::pollfd { fd, events: wanted, revents: 0 };
    ok!(call!(SYS_poll, &raw mut poll, 1, wait));
    poll.revents
}

/// A listener, and its port.
pub fn listener() -> (TcpListener, u16) {
    let listener = ok!(TcpListener::bind((LOCALHOST, 0)));
    let port = ok!(listener.local_addr()).port();
    (listener, port)
}

/// A connection: whoever connected, and whoever accepted.
pub fn pair() -> (TcpStream, TcpStream) {
    let (listener, port) = listener();
    let client = ok!(TcpStream::connect((LOCALHOST, port)));
    let (server, _) = ok!(listener.accept());
    (client, server)
}

pub fn byte(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// A port nobody listens on: its owner has just closed it.
pub fn free_port() -> u16 {
    listener().1
}
