//! How threads and their process end.

use guest_programs::process::{End, child, child_status, end_of, execve, self_exe, wait};
use guest_programs::sync::{await_change, until};
use guest_programs::sys::{exit_group, exit_thread, getpid, gettid};
use guest_programs::{Case, Helper, call, cases, check, eq, err, mem, ok};
use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

pub const CASES: &[Case] = cases![
    exit_group_from_any_thread: 60,
    exit_of_one_thread_only,
    main_thread_exits_first,
    exec_from_main_thread: 60,
    exec_from_other_thread: 60,
    exec_failure_keeps_threads,
    fork_from_thread_has_one_thread,
    children_belong_to_the_process,
    kill_ends_all_threads: 60,
    signal_stop_reports_once,
    exit_while_others_fork: 60,
];

pub const HELPERS: &[Helper] = &[("check-number", check_number)];

/// Exit status 33 if the process number is the one given and there is one thread only.
fn check_number(args: &[OsString]) -> i32 {
    let expected: i32 = args.first().and_then(|a| a.to_str()).and_then(|a| a.parse().ok()).unwrap_or(0);
    if getpid() == expected && gettid() == expected { 33 } else { 34 }
}

fn pause_forever() {
    loop {
        let _ = call!(SYS_pause);
    }
}

fn spin_forever() {
    loop {
        std::hint::spin_loop();
    }
}

/// Starts threads of all sorts: sleeping, spinning, in system calls.
fn crowd() {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let start = |body: fn()| {
        thread::spawn(move || {
            STARTED.fetch_add(1, SeqCst);
            body();
        });
    };
    start(pause_forever);
    start(spin_forever);
    start(|| guest_programs::time::sleep(1000 * guest_programs::time::SECOND));
    start(|| _ = guest_programs::sync::futex_wait(&AtomicU32::new(0), 0));
    start(|| until(|| false));
    until(|| STARTED.load(SeqCst) == 5);
}

fn exit_group_from_any_thread() {
    for round in 0..10 {
        let pid = child(|| {
            crowd();
            if round % 2 == 0 {
                exit_group(round);
            }
            thread::spawn(move || exit_group(round));
            pause_forever();
        });
        eq!(wait(pid), End::Exit(round));
    }
}

fn exit_of_one_thread_only() {
    let pid = child_status(|| {
        // The others go on when one leaves by `exit`.
        for _ in 0..10 {
            thread::spawn(|| exit_thread(9));
        }
        thread::spawn(|| 5).join().unwrap_or(0)
    });
    eq!(wait(pid), End::Exit(5));
}

fn main_thread_exits_first() {
    // The process lives until its last thread ends, and ends with the main thread's status or exit_group's.
    let word: &'static AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let pid = child(|| {
        thread::spawn(|| {
            await_change(word, 0);
            exit_group(21);
        });
        exit_thread(1)
    });
    eq!(guest_programs::process::wait_with(pid, libc::WNOHANG), Ok((0, End::Exit(0))));
    eq!(guest_programs::process::kill(pid, 0), Ok(0));
    word.store(1, SeqCst);
    ok!(guest_programs::sync::futex_wake(word, 1));
    eq!(wait(pid), End::Exit(21));
}

fn execs(from_other: bool) {
    for _ in 0..5 {
        let pid = child(|| {
            crowd();
            let number = guest_programs::fs::cstr(&getpid().to_string());
            let run = move || {
                let why = execve(self_exe(), &[c"x", c"@check-number", &number], &[]);
                guest_programs::fail!("execve: {why:?}");
            };
            if from_other {
                thread::spawn(run);
                pause_forever();
            } else {
                run();
            }
        });
        eq!(wait(pid), End::Exit(33));
    }
}

fn exec_from_main_thread() {
    execs(false);
}

fn exec_from_other_thread() {
    // The caller takes the number of the process, all others end.
    execs(true);
}

fn exec_failure_keeps_threads() {
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    thread::spawn(|| {
        loop {
            ROUNDS.fetch_add(1, SeqCst);
        }
    });
    eq!(execve(c"/no/such/file", &[c"x"], &[]).0, libc::ENOENT);
    let before = ROUNDS.load(SeqCst);
    until(|| ROUNDS.load(SeqCst) != before);
    check!(thread::spawn(|| eq!(execve(c"/", &[c"x"], &[]).0, libc::EACCES)).join().is_ok());
}

fn fork_from_thread_has_one_thread() {
    crowd();
    let pid = thread::spawn(|| {
        child(|| {
            eq!(getpid(), gettid());
            // Alone: ending this thread ends the process.
            exit_thread(17)
        })
    });
    eq!(wait(ok!(pid.join().map_err(|_| "panic"))), End::Exit(17));
}

fn children_belong_to_the_process() {
    // A child made by one thread is waited for by another, also when its maker is gone.
    let pid = ok!(thread::spawn(|| child_status(|| 12)).join().map_err(|_| "panic"));
    eq!(thread::spawn(move || wait(pid)).join().ok(), Some(End::Exit(12)));
    // Unless the waiter asks for its own children only.
    let pid = ok!(thread::spawn(|| child_status(|| 13)).join().map_err(|_| "panic"));
    let foreign = thread::spawn(move || call!(SYS_wait4, pid, 0, libc::__WNOTHREAD, 0));
    err!(ok!(foreign.join().map_err(|_| "panic")), ECHILD);
    eq!(wait(pid), End::Exit(13));
}

fn kill_ends_all_threads() {
    for _ in 0..10 {
        let ready = guest_programs::sync::Gate::new();
        let pid = child(|| {
            crowd();
            ready.open();
            pause_forever();
        });
        ready.pass();
        ok!(guest_programs::process::kill(pid, libc::SIGKILL));
        eq!(wait(pid), End::Signal(libc::SIGKILL));
        err!(guest_programs::process::kill(pid, 0), ESRCH);
    }
}

fn signal_stop_reports_once() {
    let ready = guest_programs::sync::Gate::new();
    let pid = child(|| {
        crowd();
        ready.open();
        pause_forever();
    });
    ready.pass();
    for _ in 0..5 {
        ok!(guest_programs::process::kill(pid, libc::SIGSTOP));
        let stopped = guest_programs::process::wait_with(pid, libc::WUNTRACED);
        eq!(stopped, Ok((pid, End::Stopped(libc::SIGSTOP))));
        ok!(guest_programs::process::kill(pid, libc::SIGCONT));
        eq!(guest_programs::process::wait_with(pid, libc::WCONTINUED), Ok((pid, End::Continued)));
    }
    guest_programs::process::finish(pid);
}

fn exit_while_others_fork() {
    // The process may go away in the middle of its own threads' forks and maps; nothing is left behind but orphans
    // that end by themselves.
    for _ in 0..5 {
        let end = end_of(|| {
            for _ in 0..3 {
                thread::spawn(|| {
                    loop {
                        if let Ok(0) = call!(SYS_fork) {
                            exit_group(0);
                        }
                        let at = mem::anon(4 * mem::PAGE);
                        mem::poke(at, 1u8);
                        ok!(mem::munmap(at, 4 * mem::PAGE));
                    }
                });
            }
            guest_programs::time::sleep(10 * guest_programs::time::MILLI);
            exit_group(3);
        });
        eq!(end, End::Exit(3));
    }
}
