//! What the kernel's fast paths cost: prints `NAME nanoseconds-per-operation` lines, the best of several runs.
//!
//! `bench [SUBSTRING…] [--rounds N]`: the benchmarks whose names contain one of the words; N runs of each (default 5).
//! The clock is CLOCK_MONOTONIC. Under an instruction-counting clock (one nanosecond for each instruction) one round is
//! enough and the result is the same each time.

use guest_programs::harness::print;
use guest_programs::process::{End, child, execve, wait};
use guest_programs::sync::{await_change, futex_wake};
use guest_programs::sys::{close, exit_group, open, pipe, read, write};
use guest_programs::time::now;
use guest_programs::{call, check, elf, fs, mem, ok, signal};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// A benchmark: does its operation that many times and gives how long that took, nanoseconds.
type Run = fn(u32) -> i64;

/// Name, operations in one run, body.
const ALL: &[(&str, u32, Run)] = &[
    ("clock_vdso", 20_000, |n| timed(n, || _ = black_box(now()))),
    ("clock_syscall", 10_000, |n| timed(n, || _ = guest_programs::time::clock(libc::CLOCK_MONOTONIC))),
    ("syscall_null", 20_000, |n| timed(n, || _ = call!(SYS_getppid))),
    ("read_zero_bytes", 10_000, read_nothing),
    ("open_close", 5_000, open_close),
    ("stat", 5_000, |n| timed(n, || _ = fs::stat(c"/tmp"))),
    ("page_fault_anonymous", 2_000, page_fault),
    ("page_fault_cow", 1_000, page_fault_cow),
    ("mmap_munmap", 5_000, |n| timed(n, || _ = mem::munmap(mem::anon(mem::PAGE), mem::PAGE))),
    ("mmap_touch_munmap", 2_000, map_touch_unmap),
    ("mprotect", 5_000, protect),
    ("switch_pipe", 2_000, switch_pipe),
    ("switch_pipe_one_cpu", 2_000, |n| on_one_cpu(|| switch_pipe(n))),
    ("switch_futex", 2_000, switch_futex),
    ("switch_futex_one_cpu", 2_000, |n| on_one_cpu(|| switch_futex(n))),
    ("yield_alone", 5_000, |n| timed(n, guest_programs::sys::yield_now)),
    ("yield_to_other", 2_000, |n| on_one_cpu(|| yield_to_other(n))),
    ("thread_create_join", 300, |n| timed(n, || _ = std::thread::spawn(|| ()).join())),
    ("fork_exit_wait", 200, |n| timed(n, || check!(wait(child(|| ())) == End::Exit(0)))),
    ("vfork_exec_tiny_wait", 200, exec_tiny),
    ("fork_exec_wait", 100, exec_self),
    ("signal_self", 5_000, signal_self),
    ("signal_install", 5_000, |n| timed(n, || signal::dispose(libc::SIGUSR2, libc::SIG_IGN))),
    ("fault_to_handler", 2_000, fault_to_handler),
    ("pipe_64k", 500, pipe_throughput),
    ("pipe_one_byte", 10_000, pipe_one_byte),
    ("file_write_4k", 2_000, file_write),
    ("file_read_4k", 5_000, file_read),
    ("poll_ten", 5_000, poll_ten),
    ("epoll_ready", 5_000, epoll_ready),
    ("eventfd_pair", 10_000, eventfd_pair),
    ("unix_stream_round_trip", 2_000, unix_round_trip),
];

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut rounds, mut words) = (5, vec![]);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "@true" => exit_group(0),
            "--rounds" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) if n > 0 => rounds = n,
                _ => usage("--rounds needs a number"),
            },
            "--list" => {
                ALL.iter().for_each(|(name, _, _)| print(&format!("{name}\n")));
                exit_group(0);
            }
            word if word.starts_with('-') => usage(&format!("unknown option {word}")),
            _ => words.push(arg),
        }
    }
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|(name, _, _)| words.is_empty() || words.iter().any(|w| name.contains(w.as_str())))
        .collect();
    if chosen.is_empty() {
        usage("no benchmark of that name");
    }
    guest_programs::harness::locate();
    let _ = call!(SYS_mkdir, c"/tmp", 0o1777);
    for (name, count, run) in chosen {
        run(count / 10 + 1);
        let best = (0..rounds).map(|_| run(*count)).min().unwrap_or(0);
        print(&format!("{name} {:.1}\n", best as f64 / f64::from(*count)));
    }
    exit_group(0);
}

fn usage(why: &str) -> ! {
    print(&format!("{why}; usage: bench [--list] [--rounds N] [SUBSTRING…]\n"));
    exit_group(2)
}

fn timed(n: u32, mut operation: impl FnMut()) -> i64 {
    let start = now();
    for _ in 0..n {
        operation();
    }
    now() - start
}

