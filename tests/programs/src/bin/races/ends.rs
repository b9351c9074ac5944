//! What was sent before the end is there before the end is.

use guest_programs::sys::{close, open, pipe, read, write, yield_now};
use guest_programs::time::rounds;
use guest_programs::{Case, Errno, call, cases, check, eq, err, fs, ok};
use std::thread::spawn;

pub const CASES: &[Case] = cases![
    pipe_hangs_up_after_its_last_bytes,
    stream_breaks_after_its_last_bytes,
    terminal_ends_after_its_last_bytes,
    terminal_hangs_up_after_its_last_bytes,
    terminal_opened_while_it_hangs_up,
    terminal_is_there_once_it_is_made,
];

/// Most rounds of a case.
const MOST: u32 = 3000;

/// Events of a descriptor, now.
fn poll(fd: i32) -> i16 {
    let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    ok!(call!(SYS_poll, &mut fd, 1, 0));
    fd.revents
}

/// Polls `fd` until there is something: a byte, before its end.
fn hang_up_comes_last(fd: i32) {
    loop {
        let events = poll(fd);
        if events & libc::POLLIN != 0 {
            eq!(read(fd, &mut [0; 8]), Ok(1));
            return;
        }
        eq!(events, 0);
        yield_now();
    }
}

fn pipe_hangs_up_after_its_last_bytes() {
    for _ in rounds(MOST) {
        let (out, inn) = ok!(pipe(0));
        let writer = spawn(move || {
            eq!(write(inn, b"x"), Ok(1));
            ok!(close(inn));
        });
        hang_up_comes_last(out);
        ok!(close(out));
        ok!(writer.join().map_err(|_| ()));
    }
}

/// A stream whose other end is closed with something unread there breaks, but what that end has sent can be read first.
fn stream_breaks_after_its_last_bytes() {
    for _ in rounds(MOST) {
        let mut fds = [0i32; 2];
        ok!(call!(
            SYS_socketpair,
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK,
            0,
            fds.as_mut_ptr()
        ));
        let [own, other] = fds;
        eq!(write(own, b"unread"), Ok(6));
        let writer = spawn(move || {
            eq!(write(other, b"x"), Ok(1));
            ok!(close(other));
        });
        loop {
            match read(own, &mut [0; 8]) {
                Err(Errno(libc::EAGAIN)) => yield_now(),
                result => {
                    eq!(result, Ok(1));
                    break;
                }
            }
        }
        ok!(writer.join().map_err(|_| ()));
        err!(read(own, &mut [0; 8]), ECONNRESET);
        ok!(close(own));
    }
}

/// A master that does not wait, and the path of its slave.
fn master() -> (i32, std::ffi::CString) {
    let path = if fs::stat(c"/dev/ptmx").is_ok() { c"/dev/ptmx" } else { c"/dev/pts/ptmx" };
    let master = ok!(open(path, libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK, 0));
    let unlocked = 0i32;
    ok!(call!(SYS_ioctl, master, libc::TIOCSPTLCK, &unlocked));
    let mut number = -1i32;
    ok!(call!(SYS_ioctl, master, libc::TIOCGPTN, &mut number));
    (master, fs::cstr(&format!("/dev/pts/{number}")))
}

/// Writes to a terminal and closes it, in another thread; and that `end` sees the bytes before it sees the end.
fn last_bytes_of_a_terminal(end: fn(i32)) {
    fs::need_dev();
    for _ in rounds(MOST) {
        let (master, path) = master();
        let slave = ok!(open(&path, libc::O_RDWR | libc::O_NOCTTY, 0));
        let writer = spawn(move || {
            eq!(write(slave, b"x"), Ok(1));
            ok!(close(slave));
        });
        end(master);
        ok!(writer.join().map_err(|_| ()));
        ok!(close(master));
    }
}

fn terminal_ends_after_its_last_bytes() {
    last_bytes_of_a_terminal(|master| {
        loop {
            match read(master, &mut [0; 8]) {
                Err(Errno(libc::EAGAIN)) => yield_now(),
                result => return eq!(result, Ok(1)),
            }
        }
    });
}

fn terminal_hangs_up_after_its_last_bytes() {
    last_bytes_of_a_terminal(hang_up_comes_last);
}

/// Whoever still opens a terminal whose master is being closed has one that has hung up.
fn terminal_opened_while_it_hangs_up() {
    fs::need_dev();
    let mut opened = 0;
    for _ in rounds(MOST) {
        let (master, path) = master();
        let opener = spawn(move || {
            let slave = open(&path, libc::O_RDWR | libc::O_NOCTTY, 0);
            (0..300).for_each(|_| std::hint::spin_loop());
            slave
        });
        (0..opened % 300).for_each(|_| std::hint::spin_loop());
        ok!(close(master));
        let Ok(slave) = ok!(opener.join().map_err(|_| ())) else { continue };
        opened += 1;
        let events = poll(slave);
        check!(events & libc::POLLHUP != 0, "events {events:#x} of a terminal without a master");
        eq!(read(slave, &mut [0; 8]), Ok(0));
        ok!(close(slave));
    }
}

/// Whatever others make and close, whoever has made a terminal finds it.
fn terminal_is_there_once_it_is_made() {
    fs::need_dev();
    let make = || {
        for _ in rounds(MOST) {
            let (master, path) = master();
            let slave = ok!(open(&path, libc::O_RDWR | libc::O_NOCTTY, 0));
            (ok!(close(slave)), ok!(close(master)));
        }
    };
    let others = [spawn(make), spawn(make)];
    make();
    others.into_iter().for_each(|other| ok!(other.join().map_err(|_| ())));
}
