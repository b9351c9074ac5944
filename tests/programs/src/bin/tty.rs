//! Terminals, on a pseudo-terminal: settings, line editing, signals, job control, window size.

use guest_programs::process::{End, child, in_child, kill, wait, wait_with};
use guest_programs::sync::{Gate, until};
use guest_programs::sys::{close, getpid, open, read, write, zeroed};
use guest_programs::{Case, Sys, call, cases, check, eq, err, fs, mem, ok, run, signal};

const CASES: &[Case] = cases![
    open_a_pair,
    settings_are_kept,
    settings_errors,
    lines_wait_for_their_end,
    line_editing,
    end_of_file_character,
    echo_shows_input,
    output_newlines,
    input_newlines,
    raw_mode_gives_bytes,
    raw_mode_minimum_and_time,
    signal_characters,
    no_controlling_terminal,
    controlling_terminal,
    foreground_group,
    background_reader_is_stopped,
    background_writer_with_tostop,
    hangup_when_master_closes,
    slave_closed_is_seen_by_master,
    window_size,
    flush_and_queue_length,
    poll_on_both_ends,
    nonblocking_read,
    isatty_on_other_things,
    console_is_a_terminal,
];

fn main() {
    run(&[CASES], &[])
}

/// A pair: (master, slave). The slave is not the controlling terminal.
fn pair() -> (i32, i32) {
    fs::need_dev();
    let path = if fs::stat(c"/dev/ptmx").is_ok() { c"/dev/ptmx" } else { c"/dev/pts/ptmx" };
    let master = ok!(open(path, libc::O_RDWR | libc::O_NOCTTY, 0));
    let unlocked = 0i32;
    ok!(call!(SYS_ioctl, master, libc::TIOCSPTLCK, &unlocked));
    let mut number = -1i32;
    ok!(call!(SYS_ioctl, master, libc::TIOCGPTN, &mut number));
    let path = fs::cstr(&format!("/dev/pts/{number}"));
    (master, ok!(open(&path, libc::O_RDWR | libc::O_NOCTTY, 0)))
}

/// The kernel's termios.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    chars: [u8; 19],
}

const TCGETS: u64 = 0x5401;
const TCSETS: u64 = 0x5402;

fn get(fd: i32) -> Termios {
    let mut t: Termios = zeroed();
    ok!(call!(SYS_ioctl, fd, TCGETS, &mut t));
    t
}

fn set(fd: i32, t: &Termios) {
    ok!(call!(SYS_ioctl, fd, TCSETS, t));
}

fn change(fd: i32, edit: impl FnOnce(&mut Termios)) {
    let mut t = get(fd);
    edit(&mut t);
    set(fd, &t);
}

fn raw(fd: i32) {
    change(fd, |t| {
        t.input &= !(libc::ICRNL | libc::IXON | libc::INLCR | libc::IGNCR);
        t.output &= !libc::OPOST;
        t.local &= !(libc::ICANON | libc::ECHO | libc::ISIG | libc::IEXTEN);
        t.chars[libc::VMIN] = 1;
        t.chars[libc::VTIME] = 0;
    });
}

fn quiet(fd: i32) {
    change(fd, |t| t.local &= !libc::ECHO);
}

fn expect(fd: i32, bytes: &[u8]) {
    let mut got = vec![];
    let mut buf = [0; 256];
    while got.len() < bytes.len() {
        let n = ok!(read(fd, &mut buf));
        check!(n > 0, "end of file after {got:?}");
        got.extend_from_slice(&buf[..n]);
    }
    check!(
        got == bytes,
        "got {:?}, expected {:?}",
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(bytes)
    );
}

fn readable(fd: i32) -> bool {
    let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    ok!(call!(SYS_poll, &mut fd, 1, 0)) == 1 && fd.revents & libc::POLLIN != 0
}

fn open_a_pair() {
    let (master, slave) = pair();
    let (other_master, other_slave) = pair();
    check!(ok!(fs::fstat(slave)).st_rdev != ok!(fs::fstat(other_slave)).st_rdev);
    eq!(ok!(fs::fstat(slave)).st_mode & libc::S_IFMT, libc::S_IFCHR);
    eq!(write(master, b"to slave\n"), Ok(9));
    expect(slave, b"to slave\n");
    ok!(close(other_master));
    ok!(close(other_slave));
}

