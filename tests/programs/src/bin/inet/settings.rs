//! Options of sockets, and what `ifconfig` and `route` ask.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use guest_programs::sys::zeroed;
use guest_programs::{Case, call, cases, check, eq, err, ok};

use super::socket::{DGRAM, LOCALHOST, listener, option, set_option, socket};

pub const CASES: &[Case] = cases![options, options_go_to_those_accepted, interfaces_and_routes,];

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

fn options_go_to_those_accepted() {
    let (listener, port) = listener();
    let (fd, level) = (listener.as_raw_fd(), libc::SOL_SOCKET);
    let ordinary = [libc::SO_KEEPALIVE, libc::SO_BROADCAST, libc::SO_OOBINLINE, libc::SO_REUSEADDR];
    for name in ordinary {
        ok!(set_option(fd, level, name, 1));
    }
    ok!(set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77));
    for (name, seconds) in [(libc::SO_RCVTIMEO, 7), (libc::SO_SNDTIMEO, 8)] {
        let limit = libc::timeval { tv_sec: seconds, tv_usec: 0 };
        ok!(call!(SYS_setsockopt, fd, level, name, &limit, 16));
    }
    let _client = ok!(TcpStream::connect((LOCALHOST, port)));
    let (server, _) = ok!(listener.accept());
    let fd = server.as_raw_fd();
    for name in ordinary {
        eq!(option(fd, level, name), Ok(1));
    }
    eq!(option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), Ok(77));
    eq!(ok!(server.read_timeout()).map(|limit| limit.as_secs()), Some(7));
    eq!(ok!(server.write_timeout()).map(|limit| limit.as_secs()), Some(8));
    // Those of a listener are its own.
    ok!(set_option(fd, level, libc::SO_KEEPALIVE, 0));
    eq!(option(fd, level, libc::SO_KEEPALIVE), Ok(0));
    eq!(option(listener.as_raw_fd(), level, libc::SO_KEEPALIVE), Ok(1));
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
