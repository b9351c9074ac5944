//! Sockets of AF_UNIX: streams, datagrams, names, descriptors passed along.

mod accept;

use guest_programs::process::{End, child, wait};
use guest_programs::sync::until;
use guest_programs::sys::{close, pipe, read, read_all, write, zeroed};
use guest_programs::{Case, Sys, call, cases, check, eq, err, fs, mem, ok, run, signal};

const CASES: &[Case] = cases![
    pair_of_streams,
    pair_of_datagrams,
    pair_of_packets,
    stream_shutdown,
    stream_end_and_broken,
    bind_and_connect,
    bind_errors,
    connect_errors,
    abstract_names,
    datagrams_by_name,
    descriptors_are_passed,
    credentials_are_passed,
    message_truncation,
    peek_and_wait_all,
    options,
    peer_names,
    poll_on_sockets,
    nonblocking_streams,
    many_bytes_through: 60,
    server_of_many_clients: 60,
    socket_errors,
];

fn main() {
    run(&[CASES, accept::CASES], &[])
}

const STREAM: i32 = libc::SOCK_STREAM;
const DGRAM: i32 = libc::SOCK_DGRAM;

fn pair(kind: i32) -> (i32, i32) {
    let mut fds = [0i32; 2];
    ok!(call!(SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr()));
    (fds[0], fds[1])
}

fn socket(kind: i32) -> i32 {
    ok!(call!(SYS_socket, libc::AF_UNIX, kind, 0)) as i32
}

/// Address and its length for a path (or an abstract name, if it begins with NUL).
fn address(path: &[u8]) -> (libc::sockaddr_un, usize) {
    let mut a: libc::sockaddr_un = zeroed();
    a.sun_family = libc::AF_UNIX as u16;
    path.iter().zip(&mut a.sun_path).for_each(|(b, to)| *to = *b as i8);
    (a, 2 + path.len() + usize::from(path.first() != Some(&0)))
}

fn bind(fd: i32, path: &[u8]) -> Sys {
    let (a, n) = address(path);
    call!(SYS_bind, fd, &a, n)
}

fn connect(fd: i32, path: &[u8]) -> Sys {
    let (a, n) = address(path);
    call!(SYS_connect, fd, &a, n)
}

fn send(fd: i32, data: &[u8], flags: i32) -> Sys {
    call!(SYS_sendto, fd, data.as_ptr(), data.len(), flags, 0, 0)
}

fn receive(fd: i32, buf: &mut [u8], flags: i32) -> Sys {
    call!(SYS_recvfrom, fd, buf.as_mut_ptr(), buf.len(), flags, 0, 0)
}

