//! What the kernel's fast paths cost: prints `NAME nanoseconds-per-operation` lines, the best of several rounds, and
//! `bench: done` at the end.
//!
//! `bench [--rounds N] [--fixed] [--times N] [SUBSTRING…]`: the benchmarks whose names are or contain a word. Each has a
//! process of its own, so that one that fails (a `FAIL` line) leaves the others alone, and so that none runs as process 1,
//! which kernels treat specially. A round takes 20 ms at least; there are N of them (default 5). With `--fixed` there is one
//! round of a fixed number of operations: under a clock that counts instructions the result is the same each time. With
//! `--times` there is one round of N operations, and none before it: whoever counts something else from outside takes the
//! difference of two runs.
//! The clock is CLOCK_MONOTONIC.

mod files;
mod ipc;
mod memory;
mod process;
mod signals;
mod switch;

use guest_programs::harness::print;
use guest_programs::process::{End, child, wait};
use guest_programs::sys::exit_group;
use guest_programs::time::{MILLI, now};
use guest_programs::{call, check, fs, mem, ok, signal};
use std::hint::black_box;

/// A benchmark: does its operation that many times and gives how long that took, nanoseconds.
type Run = fn(u32) -> i64;

/// The least a calibrated round may take, nanoseconds.
const ROUND: i64 = 20 * MILLI;

/// Name, operations in a fixed round, body. Bodies that do two operations at a time take an even number.
const ALL: &[(&str, u32, Run)] = &[
    ("clock_vdso", 20_000, |n| timed(n, || _ = black_box(now()))),
    ("clock_syscall", 10_000, |n| timed(n, || _ = guest_programs::time::clock(libc::CLOCK_MONOTONIC))),
    ("syscall_getppid", 20_000, |n| timed(n, || _ = call!(SYS_getppid))),
    ("read_zero_bytes", 10_000, files::read_nothing),
    ("open_close", 5_000, files::open_close),
    ("create_unlink", 2_000, files::create_unlink),
    ("stat", 5_000, |n| timed(n, || _ = ok!(fs::stat(c"/tmp")))),
    ("stat_deep", 5_000, files::stat_deep),
    ("stat_absent", 5_000, |n| timed(n, || _ = fs::stat(c"/tmp/there-is-no-such-file"))),
    ("list_directory", 1_000, files::list_directory),
    ("file_write_4k", 2_000, files::write_4k),
    ("file_read_4k", 5_000, files::read_4k),
    ("file_read_one_byte", 5_000, files::read_one_byte),
    ("page_fault_anonymous", 2_048, memory::fault_anonymous),
    ("page_fault_cow", 1_024, memory::fault_cow),
    ("page_fault_file", 2_048, memory::fault_file),
    ("page_fault_file_write", 1_024, memory::fault_file_write),
    ("mmap_munmap", 5_000, |n| timed(n, || _ = mem::munmap(mem::anon(mem::PAGE), mem::PAGE))),
    ("mmap_touch_munmap", 2_000, memory::map_touch_unmap),
    ("mprotect", 5_000, memory::protect),
    ("brk", 2_000, memory::brk),
    ("switch_pipe", 2_000, switch::pipe),
    ("switch_pipe_one_cpu", 2_000, |n| switch::on_one_cpu(|| switch::pipe(n))),
    ("switch_futex", 2_000, switch::futex),
    ("switch_futex_one_cpu", 2_000, |n| switch::on_one_cpu(|| switch::futex(n))),
    ("futex_wake_nobody", 5_000, switch::wake_nobody),
    ("yield_alone", 5_000, |n| timed(n, guest_programs::sys::yield_now)),
    ("yield_to_other", 2_000, |n| switch::on_one_cpu(|| switch::yield_to_other(n))),
    ("thread_create_join", 300, |n| timed(n, || _ = std::thread::spawn(|| ()).join())),
    ("fork_exit_wait", 100, |n| timed(n, || check!(wait(child(|| ())) == End::Exit(0)))),
    ("fork_exit_wait_16m", 20, process::fork_with_memory),
    ("vfork_exec_tiny_wait", 100, process::exec_tiny),
    ("fork_exec_wait", 20, process::exec_self),
    ("signal_self", 5_000, signals::to_self),
    ("signal_install", 5_000, |n| timed(n, || signal::dispose(libc::SIGUSR2, libc::SIG_IGN))),
    ("signal_mask", 5_000, signals::mask),
    ("signal_other", 1_000, signals::to_other),
    ("fault_to_handler", 2_000, signals::fault_to_handler),
    ("pipe_64k", 200, ipc::pipe_64k),
    ("pipe_one_byte", 5_000, ipc::pipe_one_byte),
    ("pipe_create_close", 2_000, ipc::pipe_create_close),
    ("poll_ten", 5_000, ipc::poll_ten),
    ("epoll_ready", 5_000, ipc::epoll_ready),
    ("eventfd_pair", 5_000, ipc::eventfd_pair),
    ("unix_stream_round_trip", 1_000, ipc::unix_round_trip),
    ("unix_stream_64k", 200, ipc::unix_64k),
];

