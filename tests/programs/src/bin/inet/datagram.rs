//! UDP and ICMP.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use guest_programs::sys::{read, zeroed};
use guest_programs::{Case, call, cases, check, eq, err, ok};

use super::socket::{DGRAM, LOCALHOST, address, byte, events, name, set_option, socket};

pub const CASES: &[Case] =
    cases![datagrams, connected_datagrams, long_datagrams, datagrams_without_room, messages, echo_requests,];

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
    // An address of no length is none.
    message.msg_name = 8 as *mut _;
    message.msg_namelen = 0;
    err!(call!(SYS_sendmsg, a.as_raw_fd(), &raw const message, 0), EDESTADDRREQ);
    ok!(a.connect((LOCALHOST, u16::from_be(to.sin_port))));
    eq!(ok!(call!(SYS_sendmsg, a.as_raw_fd(), &raw const message, 0)), 5);
    eq!(ok!(read(b.as_raw_fd(), &mut [0; 9])), 5);
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