fn pair_of_streams() {
    let (a, b) = pair(STREAM);
    eq!((write(a, b"one"), write(a, b"two"), write(b, b"back")), (Ok(3), Ok(3), Ok(4)));
    let mut buf = [0; 10];
    eq!((read(b, &mut buf), &buf[..6]), (Ok(6), &b"onetwo"[..]));
    eq!((read(a, &mut buf), &buf[..4]), (Ok(4), &b"back"[..]));
    let (c, _d) = pair(STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    eq!(call!(SYS_fcntl, c, libc::F_GETFD), Ok(1));
    err!(read(c, &mut buf), EAGAIN);
    eq!(ok!(fs::fstat(a)).st_mode & libc::S_IFMT, libc::S_IFSOCK);
    err!(call!(SYS_lseek, a, 0, 0), ESPIPE);
}

fn pair_of_datagrams() {
    let (a, b) = pair(DGRAM);
    eq!((write(a, b"first"), write(a, b""), write(a, b"third")), (Ok(5), Ok(0), Ok(5)));
    let mut buf = [0; 3];
    // Each is one read; what does not fit is lost.
    eq!((read(b, &mut buf), &buf), (Ok(3), b"fir"));
    eq!(read(b, &mut buf), Ok(0));
    eq!(read(b, &mut buf), Ok(3));
    ok!(close(b));
    signal::dispose(libc::SIGPIPE, libc::SIG_IGN);
    err!(write(a, b"x"), ECONNREFUSED | EPIPE | ENOTCONN);
}

fn pair_of_packets() {
    let (a, b) = pair(libc::SOCK_SEQPACKET);
    eq!((write(a, b"one"), write(a, b"two")), (Ok(3), Ok(3)));
    let mut buf = [0; 10];
    eq!((read(b, &mut buf), read(b, &mut buf)), (Ok(3), Ok(3)));
    ok!(close(a));
    eq!(read(b, &mut buf), Ok(0));
}

fn stream_shutdown() {
    let (a, b) = pair(STREAM);
    signal::dispose(libc::SIGPIPE, libc::SIG_IGN);
    eq!(write(a, b"x"), Ok(1));
    ok!(call!(SYS_shutdown, a, libc::SHUT_WR));
    err!(write(a, b"y"), EPIPE);
    eq!(read_all(b), Ok(b"x".to_vec()));
    eq!(write(b, b"still"), Ok(5));
    eq!(read(a, &mut [0; 10]), Ok(5));
    ok!(call!(SYS_shutdown, a, libc::SHUT_RD));
    eq!(read(a, &mut [0; 10]), Ok(0));
    err!(call!(SYS_shutdown, a, 9), EINVAL);
}

fn stream_end_and_broken() {
    let (a, b) = pair(STREAM);
    eq!(write(a, b"rest"), Ok(4));
    ok!(close(a));
    eq!(read_all(b), Ok(b"rest".to_vec()));
    signal::handle(libc::SIGPIPE, 0, signal::count);
    err!(write(b, b"x"), EPIPE);
    eq!(signal::counted(), 1);
    err!(send(b, b"x", libc::MSG_NOSIGNAL), EPIPE);
    eq!(signal::counted(), 1);
    // Unread data makes the other's next read an error.
    let (a, b) = pair(STREAM);
    eq!(write(a, b"unread"), Ok(6));
    ok!(close(b));
    err!(read(a, &mut [0; 4]), ECONNRESET);
}

fn bind_and_connect() {
    fs::scratch();
    let server = socket(STREAM);
    ok!(bind(server, b"sock"));
    eq!(ok!(fs::stat(c"sock")).st_mode & libc::S_IFMT, libc::S_IFSOCK);
    ok!(call!(SYS_listen, server, 5));
    let client = socket(STREAM);
    // Queued until accepted; data may be sent already.
    ok!(connect(client, b"sock"));
    eq!(write(client, b"early"), Ok(5));
    let accepted = ok!(call!(SYS_accept, server, 0, 0)) as i32;
    let mut buf = [0; 10];
    eq!(read(accepted, &mut buf), Ok(5));
    eq!(write(accepted, b"hello"), Ok(5));
    eq!(read(client, &mut buf), Ok(5));
    // The name goes by unlink; who is connected stays so.
    ok!(call!(SYS_unlink, c"sock"));
    eq!(write(client, b"x"), Ok(1));
    err!(connect(socket(STREAM), b"sock"), ENOENT);
    err!(guest_programs::sys::open(c"sock", libc::O_RDWR, 0), ENOENT);
}

fn bind_errors() {
    fs::scratch();
    let s = socket(STREAM);
    fs::put(c"file", b"", 0o644);
    err!(bind(s, b"file"), EADDRINUSE);
    err!(bind(s, b"missing/sock"), ENOENT);
    err!(bind(s, b"file/sock"), ENOTDIR);
    ok!(bind(s, b"sock"));
    err!(bind(s, b"other"), EINVAL);
    err!(bind(socket(STREAM), b"sock"), EADDRINUSE);
    let (mut a, _) = address(b"x");
    a.sun_family = 99;
    err!(call!(SYS_bind, socket(STREAM), &a, 4), EINVAL | EAFNOSUPPORT);
    err!(call!(SYS_bind, socket(STREAM), &a, 1000), EINVAL);
    err!(call!(SYS_bind, socket(STREAM), mem::KERNEL, 20), EFAULT);
    err!(call!(SYS_bind, 999, &a, 4), EBADF);
    err!(call!(SYS_bind, ok!(pipe(0)).0, &a, 4), ENOTSOCK);
    err!(guest_programs::sys::open(c"sock", libc::O_RDWR, 0), ENXIO);
}

fn connect_errors() {
    fs::scratch();
    let s = socket(STREAM);
    err!(connect(s, b"missing"), ENOENT);
    fs::put(c"file", b"", 0o644);
    err!(connect(s, b"file"), ECONNREFUSED);
    let server = socket(STREAM);
    ok!(bind(server, b"sock"));
    err!(connect(s, b"sock"), ECONNREFUSED);
    ok!(call!(SYS_listen, server, 1));
    err!(connect(socket(DGRAM), b"sock"), EPROTOTYPE);
    ok!(connect(s, b"sock"));
    err!(connect(s, b"sock"), EISCONN);
    ok!(close(server));
    err!(connect(socket(STREAM), b"sock"), ECONNREFUSED);
    err!(write(socket(STREAM), b"x"), ENOTCONN | EPIPE);
    err!(read(socket(STREAM), &mut [0]), EINVAL | ENOTCONN);
}

fn abstract_names() {
    let server = socket(STREAM);
    let name = format!("\0guest-programs-{}", guest_programs::sys::getpid());
    ok!(bind(server, name.as_bytes()));
    ok!(call!(SYS_listen, server, 1));
    err!(bind(socket(STREAM), name.as_bytes()), EADDRINUSE);
    let client = socket(STREAM);
    ok!(connect(client, name.as_bytes()));
    ok!(call!(SYS_accept, server, 0, 0));
    ok!(close(server));
    // It goes with its socket.
    err!(connect(socket(STREAM), name.as_bytes()), ECONNREFUSED);
    ok!(bind(socket(STREAM), name.as_bytes()));
}

fn datagrams_by_name() {
    fs::scratch();
    let (a, b) = (socket(DGRAM), socket(DGRAM));
    ok!(bind(a, b"a"));
    ok!(bind(b, b"b"));
    let (to, n) = address(b"b");
    eq!(call!(SYS_sendto, a, b"hi".as_ptr(), 2, 0, &to, n), Ok(2));
    let mut from: libc::sockaddr_un = zeroed();
    let mut length = size_of_val(&from) as u32;
    let mut buf = [0u8; 10];
    eq!(call!(SYS_recvfrom, b, buf.as_mut_ptr(), 10, 0, &mut from, &mut length), Ok(2));
    eq!((length, from.sun_path[0] as u8), (4, b'a'));
    ok!(connect(b, b"a"));
    eq!(write(b, b"reply"), Ok(5));
    eq!(read(a, &mut buf), Ok(5));
    err!(write(a, b"nowhere"), ENOTCONN);
    let (to, n) = address(b"missing");
    err!(call!(SYS_sendto, a, b"x".as_ptr(), 1, 0, &to, n), ENOENT);
}

/// Sends one byte with a control message of `kind` holding `data`.
fn send_control(fd: i32, kind: i32, data: &[u8]) -> Sys {
    let mut control = vec![0u8; 16 + data.len().next_multiple_of(8)];
    control[..8].copy_from_slice(&(16 + data.len()).to_ne_bytes());
    control[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    control[12..16].copy_from_slice(&kind.to_ne_bytes());
    control[16..16 + data.len()].copy_from_slice(data);
    let part = [b"m".as_ptr() as usize, 1];
    let message = [0usize, 0, part.as_ptr() as usize, 1, control.as_ptr() as usize, control.len(), 0];
    call!(SYS_sendmsg, fd, message.as_ptr(), 0)
}

/// Receives a byte with control data: (flags, control bytes).
fn receive_control(fd: i32, room: usize) -> (i32, Vec<u8>) {
    let mut control = vec![0u64; room / 8];
    let mut byte = 0u8;
    let part = [&mut byte as *mut u8 as usize, 1];
    let mut message = [0usize, 0, part.as_ptr() as usize, 1, control.as_mut_ptr() as usize, room, 0];
    eq!(call!(SYS_recvmsg, fd, message.as_mut_ptr(), 0), Ok(1));
    let used = message[5];
    (message[6] as i32, control.iter().flat_map(|w| w.to_ne_bytes()).take(used).collect())
}

fn descriptors_are_passed() {
    let (a, b) = pair(STREAM);
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| {
        ok!(close(inn));
        let (flags, control) = receive_control(b, 64);
        eq!((flags, control.len()), (0, 24));
        eq!(i32::from_ne_bytes(control[12..16].try_into().unwrap_or_default()), libc::SCM_RIGHTS);
        let fd = |at: usize| i32::from_ne_bytes(control[at..at + 4].try_into().unwrap_or_default());
        eq!(write(fd(16), b"through"), Ok(7));
        check!(fd(20) != fd(16));
    });
    let mut fds = inn.to_ne_bytes().to_vec();
    fds.extend(out.to_ne_bytes());
    eq!(send_control(a, libc::SCM_RIGHTS, &fds), Ok(1));
    ok!(close(inn));
    eq!(wait(pid), End::Exit(0));
    eq!(read_all(out), Ok(b"through".to_vec()));
    err!(send_control(a, libc::SCM_RIGHTS, &999i32.to_ne_bytes()), EBADF);
    // In flight when the socket goes away: closed.
    let (a, b) = pair(STREAM);
    let (out, inn) = ok!(pipe(0));
    eq!(send_control(a, libc::SCM_RIGHTS, &inn.to_ne_bytes()), Ok(1));
    ok!(close(inn));
    ok!(close(a));
    ok!(close(b));
    eq!(read(out, &mut [0]), Ok(0));
}

fn credentials_are_passed() {
    let (a, b) = pair(STREAM);
    let on = 1i32;
    ok!(call!(SYS_setsockopt, b, libc::SOL_SOCKET, libc::SO_PASSCRED, &on, 4));
    eq!(write(a, b"x"), Ok(1));
    let (_, control) = receive_control(b, 64);
    check!(control.len() >= 28);
    eq!(i32::from_ne_bytes(control[16..20].try_into().unwrap_or_default()), guest_programs::sys::getpid());
    let (mut peer, mut length) = ([9i32; 3], 12u32);
    ok!(call!(SYS_getsockopt, a, libc::SOL_SOCKET, libc::SO_PEERCRED, peer.as_mut_ptr(), &mut length));
    eq!(peer, [guest_programs::sys::getpid(), 0, 0]);
}

fn message_truncation() {
    let (a, b) = pair(DGRAM);
    eq!(write(a, b"12345"), Ok(5));
    let mut buf = [0u8; 2];
    eq!(receive(b, &mut buf, libc::MSG_TRUNC), Ok(5));
    // Control data that does not fit is told, its descriptors are closed.
    let (a, b) = pair(STREAM);
    eq!(send_control(a, libc::SCM_RIGHTS, &1i32.to_ne_bytes()), Ok(1));
    let (flags, control) = receive_control(b, 8);
    check!(flags & libc::MSG_CTRUNC != 0 && control.len() <= 8);
    // Several messages at once.
    let (a, b) = pair(DGRAM);
    (0..3).for_each(|_| eq!(write(a, b"m"), Ok(1)));
    let mut byte = [0u8; 4];
    let part = [byte.as_mut_ptr() as usize, 4];
    let mut headers = [[0usize; 8]; 4];
    headers.iter_mut().for_each(|h| (h[2], h[3]) = (part.as_ptr() as usize, 1));
    eq!(call!(SYS_recvmmsg, b, headers.as_mut_ptr(), 4, libc::MSG_DONTWAIT, 0), Ok(3));
}

fn peek_and_wait_all() {
    let (a, b) = pair(STREAM);
    eq!(write(a, b"abc"), Ok(3));
    let mut buf = [0; 6];
    for _ in 0..2 {
        eq!((receive(b, &mut buf, libc::MSG_PEEK), &buf[..3]), (Ok(3), &b"abc"[..]));
    }
    let pid = child(|| eq!(write(a, b"def"), Ok(3)));
    eq!((receive(b, &mut buf, libc::MSG_WAITALL), &buf), (Ok(6), b"abcdef"));
    eq!(wait(pid), End::Exit(0));
    err!(receive(b, &mut buf, libc::MSG_DONTWAIT), EAGAIN);
}

fn options() {
    let s = socket(STREAM);
    let get = |option: i32| {
        let (mut value, mut length) = (-1i32, 4u32);
        ok!(call!(SYS_getsockopt, s, libc::SOL_SOCKET, option, &mut value, &mut length));
        value
    };
    eq!((get(libc::SO_TYPE), get(libc::SO_DOMAIN), get(libc::SO_ERROR)), (STREAM, libc::AF_UNIX, 0));
    eq!(get(libc::SO_ACCEPTCONN), 0);
    check!(get(libc::SO_SNDBUF) > 0);
    let mut length = 4u32;
    err!(call!(SYS_getsockopt, s, libc::SOL_SOCKET, 9999, &mut 0i32, &mut length), ENOPROTOOPT);
    err!(call!(SYS_getsockopt, s, libc::SOL_SOCKET, libc::SO_TYPE, mem::KERNEL, &mut length), EFAULT);
    // A time limit on receiving.
    let (a, _b) = pair(STREAM);
    ok!(call!(SYS_setsockopt, a, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &[0i64, 30_000], 16));
    let took = guest_programs::time::elapsed(|| err!(read(a, &mut [0]), EAGAIN));
    guest_programs::time::check_sleep(30 * guest_programs::time::MILLI, took);
}

fn peer_names() {
    fs::scratch();
    let server = socket(STREAM);
    ok!(bind(server, b"sock"));
    ok!(call!(SYS_listen, server, 1));
    let client = socket(STREAM);
    ok!(connect(client, b"sock"));
    let (mut a, mut n): (libc::sockaddr_un, u32) = (zeroed(), 110);
    ok!(call!(SYS_getpeername, client, &mut a, &mut n));
    eq!((n, a.sun_family, a.sun_path[0] as u8), (7, 1, b's'));
    n = 110;
    ok!(call!(SYS_getsockname, client, &mut a, &mut n));
    eq!(n, 2);
    // A short buffer gets what fits, and is told the whole length.
    n = 4;
    ok!(call!(SYS_getpeername, client, &mut a, &mut n));
    eq!(n, 7);
    err!(call!(SYS_getpeername, socket(STREAM), &mut a, &mut n), ENOTCONN);
    err!(call!(SYS_getsockname, client, mem::KERNEL, &mut n), EFAULT);
}

fn poll_on_sockets() {
    fs::scratch();
    let poll = |fd: i32| {
        let mut fd = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP, revents: 0 };
        ok!(call!(SYS_poll, &mut fd, 1, 0));
        fd.revents
    };
    let (a, b) = pair(STREAM);
    eq!(poll(a), libc::POLLOUT);
    eq!(write(b, b"x"), Ok(1));
    eq!(poll(a), libc::POLLIN | libc::POLLOUT);
    ok!(call!(SYS_shutdown, b, libc::SHUT_WR));
    check!(poll(a) & libc::POLLRDHUP != 0);
    ok!(close(b));
    check!(poll(a) & (libc::POLLHUP | libc::POLLIN) == libc::POLLHUP | libc::POLLIN);
    let server = socket(STREAM);
    ok!(bind(server, b"sock"));
    ok!(call!(SYS_listen, server, 1));
    eq!(poll(server), 0);
    ok!(connect(socket(STREAM), b"sock"));
    eq!(poll(server) & libc::POLLIN, libc::POLLIN);
}