fn settings_are_kept() {
    let (_master, slave) = pair();
    let t = get(slave);
    check!(t.local & libc::ICANON != 0 && t.local & libc::ECHO != 0 && t.local & libc::ISIG != 0);
    check!(t.output & libc::OPOST != 0 && t.output & libc::ONLCR != 0 && t.input & libc::ICRNL != 0);
    eq!((t.chars[libc::VINTR], t.chars[libc::VEOF], t.chars[libc::VERASE]), (3, 4, 0x7f));
    let mut new = t;
    new.local &= !(libc::ECHO | libc::ICANON);
    new.chars[libc::VINTR] = 9;
    for request in [TCSETS, TCSETS + 1, TCSETS + 2] {
        ok!(call!(SYS_ioctl, slave, request, &new));
        eq!(get(slave), new);
        set(slave, &t);
    }
}

fn settings_errors() {
    let (_master, slave) = pair();
    err!(call!(SYS_ioctl, slave, TCGETS, mem::KERNEL), EFAULT);
    err!(call!(SYS_ioctl, slave, TCSETS, mem::unmapped()), EFAULT);
    err!(call!(SYS_ioctl, slave, 0x54ff, 0), ENOTTY | EINVAL);
    err!(call!(SYS_lseek, slave, 0, 0), ESPIPE);
}

fn lines_wait_for_their_end() {
    let (master, slave) = pair();
    quiet(slave);
    eq!(write(master, b"half"), Ok(4));
    check!(!readable(slave));
    eq!(write(master, b" line\nnext\n"), Ok(11));
    let mut buf = [0; 100];
    // One line at a time, and in parts if asked for less.
    eq!((read(slave, &mut buf), &buf[..10]), (Ok(10), &b"half line\n"[..]));
    eq!((read(slave, &mut buf[..2]), &buf[..2]), (Ok(2), &b"ne"[..]));
    eq!((read(slave, &mut buf), &buf[..3]), (Ok(3), &b"xt\n"[..]));
}

fn line_editing() {
    let (master, slave) = pair();
    quiet(slave);
    // Erase, erase a word, kill the line, take the next character literally.
    eq!(write(master, b"abx\x7fc\n"), Ok(6));
    expect(slave, b"abc\n");
    eq!(write(master, b"one two\x17three\n"), Ok(14));
    expect(slave, b"one three\n");
    eq!(write(master, b"garbage\x15clean\n"), Ok(14));
    expect(slave, b"clean\n");
    eq!(write(master, b"a\x16\x03b\n"), Ok(5));
    expect(slave, b"a\x03b\n");
    eq!(write(master, b"\x7f\x7f\x15x\n"), Ok(5));
    expect(slave, b"x\n");
}

fn end_of_file_character() {
    let (master, slave) = pair();
    quiet(slave);
    eq!(write(master, b"\x04"), Ok(1));
    eq!(read(slave, &mut [0; 10]), Ok(0));
    // After text it ends the wait without being part of it.
    eq!(write(master, b"text\x04more\n"), Ok(10));
    let mut buf = [0; 20];
    eq!((read(slave, &mut buf), &buf[..4]), (Ok(4), &b"text"[..]));
    eq!((read(slave, &mut buf), &buf[..5]), (Ok(5), &b"more\n"[..]));
}

fn echo_shows_input() {
    let (master, slave) = pair();
    eq!(write(master, b"hi\n"), Ok(3));
    expect(master, b"hi\r\n");
    // Control characters are shown with a caret, an erased one is wiped out.
    eq!(write(master, b"\x01x\x7f\n"), Ok(4));
    expect(master, b"^Ax\x08 \x08\r\n");
    expect(slave, b"hi\n\x01\n");
    quiet(slave);
    eq!(write(master, b"secret\n"), Ok(7));
    expect(slave, b"secret\n");
    check!(!readable(master));
}

fn output_newlines() {
    let (master, slave) = pair();
    eq!(write(slave, b"a\nb\r\n"), Ok(5));
    expect(master, b"a\r\nb\r\r\n");
    change(slave, |t| t.output &= !libc::OPOST);
    eq!(write(slave, b"a\nb\n"), Ok(4));
    expect(master, b"a\nb\n");
}