/// With this process and its children bound to its first CPU.
fn on_one_cpu(body: impl FnOnce() -> i64) -> i64 {
    let mut mask = [0u64; 16];
    ok!(call!(SYS_sched_getaffinity, 0, 128, mask.as_mut_ptr()));
    let first = mask[0] & mask[0].wrapping_neg();
    ok!(call!(SYS_sched_setaffinity, 0, 8, &first));
    let took = body();
    ok!(call!(SYS_sched_setaffinity, 0, 128, mask.as_ptr()));
    took
}

fn read_nothing(n: u32) -> i64 {
    let (out, inn) = ok!(pipe(0));
    let took = timed(n, || _ = read(out, &mut []));
    closing(&[out, inn]);
    took
}

fn closing(fds: &[i32]) {
    fds.iter().for_each(|fd| _ = ok!(close(*fd)));
}

fn open_close(n: u32) -> i64 {
    timed(n, || _ = ok!(close(ok!(open(c"/tmp", libc::O_RDONLY, 0)))))
}

fn page_fault(n: u32) -> i64 {
    let length = n as usize * mem::PAGE;
    let at = mem::anon(length);
    // One page each, whatever a kernel would like to do with large ones.
    let _ = call!(SYS_madvise, at, length, libc::MADV_NOHUGEPAGE);
    let mut next = at;
    let took = timed(n, || {
        mem::poke(next, 1u8);
        next += mem::PAGE;
    });
    ok!(mem::munmap(at, length));
    took
}

fn page_fault_cow(n: u32) -> i64 {
    let length = n as usize * mem::PAGE;
    let at = mem::anon(length);
    let _ = call!(SYS_madvise, at, length, libc::MADV_NOHUGEPAGE);
    (0..n as usize).for_each(|i| mem::poke(at + i * mem::PAGE, 1u8));
    let result = mem::shared(mem::PAGE);
    let pid = child(|| {
        let mut next = at;
        mem::poke(
            result,
            timed(n, || {
                mem::poke(next, 2u8);
                next += mem::PAGE;
            }),
        );
    });
    check!(wait(pid) == End::Exit(0));
    let took = mem::peek(result);
    ok!(mem::munmap(at, length));
    ok!(mem::munmap(result, mem::PAGE));
    took
}

fn map_touch_unmap(n: u32) -> i64 {
    timed(n, || {
        let at = mem::anon(mem::PAGE);
        mem::poke(at, 1u8);
        ok!(mem::munmap(at, mem::PAGE));
    })
}

fn protect(n: u32) -> i64 {
    let at = mem::anon(mem::PAGE);
    mem::poke(at, 1u8);
    let took = timed(n / 2, || {
        ok!(mem::mprotect(at, mem::PAGE, libc::PROT_READ));
        ok!(mem::mprotect(at, mem::PAGE, mem::RW));
    });
    ok!(mem::munmap(at, mem::PAGE));
    took
}

/// Two processes that hand a byte to and fro: half a round trip is one operation.
fn switch_pipe(n: u32) -> i64 {
    let (there, back) = (ok!(pipe(0)), ok!(pipe(0)));
    let pid = child(|| {
        for _ in 0..n / 2 {
            ok!(read(there.0, &mut [0]));
            ok!(write(back.1, b"x"));
        }
    });
    let took = timed(n / 2, || {
        ok!(write(there.1, b"x"));
        ok!(read(back.0, &mut [0]));
    });
    check!(wait(pid) == End::Exit(0));
    closing(&[there.0, there.1, back.0, back.1]);
    took
}

fn switch_futex(n: u32) -> i64 {
    let page = mem::shared(mem::PAGE);
    let ball: &AtomicU32 = mem::at(page);
    let player = |parity: u32| {
        for turn in (0..n).filter(|turn| turn % 2 == parity) {
            loop {
                let now = ball.load(SeqCst);
                if now == turn {
                    break;
                }
                await_change(ball, now);
            }
            ball.store(turn + 1, SeqCst);
            ok!(futex_wake(ball, 1));
        }
    };
    let pid = child(|| player(1));
    let start = now();
    player(0);
    check!(wait(pid) == End::Exit(0));
    let took = now() - start;
    ok!(mem::munmap(page, mem::PAGE));
    took
}

fn yield_to_other(n: u32) -> i64 {
    let stop: &AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let pid = child(|| {
        while stop.load(SeqCst) == 0 {
            guest_programs::sys::yield_now();
        }
    });
    let took = timed(n, guest_programs::sys::yield_now);
    stop.store(1, SeqCst);
    check!(wait(pid) == End::Exit(0));
    took
}

