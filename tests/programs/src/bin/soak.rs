//! Endurance: many forks and execs, or a mixed load on all CPUs, after which the kernel must have as much free memory
//! as before.
//!
//! `soak fork N` makes N cycles of fork, exec and wait. `soak mixed S` loads all CPUs for S seconds. Without arguments:
//! 1000 cycles and 10 seconds. `--slack KIB` is how much less memory may be free afterwards: 0 by default for process 1,
//! which nobody disturbs; for others, among processes that it does not know, nothing is demanded by default. Prints the figures, then `ok`/`FAIL` lines and the totals like all other programs.

use guest_programs::harness::print;
use guest_programs::process::{End, execve, self_exe};
use guest_programs::sys::{close, exit_group, pipe, read, write, yield_now, zeroed};
use guest_programs::time::{MILLI, SECOND, now, sleep};
use guest_programs::{Case, Errno, call, cases, check, fail, fs, mem, ok};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const NONE: &[Case] = cases![];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a.starts_with('@')) {
        guest_programs::run(&[NONE], &[("true", |_: &[OsString]| 0)]);
    }
    guest_programs::harness::locate();
    match Plan::parse(&args) {
        Ok(plan) => exit_group(plan.run()),
        Err(why) => {
            print(&format!("{why}; usage: soak [fork N] [mixed SECONDS] [--slack KIB]\n"));
            exit_group(2);
        }
    }
}

struct Plan {
    cycles: u64,
    seconds: u64,
    slack_kib: Option<u64>,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Plan, String> {
        let slack_kib = (guest_programs::sys::getpid() == 1).then_some(0);
        let mut plan = Plan { cycles: 0, seconds: 0, slack_kib };
        for pair in args.chunks(2) {
            let [what, number] = pair else { return Err(format!("{} needs a number", pair[0])) };
            let number = number.parse().map_err(|_| format!("{number} is no number"))?;
            match what.as_str() {
                "fork" => plan.cycles = number,
                "mixed" => plan.seconds = number,
                "--slack" => plan.slack_kib = Some(number),
                _ => return Err(format!("unknown word {what}")),
            }
        }
        if plan.cycles == 0 && plan.seconds == 0 {
            (plan.cycles, plan.seconds) = (1000, 10);
        }
        Ok(plan)
    }

    fn run(&self) -> i32 {
        // Processes orphaned by the load come here.
        let _ = call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let _ = call!(SYS_mkdir, c"/tmp", 0o1777);
        let mut failed = 0;
        let mut passed = 0;
        let mut part = |name: &str, wanted: bool, body: &dyn Fn()| {
            if wanted {
                if self.measured(name, body) { passed += 1 } else { failed += 1 }
            }
        };
        part("fork_exec_wait", self.cycles > 0, &|| fork_exec_wait(self.cycles));
        part("mixed_load", self.seconds > 0, &|| mixed_load(self.seconds));
        print(&format!("{passed} passed, {failed} failed\n"));
        i32::from(failed > 0)
    }

    /// Runs `body` in a child between two readings of free memory.
    fn measured(&self, name: &str, body: &dyn Fn()) -> bool {
        // Once for what a kernel keeps after first use.
        in_child(&|| fork_exec_wait(20));
        in_child(&|| mixed_load(1));
        let before = settled();
        let start = now();
        let end = in_child(body);
        let took = now() - start;
        let after = settled_at_least(before.saturating_sub(self.slack_kib.unwrap_or(0)));
        let lost = before as i64 - after as i64;
        print(&format!(
            "{name}: {} ms; free before {before} KiB, after {after} KiB, lost {lost} KiB\n",
            took / MILLI
        ));
        let why = if end != End::Exit(0) {
            format!("ended with {end:?}")
        } else if let Some(slack) = self.slack_kib.filter(|slack| lost > *slack as i64) {
            format!("{lost} KiB lost, {slack} allowed")
        } else {
            if self.slack_kib.is_none() {
                print(&format!(
                    "{name}: not process 1 and no --slack given, so the loss of memory is not judged\n"
                ));
            }
            print(&format!("ok {name}\n"));
            return true;
        };
        print(&format!("FAIL {name}: {why}\n"));
        false
    }
}

fn in_child(body: &dyn Fn()) -> End {
    let pid = guest_programs::process::child(body);
    let mut end = None;
    // Reap everything, orphans included.
    loop {
        match guest_programs::process::wait_with(-1, libc::__WALL) {
            Ok((reaped, how)) if reaped == pid => end = Some(how),
            Ok(_) | Err(Errno(libc::EINTR)) => {}
            Err(_) => return end.unwrap_or(End::Exit(99)),
        }
    }
}

/// Free memory, KiB.
fn free() -> u64 {
    let mut si: libc::sysinfo = zeroed();
    ok!(call!(SYS_sysinfo, &mut si));
    (si.freeram + si.bufferram) * u64::from(si.mem_unit) / 1024
}

/// Free memory once it has stopped changing (or after two seconds of changing).
fn settled() -> u64 {
    let mut last = free();
    for _ in 0..20 {
        sleep(100 * MILLI);
        let next = free();
        if next == last {
            break;
        }
        last = next;
    }
    last
}

/// As `settled`, giving work that is put off some seconds to be done.
fn settled_at_least(enough: u64) -> u64 {
    let end = now() + 5 * SECOND;
    loop {
        let free = settled();
        if free >= enough || now() > end {
            return free;
        }
    }
}