fn nonblocking_streams() {
    let (a, b) = pair(STREAM | libc::SOCK_NONBLOCK);
    let mut total = 0;
    while let Ok(n) = write(a, &[1; 1000]) {
        total += n;
    }
    check!(total >= 10_000);
    let mut got = 0;
    let mut buf = [0; 4096];
    while let Ok(n) = read(b, &mut buf) {
        got += n;
    }
    eq!(got, total);
    eq!(write(a, b"again"), Ok(5));
}

fn many_bytes_through() {
    let (a, b) = pair(STREAM);
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 11) as u8;
    const TOTAL: usize = 1_000_000;
    let pid = child(|| {
        ok!(close(b));
        let data: Vec<u8> = (0..TOTAL).map(byte).collect();
        data.chunks(7777).for_each(|c| ok!(guest_programs::sys::write_all(a, c)));
    });
    ok!(close(a));
    let all = ok!(read_all(b));
    check!(all.len() == TOTAL && all.iter().enumerate().all(|(i, v)| *v == byte(i)));
    eq!(wait(pid), End::Exit(0));
}

fn server_of_many_clients() {
    fs::scratch();
    let server = socket(STREAM);
    ok!(bind(server, b"sock"));
    ok!(call!(SYS_listen, server, 10));
    let clients: Vec<i32> = (0..10u8)
        .map(|n| {
            child(|| {
                for i in 0..20u8 {
                    let c = socket(STREAM);
                    until(|| connect(c, b"sock").is_ok());
                    eq!(write(c, &[n, i]), Ok(2));
                    let mut reply = [0; 2];
                    eq!((read(c, &mut reply), reply), (Ok(2), [i, n]));
                    ok!(close(c));
                }
            })
        })
        .collect();
    for _ in 0..200 {
        let c = ok!(call!(SYS_accept, server, 0, 0)) as i32;
        let mut request = [0; 2];
        eq!(read(c, &mut request), Ok(2));
        request.reverse();
        eq!(write(c, &request), Ok(2));
        ok!(close(c));
    }
    clients.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn socket_errors() {
    err!(call!(SYS_socket, 77, STREAM, 0), EAFNOSUPPORT);
    err!(call!(SYS_socket, libc::AF_UNIX, 77, 0), EINVAL | ESOCKTNOSUPPORT | EPROTONOSUPPORT);
    err!(call!(SYS_socket, libc::AF_UNIX, STREAM, 77), EPROTONOSUPPORT);
    err!(call!(SYS_socketpair, libc::AF_UNIX, STREAM, 0, mem::KERNEL), EFAULT);
    let (out, _) = ok!(pipe(0));
    err!(call!(SYS_listen, out, 1), ENOTSOCK);
    err!(call!(SYS_accept, out, 0, 0), ENOTSOCK);
    err!(send(out, b"x", 0), ENOTSOCK);
    err!(call!(SYS_listen, 999, 1), EBADF);
    err!(call!(SYS_listen, socket(DGRAM), 1), EOPNOTSUPP);
    err!(call!(SYS_accept, socket(STREAM), 0, 0), EINVAL);
}