fn input_newlines() {
    let (master, slave) = pair();
    quiet(slave);
    eq!(write(master, b"cr\r"), Ok(3));
    expect(slave, b"cr\n");
    change(slave, |t| t.input = t.input & !libc::ICRNL | libc::IGNCR);
    eq!(write(master, b"\ra\rb\n"), Ok(5));
    expect(slave, b"ab\n");
    change(slave, |t| t.input &= !libc::IGNCR);
    eq!(write(master, b"a\r\n"), Ok(3));
    expect(slave, b"a\r\n");
}

fn raw_mode_gives_bytes() {
    let (master, slave) = pair();
    raw(slave);
    let all: Vec<u8> = (0..=255).collect();
    eq!(write(master, &all), Ok(256));
    expect(slave, &all);
    eq!(write(slave, &all), Ok(256));
    expect(master, &all);
    check!(!readable(master));
}

fn raw_mode_minimum_and_time() {
    let (master, slave) = pair();
    raw(slave);
    // No minimum, no time: does not wait.
    change(slave, |t| t.chars[libc::VMIN] = 0);
    eq!(read(slave, &mut [0; 10]), Ok(0));
    // No minimum, a time: waits that long at most.
    change(slave, |t| t.chars[libc::VTIME] = 1);
    let took = guest_programs::time::elapsed(|| eq!(read(slave, &mut [0; 10]), Ok(0)));
    guest_programs::time::check_sleep(90 * guest_programs::time::MILLI, took);
    eq!(write(master, b"x"), Ok(1));
    eq!(read(slave, &mut [0; 10]), Ok(1));
    // A minimum: waits for so many.
    change(slave, |t| (t.chars[libc::VMIN], t.chars[libc::VTIME]) = (3, 0));
    let pid = child(|| eq!(read(slave, &mut [0; 10]), Ok(3)));
    eq!(write(master, b"a"), Ok(1));
    eq!(write(master, b"b"), Ok(1));
    eq!(wait_with(pid, libc::WNOHANG), Ok((0, End::Exit(0))));
    eq!(write(master, b"c"), Ok(1));
    eq!(wait(pid), End::Exit(0));
}

/// A session of its own with the slave as its controlling terminal.
fn take_terminal(slave: i32) {
    in_session(slave);
    let mut group = 0i32;
    ok!(call!(SYS_ioctl, slave, libc::TIOCGPGRP, &mut group));
    eq!(group, getpid());
}

fn in_session(slave: i32) {
    ok!(call!(SYS_setsid));
    ok!(call!(SYS_ioctl, slave, libc::TIOCSCTTY, 0));
}

fn signal_characters() {
    let (master, slave) = pair();
    quiet(slave);
    for (byte, number) in [(3u8, libc::SIGINT), (0x1c, libc::SIGQUIT), (0x1a, libc::SIGTSTP)] {
        let ready = Gate::new();
        let pid = child(|| {
            take_terminal(slave);
            signal::block(&[number]);
            ready.open();
            eq!(signal::take(&[number]).si_signo, number);
            // What was typed before is dropped with it.
            eq!(write(master, b"after\n"), Ok(6));
            expect(slave, b"after\n");
        });
        ready.pass();
        eq!(write(master, &[b'x', byte]), Ok(2));
        eq!(wait(pid), End::Exit(0));
    }
    change(slave, |t| t.local &= !libc::ISIG);
    eq!(write(master, b"a\x03\n"), Ok(3));
    expect(slave, b"a\x03\n");
}

fn no_controlling_terminal() {
    // The case runs in a new session.
    fs::need_dev();
    err!(open(c"/dev/tty", libc::O_RDWR, 0), ENXIO);
    let (_master, slave) = pair();
    let mut group = 0i32;
    err!(call!(SYS_ioctl, slave, libc::TIOCGPGRP, &mut group), ENOTTY);
    err!(call!(SYS_ioctl, slave, libc::TIOCGSID, &mut group), ENOTTY);
}

fn controlling_terminal() {
    let (master, slave) = pair();
    in_child(|| {
        take_terminal(slave);
        let mut session = 0i32;
        ok!(call!(SYS_ioctl, slave, libc::TIOCGSID, &mut session));
        eq!(session, getpid());
        let tty = ok!(open(c"/dev/tty", libc::O_RDWR, 0));
        eq!(write(tty, b"via tty"), Ok(7));
        in_child(|| _ = ok!(open(c"/dev/tty", libc::O_RDWR, 0)));
        // Given up, it is gone.
        signal::dispose(libc::SIGHUP, libc::SIG_IGN);
        ok!(call!(SYS_ioctl, slave, libc::TIOCNOTTY, 0));
        err!(open(c"/dev/tty", libc::O_RDWR, 0), ENXIO);
    });
    expect(master, b"via tty");
    // Opening a terminal without O_NOCTTY takes it, for a session leader that has none.
    in_child(|| {
        ok!(call!(SYS_setsid));
        let mut number = 0i32;
        ok!(call!(SYS_ioctl, master, libc::TIOCGPTN, &mut number));
        ok!(open(&fs::cstr(&format!("/dev/pts/{number}")), libc::O_RDWR, 0));
        ok!(open(c"/dev/tty", libc::O_RDWR, 0));
    });
}

