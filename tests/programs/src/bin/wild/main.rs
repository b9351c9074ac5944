//! Wild pointers: every system call that takes a pointer gets all sorts of bad ones in each place, and must answer with
//! EFAULT (or an error that it documents for something it looks at first), leaving the process alive.

mod table;

use guest_programs::mem::{self, KERNEL, NON_CANONICAL, PAGE, RW, USER_END};
use guest_programs::process::{End, child, wait_with};
use guest_programs::sys::{close, open, pipe, read_all, write};
use guest_programs::{Case, Errno, Sys, call, cases, check, fail, fs, ok, run};
use table::{Arg, Call};

const CASES: &[Case] = cases![
    files: 120,
    transfers: 120,
    memory: 120,
    processes: 120,
    signals: 120,
    times: 120,
    waiting: 120,
    sockets: 120,
    system: 120,
    kernel_memory_does_not_leak,
    copies_stop_at_the_border,
];

fn main() {
    run(&[CASES], &[])
}

fn files() {
    all(table::FILES);
}
fn transfers() {
    all(table::TRANSFERS);
}
fn memory() {
    all(table::MEMORY);
}
fn processes() {
    all(table::PROCESSES);
}
fn signals() {
    all(table::SIGNALS);
}
fn times() {
    all(table::TIMES);
}
fn waiting() {
    all(table::WAITING);
}
fn sockets() {
    all(table::SOCKETS);
}
fn system() {
    all(table::SYSTEM);
}

/// Tries all calls of a table, each in a process of its own, and fails with the list of those that misbehave.
fn all(calls: &[Call]) {
    fs::scratch();
    let mut wrong = String::new();
    for each in calls {
        let (out, inn) = ok!(pipe(libc::O_CLOEXEC));
        let pid = child(|| {
            ok!(call!(SYS_alarm, 10));
            let report = attempts(each);
            let _ = write(inn, report.as_bytes());
        });
        ok!(close(inn));
        let report = ok!(read_all(out));
        ok!(close(out));
        let (_, end) = ok!(wait_with(pid, libc::__WALL));
        wrong += &String::from_utf8_lossy(&report);
        if end != End::Exit(0) {
            wrong += &format!("{}: {end:?}; ", each.name);
        }
    }
    check!(wrong.is_empty(), "{wrong}");
}

/// What a call may be given.
struct World {
    file: i32,
    directory: i32,
    pipe: (i32, i32),
    stream: (i32, i32),
    datagram: (i32, i32),
    epoll: i32,
    timer: i32,
    event: i32,
    tty: i32,
    scratch: usize,
}

impl World {
    fn new() -> World {
        fs::put(c"file", &[b'x'; 8192], 0o755);
        fs::put(c"path", b"not a program", 0o755);
        let file = ok!(open(c"file", libc::O_RDWR, 0));
        let pipe = ok!(pipe(0));
        ok!(write(pipe.1, &[1; 4096]));
        let pair = |kind: i32| {
            let mut fds = [0i32; 2];
            ok!(call!(SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr()));
            ok!(write(fds[0], &[2; 512]));
            (fds[0], fds[1])
        };
        let event = ok!(call!(SYS_eventfd2, 1, 0)) as i32;
        let epoll = ok!(call!(SYS_epoll_create1, 0)) as i32;
        let watch = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
        ok!(call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, event, &watch));
        fs::need_dev();
        World {
            file,
            directory: ok!(open(c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)),
            pipe,
            stream: pair(libc::SOCK_STREAM),
            datagram: pair(libc::SOCK_DGRAM),
            epoll,
            timer: ok!(call!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0)) as i32,
            event,
            tty: open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0).unwrap_or(-1),
            scratch: mem::anon(64 * PAGE),
        }
    }

    /// Puts things to read where an attempt may have taken them.
    fn refill(&self) {
        for fd in [self.file, self.directory] {
            ok!(guest_programs::sys::lseek(fd, 0, libc::SEEK_SET));
        }
        ok!(write(self.event, &1u64.to_ne_bytes()));
        for fd in [self.stream.0, self.datagram.0] {
            let _ = call!(SYS_sendto, fd, [2u8; 512].as_ptr(), 512, libc::MSG_DONTWAIT, 0, 0);
        }
    }

    /// The value of an argument that is as it should be.
    fn good(&self, arg: Arg, place: usize) -> usize {
        let buffer = self.scratch + place * 8 * PAGE;
        mem::bytes(buffer, 8 * PAGE).fill(0);
        match arg {
            Arg::V(value) => value as usize,
            Arg::File => self.file as usize,
            Arg::Dir => self.directory as usize,
            Arg::PipeOut => self.pipe.0 as usize,
            Arg::PipeIn => self.pipe.1 as usize,
            Arg::Stream => self.stream.1 as usize,
            Arg::Datagram => self.datagram.1 as usize,
            Arg::Epoll => self.epoll as usize,
            Arg::Timer => self.timer as usize,
            Arg::Event => self.event as usize,
            Arg::Tty => self.tty as usize,
            Arg::Length(n) => {
                mem::poke(buffer, n);
                buffer
            }
            Arg::Path => {
                mem::bytes(buffer, 5).copy_from_slice(b"path\0");
                buffer
            }
            Arg::InOut(_)
            | Arg::OptInOut(_)
            | Arg::In(_)
            | Arg::Out(_)
            | Arg::InBuf(_)
            | Arg::OutBuf(_)
            | Arg::OptIn(_)
            | Arg::OptOut(_) => buffer,
        }
    }
}

