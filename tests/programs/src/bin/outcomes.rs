//! Not a test: cases that end in every way a case can, for the test of the runner (`tests/runner.rs`).

use guest_programs::process::{child, in_child};
use guest_programs::{Case, call, cases, check, eq, err, ok, run};

const CASES: &[Case] = cases![
    passes,
    fails_a_check,
    fails_an_equality,
    fails_a_call,
    fails_an_error,
    fails_in_child,
    fails_in_thread,
    panics,
    crashes,
    exits_early,
    hangs: 1,
    hangs_with_everything_blocked: 1,
    leaves_processes_behind: 5,
    passes_after_all_that,
];

fn main() {
    run(&[CASES], &[("helper", |args| args.len() as i32 + 40)])
}

fn passes() {}

fn fails_a_check() {
    check!(1 > 2);
}

fn fails_an_equality() {
    eq!(1 + 1, 3);
}

fn fails_a_call() {
    ok!(call!(SYS_close, -1));
}

fn fails_an_error() {
    err!(call!(SYS_getpid), EPERM | ENOENT);
}

fn fails_in_child() {
    in_child(|| in_child(|| check!(false, "deep down")));
}

fn fails_in_thread() {
    let _ = std::thread::spawn(|| check!(false, "in a thread")).join();
    loop {
        let _ = call!(SYS_pause);
    }
}

fn panics() {
    panic!("on purpose");
}

fn crashes() {
    guest_programs::signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
    guest_programs::mem::poke(8, 1u8);
}

fn exits_early() {
    guest_programs::sys::exit_group(5);
}

fn hangs() {
    loop {
        let _ = call!(SYS_pause);
    }
}

fn hangs_with_everything_blocked() {
    guest_programs::signal::block(&(1..=64).collect::<Vec<_>>());
    hangs();
}

fn leaves_processes_behind() {
    for _ in 0..3 {
        child(hangs);
    }
}

fn passes_after_all_that() {
    guest_programs::fs::scratch();
    guest_programs::fs::put(c"left-behind", b"", 0o644);
}