fn foreground_group() {
    let (master, slave) = pair();
    in_child(|| {
        take_terminal(slave);
        signal::dispose(libc::SIGTTOU, libc::SIG_IGN);
        let ready = Gate::new();
        let job = child(|| {
            ok!(call!(SYS_setpgid, 0, 0));
            ready.open();
            loop {
                let _ = call!(SYS_pause);
            }
        });
        ready.pass();
        ok!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &job));
        let mut group = 0i32;
        ok!(call!(SYS_ioctl, slave, libc::TIOCGPGRP, &mut group));
        eq!(group, job);
        // The interrupt goes to the foreground, not to the session's leader.
        signal::handle(libc::SIGINT, 0, signal::count);
        eq!(write(master, b"\x03"), Ok(1));
        eq!(wait(job), End::Signal(libc::SIGINT));
        eq!(signal::counted(), 0);
        let mut wrong = 0x3fff_ffff;
        err!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &wrong), ESRCH | EPERM);
        wrong = -1;
        err!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &wrong), EINVAL);
        let me = getpid();
        ok!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &me));
    });
}

fn background_reader_is_stopped() {
    let (master, slave) = pair();
    quiet(slave);
    in_child(|| {
        take_terminal(slave);
        let job = child(|| {
            ok!(call!(SYS_setpgid, 0, 0));
            let mut buf = [0; 10];
            eq!((read(slave, &mut buf), &buf[..3]), (Ok(3), &b"go\n"[..]));
        });
        eq!(wait_with(job, libc::WUNTRACED), Ok((job, End::Stopped(libc::SIGTTIN))));
        // Brought to the foreground and continued, it reads.
        ok!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &job));
        eq!(write(master, b"go\n"), Ok(3));
        ok!(kill(-job, libc::SIGCONT));
        eq!(wait(job), End::Exit(0));
        signal::dispose(libc::SIGTTOU, libc::SIG_IGN);
        let me = getpid();
        ok!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &me));
        // With the signal ignored or blocked the read fails.
        let job = child(|| {
            ok!(call!(SYS_setpgid, 0, 0));
            signal::dispose(libc::SIGTTIN, libc::SIG_IGN);
            err!(read(slave, &mut [0; 10]), EIO);
        });
        eq!(wait(job), End::Exit(0));
    });
}

fn background_writer_with_tostop() {
    let (master, slave) = pair();
    in_child(|| {
        take_terminal(slave);
        // Allowed by default.
        let job = child(|| {
            ok!(call!(SYS_setpgid, 0, 0));
            eq!(write(slave, b"free"), Ok(4));
        });
        eq!(wait(job), End::Exit(0));
        change(slave, |t| t.local |= libc::TOSTOP);
        let job = child(|| {
            ok!(call!(SYS_setpgid, 0, 0));
            eq!(write(slave, b"late"), Ok(4));
        });
        eq!(wait_with(job, libc::WUNTRACED), Ok((job, End::Stopped(libc::SIGTTOU))));
        ok!(call!(SYS_ioctl, slave, libc::TIOCSPGRP, &job));
        ok!(kill(job, libc::SIGCONT));
        eq!(wait(job), End::Exit(0));
    });
    expect(master, b"freelate");
}

fn hangup_when_master_closes() {
    let (master, slave) = pair();
    let ready = Gate::new();
    let pid = child(|| {
        ok!(close(master));
        take_terminal(slave);
        signal::block(&[libc::SIGHUP]);
        ready.open();
        eq!(signal::take(&[libc::SIGHUP]).si_signo, libc::SIGHUP);
        eq!(read(slave, &mut [0; 10]), Ok(0));
        err!(write(slave, b"x"), EIO);
        err!(call!(SYS_ioctl, slave, TCGETS, [0u8; 64].as_mut_ptr()), EIO);
    });
    ready.pass();
    ok!(close(master));
    eq!(wait(pid), End::Exit(0));
}