/// The smallest program there can be, so that what is measured is the kernel's part.
fn exec_tiny(n: u32) -> i64 {
    fs::put(c"/tmp/bench-tiny", &elf::tiny(&elf::exit_code(0)), 0o755);
    extern "C" fn run(_: usize) -> i32 {
        execve(c"/tmp/bench-tiny", &[c"tiny"], &[]);
        99
    }
    let stack = mem::stack(65536);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let took = timed(n, || {
        let pid = ok!(guest_programs::process::clone_onto(flags, stack, run, 0, 0, 0, 0));
        check!(wait(pid) == End::Exit(0));
    });
    ok!(mem::munmap(stack - 65536 - mem::PAGE, 65536 + mem::PAGE));
    ok!(call!(SYS_unlink, c"/tmp/bench-tiny"));
    took
}

/// This very program, which is an ordinary static one.
fn exec_self(n: u32) -> i64 {
    timed(n, || {
        let pid = child(|| {
            execve(guest_programs::process::self_exe(), &[c"bench", c"@true"], &[]);
        });
        check!(wait(pid) == End::Exit(0));
    })
}

fn signal_self(n: u32) -> i64 {
    signal::handle(libc::SIGUSR1, 0, signal::count);
    let (pid, tid) = (guest_programs::sys::getpid(), guest_programs::sys::gettid());
    timed(n, || _ = call!(SYS_tgkill, pid, tid, libc::SIGUSR1))
}

fn fault_to_handler(n: u32) -> i64 {
    let at = mem::unmapped();
    timed(n, || check!(signal::read_faults(at).is_some()))
}

fn pipe_throughput(n: u32) -> i64 {
    let (out, inn) = ok!(pipe(0));
    let pid = child(|| {
        let block = vec![1; 65536];
        (0..n).for_each(|_| ok!(guest_programs::sys::write_all(inn, &block)));
    });
    let mut buf = vec![0; 65536];
    let start = now();
    let mut left = n as usize * 65536;
    while left > 0 {
        left -= ok!(read(out, &mut buf));
    }
    let took = now() - start;
    check!(wait(pid) == End::Exit(0));
    closing(&[out, inn]);
    took
}

fn pipe_one_byte(n: u32) -> i64 {
    let (out, inn) = ok!(pipe(0));
    let took = timed(n, || {
        ok!(write(inn, b"x"));
        ok!(read(out, &mut [0]));
    });
    closing(&[out, inn]);
    took
}

fn with_file(body: impl FnOnce(i32) -> i64) -> i64 {
    let fd = ok!(open(c"/tmp/bench-file", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600));
    let took = body(fd);
    closing(&[fd]);
    ok!(call!(SYS_unlink, c"/tmp/bench-file"));
    took
}

fn file_write(n: u32) -> i64 {
    let block = [7u8; 4096];
    with_file(|fd| {
        let mut at = 0;
        timed(n, || {
            ok!(call!(SYS_pwrite64, fd, block.as_ptr(), 4096, at));
            at = (at + 4096) % (1 << 20);
        })
    })
}

fn file_read(n: u32) -> i64 {
    let mut block = [7u8; 4096];
    with_file(|fd| {
        (0..64).for_each(|i| _ = ok!(call!(SYS_pwrite64, fd, block.as_ptr(), 4096, i * 4096)));
        let mut at = 0;
        timed(n, || {
            ok!(call!(SYS_pread64, fd, block.as_mut_ptr(), 4096, at));
            at = (at + 4096) % (64 * 4096);
        })
    })
}

fn poll_ten(n: u32) -> i64 {
    let pipes = [(); 10].map(|()| ok!(pipe(0)));
    let mut fds = pipes.map(|(fd, _)| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let took = timed(n, || _ = ok!(call!(SYS_poll, fds.as_mut_ptr(), 10, 0)));
    pipes.iter().for_each(|(out, inn)| closing(&[*out, *inn]));
    took
}

fn epoll_ready(n: u32) -> i64 {
    let ep = ok!(call!(SYS_epoll_create1, 0)) as i32;
    let event = ok!(call!(SYS_eventfd2, 1, 0)) as i32;
    let mut entry = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
    ok!(call!(SYS_epoll_ctl, ep, libc::EPOLL_CTL_ADD, event, &entry));
    let took = timed(n, || check!(ok!(call!(SYS_epoll_wait, ep, &mut entry, 1, -1)) == 1));
    closing(&[ep, event]);
    took
}

fn eventfd_pair(n: u32) -> i64 {
    let fd = ok!(call!(SYS_eventfd2, 0, 0)) as i32;
    let took = timed(n, || {
        ok!(write(fd, &1u64.to_ne_bytes()));
        ok!(read(fd, &mut [0; 8]));
    });
    closing(&[fd]);
    took
}

fn unix_round_trip(n: u32) -> i64 {
    let mut fds = [0i32; 2];
    ok!(call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr()));
    let pid = child(|| {
        for _ in 0..n {
            ok!(read(fds[1], &mut [0]));
            ok!(write(fds[1], b"x"));
        }
    });
    let took = timed(n, || {
        ok!(write(fds[0], b"x"));
        ok!(read(fds[0], &mut [0]));
    });
    check!(wait(pid) == End::Exit(0));
    closing(&fds);
    took
}