/// How often a benchmark is run.
#[derive(Clone, Copy)]
enum Rounds {
    /// One round of the fixed number of operations
    Fixed,
    /// One round of so many operations, without one to warm up
    Times(u32),
    /// So many rounds, each of at least [`ROUND`]
    Calibrated(u32),
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut rounds, mut words) = (Rounds::Calibrated(5), vec![]);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "@true" => exit_group(0),
            "--fixed" => rounds = Rounds::Fixed,
            "--rounds" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) if n > 0 => rounds = Rounds::Calibrated(n),
                _ => usage("--rounds needs a number"),
            },
            "--times" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) if n > 0 => rounds = Rounds::Times(n),
                _ => usage("--times needs a number"),
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
        .filter(|(name, _, _)| words.is_empty() || words.iter().any(|word| chooses(word, name)))
        .collect();
    if chosen.is_empty() {
        usage("no benchmark of that name");
    }
    guest_programs::harness::locate();
    let _ = call!(SYS_mkdir, c"/tmp", 0o1777);
    let mut failed = false;
    for (name, count, run) in chosen {
        let end = end_of_child(|| {
            let _ = guest_programs::check::CASE.set(name);
            print(&format!("{name} {:.1}\n", cost(rounds, *count, *run)));
        });
        if end != End::Exit(0) {
            failed = true;
            print(&format!("FAIL {name}: {end:?}\n"));
        }
    }
    print("bench: done\n");
    exit_group(i32::from(failed));
}

/// A benchmark's whole name chooses it alone.
fn chooses(word: &str, name: &str) -> bool {
    let whole = ALL.iter().any(|(other, _, _)| *other == word);
    if whole { name == word } else { name.contains(word) }
}

fn usage(why: &str) -> ! {
    print(&format!("{why}; usage: bench [--list] [--rounds N] [--fixed] [--times N] [SUBSTRING…]\n"));
    exit_group(2)
}

/// As `process::wait`, but a failed child is only told of.
fn end_of_child(body: impl FnOnce()) -> End {
    let pid = child(body);
    match guest_programs::process::wait_with(pid, libc::__WALL) {
        Ok((_, end)) => end,
        Err(error) => guest_programs::fail!("wait4: {error:?}"),
    }
}

/// Nanoseconds one operation takes.
fn cost(rounds: Rounds, count: u32, run: Run) -> f64 {
    let each = |n: u32, took: i64| took as f64 / f64::from(n);
    let few = (count / 10).next_multiple_of(2);
    match rounds {
        Rounds::Times(n) => each(n, run(n)),
        Rounds::Fixed => {
            run(few);
            each(count, run(count))
        }
        Rounds::Calibrated(rounds) => {
            let (mut n, mut took) = (few, run(few));
            loop {
                // Once warm, operations are faster: some more than the last round suggests.
                n = ((ROUND * 5 / 4 * i64::from(n) / took.max(1)).clamp(4, 1 << 24) as u32)
                    .next_multiple_of(2);
                took = run(n);
                if took >= ROUND || n >= 1 << 24 {
                    break;
                }
            }
            (1..rounds).map(|_| run(n)).fold(each(n, took), |best, took| best.min(each(n, took)))
        }
    }
}

fn timed(n: u32, mut operation: impl FnMut()) -> i64 {
    let start = now();
    for _ in 0..n {
        operation();
    }
    now() - start
}

fn closing(fds: &[i32]) {
    fds.iter().for_each(|fd| _ = ok!(guest_programs::sys::close(*fd)));
}