fn slave_closed_is_seen_by_master() {
    let (master, slave) = pair();
    eq!(write(slave, b"last words"), Ok(10));
    ok!(close(slave));
    expect(master, b"last words");
    err!(read(master, &mut [0; 10]), EIO);
}

fn window_size() {
    let (master, slave) = pair();
    let mut size = [9u16; 4];
    ok!(call!(SYS_ioctl, slave, libc::TIOCGWINSZ, size.as_mut_ptr()));
    eq!(size, [0; 4]);
    let new = [24u16, 80, 640, 480];
    ok!(call!(SYS_ioctl, master, libc::TIOCSWINSZ, new.as_ptr()));
    ok!(call!(SYS_ioctl, slave, libc::TIOCGWINSZ, size.as_mut_ptr()));
    eq!(size, new);
    // A change is told to the foreground.
    let ready = Gate::new();
    let pid = child(|| {
        take_terminal(slave);
        signal::block(&[libc::SIGWINCH]);
        ready.open();
        eq!(signal::take(&[libc::SIGWINCH]).si_signo, libc::SIGWINCH);
    });
    ready.pass();
    ok!(call!(SYS_ioctl, master, libc::TIOCSWINSZ, [25u16, 80, 0, 0].as_ptr()));
    eq!(wait(pid), End::Exit(0));
}

fn flush_and_queue_length() {
    let (master, slave) = pair();
    raw(slave);
    eq!(write(master, b"12345"), Ok(5));
    until(|| readable(slave));
    let mut n = 0i32;
    ok!(call!(SYS_ioctl, slave, libc::FIONREAD, &mut n));
    eq!(n, 5);
    ok!(call!(SYS_ioctl, slave, libc::TCFLSH, libc::TCIFLUSH));
    check!(!readable(slave));
    err!(call!(SYS_ioctl, slave, libc::TCFLSH, 77), EINVAL);
    // Draining waits for output that nobody has to wait for here.
    ok!(call!(SYS_ioctl, slave, libc::TCSBRK, 1));
}

fn poll_on_both_ends() {
    let (master, slave) = pair();
    raw(slave);
    check!(!readable(master) && !readable(slave));
    eq!(write(slave, b"x"), Ok(1));
    until(|| readable(master));
    eq!(write(master, b"y"), Ok(1));
    until(|| readable(slave));
    ok!(read(master, &mut [0]));
    check!(!readable(master));
    ok!(close(slave));
    let mut fd = libc::pollfd { fd: master, events: libc::POLLIN, revents: 0 };
    ok!(call!(SYS_poll, &mut fd, 1, -1));
    check!(fd.revents & libc::POLLHUP != 0);
}

fn nonblocking_read() {
    let (master, slave) = pair();
    let set_flags = |fd: i32| -> Sys { call!(SYS_fcntl, fd, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) };
    ok!(set_flags(slave));
    ok!(set_flags(master));
    err!(read(slave, &mut [0; 4]), EAGAIN);
    err!(read(master, &mut [0; 4]), EAGAIN);
    // A full terminal refuses more.
    raw(slave);
    until(|| write(slave, &[1; 4096]) == Err(guest_programs::Errno(libc::EAGAIN)));
}

fn isatty_on_other_things() {
    fs::need_dev();
    let (out, _) = ok!(guest_programs::sys::pipe(0));
    err!(call!(SYS_ioctl, out, TCGETS, [0u8; 64].as_mut_ptr()), ENOTTY);
    let null = ok!(open(c"/dev/null", libc::O_RDWR, 0));
    err!(call!(SYS_ioctl, null, TCGETS, [0u8; 64].as_mut_ptr()), ENOTTY);
    err!(call!(SYS_ioctl, null, libc::TIOCGWINSZ, [0u8; 64].as_mut_ptr()), ENOTTY);
}

fn console_is_a_terminal() {
    // Where the console can be opened at all (a container may have none behind it).
    fs::need_dev();
    match open(c"/dev/console", libc::O_RDWR | libc::O_NOCTTY, 0) {
        Ok(fd) => {
            check!(get(fd).control & libc::CSIZE == libc::CS8);
            eq!(write(fd, b""), Ok(0));
        }
        Err(e) => err!(Err::<i32, _>(e), EIO | ENODEV | ENXIO | EPERM),
    }
}