/// Bad addresses for an argument, with what is bad about them.
fn bad(arg: Arg) -> Vec<(&'static str, usize)> {
    let Some((size, out, optional)) = arg.pointer() else { return vec![] };
    let mut all = vec![
        ("unmapped", mem::unmapped()),
        ("kernel", KERNEL),
        ("kernel, low", 0xffff_8000_0000_0000),
        ("non-canonical", NON_CANONICAL),
        ("last byte", usize::MAX),
        ("end of user space", USER_END),
    ];
    if !optional {
        all.push(("null", 0));
        all.push(("almost null", 8));
    }
    if size > 1 {
        // Begins in a mapped page and goes on where nothing is; the same at the very end of user space.
        let page = mem::anon(2 * PAGE);
        mem::bytes(page, PAGE).fill(if matches!(arg, Arg::Path) { b'x' } else { 0 });
        ok!(mem::munmap(page + PAGE, PAGE));
        all.push(("across a border", page + PAGE - (size / 2).min(64)));
        let top = USER_END - 2 * PAGE;
        if mem::mmap(top, PAGE, RW, mem::ANON | libc::MAP_FIXED_NOREPLACE, -1, 0).is_ok() {
            mem::bytes(top, PAGE).fill(if matches!(arg, Arg::Path) { b'x' } else { 0 });
        }
        all.push(("across the end of user space", top + PAGE - (size / 2).min(64)));
    }
    if out {
        let page = mem::anon(PAGE);
        ok!(mem::mprotect(page, PAGE, libc::PROT_READ));
        all.push(("read-only", page));
    }
    if matches!(arg, Arg::Out(_) | Arg::OutBuf(_) | Arg::OptOut(_)) {
        // The program's own text.
        all.push(("text", bad as *const () as usize & !(PAGE - 1)));
    }
    if matches!(arg, Arg::Length(_)) {
        // Read before it is written, so read-only places are of no account until the call succeeds otherwise.
        all.retain(|(what, _)| *what != "read-only" && *what != "text");
    }
    all
}

fn attempts(each: &Call) -> String {
    let world = World::new();
    let mut report = String::new();
    for (place, arg) in each.args.iter().enumerate() {
        for (what, wild) in bad(*arg) {
            world.refill();
            let mut values = [0usize; 6];
            for (i, other) in each.args.iter().enumerate() {
                values[i] = if i == place { wild } else { world.good(*other, i) };
            }
            let result = guest_programs::sys::syscall(each.nr, &values[..each.args.len()]);
            if !acceptable(each, *arg, what, result) {
                report += &format!("{} argument {} {what}: {result:?}; ", each.name, place + 1);
            }
        }
    }
    report
}

fn acceptable(each: &Call, arg: Arg, what: &str, result: Sys) -> bool {
    match result {
        Err(Errno(libc::EFAULT)) => true,
        Err(Errno(e)) => each.also.contains(&e),
        // A transfer may end where memory does.
        Ok(n) => {
            let (size, _, _) = arg.pointer().unwrap_or((0, false, false));
            let partial =
                matches!(arg, Arg::InBuf(_) | Arg::OutBuf(_)) && what.starts_with("across") && n < size;
            partial || each.also.contains(&0)
        }
    }
}

fn kernel_memory_does_not_leak() {
    // Structures given to the program hold nothing but what they are documented to hold: their padding is the same
    // each time, whatever was on the kernel's stack. Two different histories, same bytes.
    let page = mem::anon(PAGE);
    let snapshot = |noise: bool| {
        if noise {
            for i in 0..50 {
                let _ = call!(SYS_newfstatat, libc::AT_FDCWD, c"/no/such/file/anywhere", page, i);
                let _ = call!(SYS_wait4, -1, page, libc::WNOHANG, page);
            }
        }
        mem::bytes(page, PAGE).fill(0xa5);
        ok!(call!(SYS_getrlimit, libc::RLIMIT_CORE, page));
        ok!(call!(SYS_newfstatat, libc::AT_FDCWD, c"/", page + 64, 0));
        ok!(call!(SYS_uname, page + 512));
        ok!(call!(SYS_sigaltstack, 0, page + 1024));
        ok!(call!(SYS_rt_sigaction, libc::SIGUSR1, 0, page + 1088, 8));
        ok!(call!(SYS_getitimer, libc::ITIMER_REAL, page + 1152));
        mem::bytes(page, PAGE).to_vec()
    };
    let (first, second) = (snapshot(false), snapshot(true));
    // Access times aside, which a lookup may change.
    check!(
        (0..PAGE).all(|i| first[i] == second[i] || (136..152).contains(&i)),
        "structures differ between calls"
    );
}

fn copies_stop_at_the_border() {
    // What is written before a border is written, and nothing beyond it or before it is touched.
    let page = mem::anon(2 * PAGE);
    mem::bytes(page, PAGE).fill(0x11);
    ok!(mem::munmap(page + PAGE, PAGE));
    let (out, inn) = ok!(pipe(0));
    ok!(write(inn, &[0x22; 100]));
    match call!(SYS_read, out, page + PAGE - 40, 100) {
        Ok(n) => check!(n <= 40, "{n} bytes into 40"),
        Err(e) => check!(e == Errno(libc::EFAULT)),
    }
    check!(mem::bytes(page, PAGE - 40).iter().all(|b| *b == 0x11));
    // A length that wraps around.
    let result = call!(SYS_read, out, page, usize::MAX - page + 2);
    if !matches!(result, Err(Errno(libc::EFAULT | libc::EINVAL))) {
        fail!("a wrapping length gave {result:?}");
    }
}