fn fork_exec_wait(cycles: u64) {
    for _ in 0..cycles {
        let pid = match call!(SYS_fork) {
            Ok(0) => {
                execve(self_exe(), &[c"true", c"@true"], &[]);
                exit_group(97)
            }
            Ok(pid) => pid as i32,
            Err(e) => fail!("fork: {e:?}"),
        };
        match guest_programs::process::wait_with(pid, 0) {
            Ok((_, End::Exit(0))) => {}
            other => fail!("child: {other:?}"),
        }
    }
}

/// Several processes for each CPU, each doing one sort of work over and over until the time is up.
fn mixed_load(seconds: u64) {
    let end = now() + seconds as i64 * SECOND;
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let done: &AtomicU64 = mem::at(mem::shared(mem::PAGE));
    let sorts: [(&str, fn()); 10] = [
        ("fork", fork_tree),
        ("exec", || fork_exec_wait(3)),
        ("memory", map_and_fault),
        ("cow", copy_on_write),
        ("files", files),
        ("pipes", pipes),
        ("threads", threads),
        ("signals", signals),
        ("sockets", sockets),
        ("faults", faults),
    ];
    let mut pids = vec![];
    for _ in 0..cpus {
        for (name, work) in sorts {
            pids.push((
                name,
                guest_programs::process::child(|| {
                    fs::scratch();
                    while now() < end {
                        work();
                        done.fetch_add(1, SeqCst);
                    }
                    ok!(call!(SYS_chdir, c"/"));
                    let path = format!("/tmp/guest-programs.{}", guest_programs::sys::getpid());
                    check!(std::fs::remove_dir_all(path).is_ok());
                }),
            ));
        }
    }
    for (name, pid) in pids {
        let end = guest_programs::process::wait(pid);
        check!(end == End::Exit(0), "{name}: {end:?}");
    }
    print(&format!("mixed load: {} rounds of work on {cpus} CPUs\n", done.load(SeqCst)));
}

fn fork_tree() {
    let pids =
        [0; 4].map(|_| guest_programs::process::child(|| guest_programs::process::in_child(yield_now)));
    pids.into_iter().for_each(|pid| check!(guest_programs::process::wait(pid) == End::Exit(0)));
}

fn map_and_fault() {
    let at = mem::anon(128 * mem::PAGE);
    (0..128).for_each(|i| mem::poke(at + i * mem::PAGE, i));
    (0..128).step_by(3).for_each(|i| _ = ok!(mem::munmap(at + i * mem::PAGE, mem::PAGE)));
    (1..128).step_by(3).for_each(|i| check!(mem::peek::<usize>(at + i * mem::PAGE) == i));
    ok!(mem::munmap(at, 128 * mem::PAGE));
}

fn copy_on_write() {
    let at = mem::anon(64 * mem::PAGE);
    (0..64).for_each(|i| mem::poke(at + i * mem::PAGE, i));
    guest_programs::process::in_child(|| (0..64).for_each(|i| mem::poke(at + i * mem::PAGE, i + 1)));
    (0..64).for_each(|i| check!(mem::peek::<usize>(at + i * mem::PAGE) == i));
    ok!(mem::munmap(at, 64 * mem::PAGE));
}

fn files() {
    for i in 0..10 {
        fs::put(&fs::cstr(&format!("f{i}")), &vec![i as u8; 10_000], 0o644);
    }
    ok!(call!(SYS_rename, c"f1", c"f2"));
    check!(ok!(fs::get(c"f2")) == vec![1; 10_000]);
    (0..10).filter(|i| *i != 1).for_each(|i| _ = ok!(call!(SYS_unlink, &*fs::cstr(&format!("f{i}")))));
}

fn pipes() {
    let (out, inn) = ok!(pipe(0));
    let pid = guest_programs::process::child(|| {
        ok!(close(out));
        ok!(guest_programs::sys::write_all(inn, &[5; 200_000]));
    });
    ok!(close(inn));
    check!(ok!(guest_programs::sys::read_all(out)).len() == 200_000);
    ok!(close(out));
    check!(guest_programs::process::wait(pid) == End::Exit(0));
}

fn threads() {
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, SeqCst);
    let threads: Vec<_> = (0..6)
        .map(|i| {
            std::thread::spawn(move || {
                if i == 0 {
                    sleep(MILLI);
                    STOP.store(true, SeqCst);
                }
                while !STOP.load(SeqCst) {
                    yield_now();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn signals() {
    guest_programs::signal::handle(libc::SIGUSR1, 0, guest_programs::signal::count);
    (0..200).for_each(|_| guest_programs::signal::raise(libc::SIGUSR1));
    let pid = guest_programs::process::child(|| {
        loop {
            let _ = call!(SYS_pause);
        }
    });
    guest_programs::process::finish(pid);
}

fn sockets() {
    let mut fds = [0i32; 2];
    ok!(call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr()));
    for _ in 0..50 {
        check!(ok!(write(fds[0], &[1; 1000])) == 1000);
        check!(ok!(read(fds[1], &mut [0; 1000])) == 1000);
    }
    // One end goes away with data unread.
    check!(ok!(write(fds[0], &[1; 1000])) == 1000);
    fds.iter().for_each(|fd| _ = ok!(close(*fd)));
}

fn faults() {
    let pid = guest_programs::process::child(|| {
        guest_programs::signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &none, 0));
        mem::poke(8, 1u8);
    });
    check!(guest_programs::process::wait(pid) == End::Signal(libc::SIGSEGV));
}
