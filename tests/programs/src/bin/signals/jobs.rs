//! Stopping and continuing.

use guest_programs::process::{End, child, finish, kill, wait, wait_with};
use guest_programs::signal::{count, counted, handle, raise};
use guest_programs::sync::{Gate, until};
use guest_programs::{Case, call, cases, check, eq, mem, ok};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    stop_halts_all_threads,
    continue_discards_stop,
    stop_discards_continue,
    continue_runs_handler,
    stop_signals_in_a_group_with_a_parent,
    stop_twice_reports_once,
    child_stops_itself,
];

fn counting_child(counter: &'static AtomicU32) -> i32 {
    let ready = Gate::new();
    let pid = child(|| {
        ready.open();
        loop {
            counter.fetch_add(1, SeqCst);
        }
    });
    ready.pass();
    pid
}

fn moves(counter: &AtomicU32) {
    let before = counter.load(SeqCst);
    until(|| counter.load(SeqCst) != before);
}

fn stop_halts_all_threads() {
    let page = mem::shared(mem::PAGE);
    let counters: [&'static AtomicU32; 3] = [mem::at(page), mem::at(page + 64), mem::at(page + 128)];
    let pid = child(|| {
        let spin = move |i: usize| {
            loop {
                counters[i].fetch_add(1, SeqCst);
            }
        };
        std::thread::spawn(move || spin(0));
        std::thread::spawn(move || spin(1));
        spin(2);
    });
    counters.iter().for_each(|c| moves(c));
    ok!(kill(pid, libc::SIGSTOP));
    eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
    // Reported only when all have stopped.
    let before = counters.map(|c| c.load(SeqCst));
    guest_programs::time::sleep(20 * guest_programs::time::MILLI);
    eq!(counters.map(|c| c.load(SeqCst)), before);
    ok!(kill(pid, libc::SIGCONT));
    counters.iter().for_each(|c| moves(c));
    finish(pid);
}

fn continue_discards_stop() {
    let pid = child(|| {
        guest_programs::signal::block(&[libc::SIGTSTP]);
        raise(libc::SIGTSTP);
        check!(guest_programs::signal::pending() != 0);
        raise(libc::SIGCONT);
        eq!(guest_programs::signal::pending(), 0);
        guest_programs::signal::unblock(&[libc::SIGTSTP]);
    });
    eq!(wait(pid), End::Exit(0));
}

fn stop_discards_continue() {
    handle(libc::SIGCONT, 0, count);
    guest_programs::signal::block(&[libc::SIGCONT, libc::SIGTSTP]);
    raise(libc::SIGCONT);
    raise(libc::SIGTSTP);
    eq!(guest_programs::signal::pending(), guest_programs::signal::set(&[libc::SIGTSTP]));
    raise(libc::SIGCONT);
    eq!(guest_programs::signal::pending(), guest_programs::signal::set(&[libc::SIGCONT]));
}

fn continue_runs_handler() {
    let page: &'static AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let ready = Gate::new();
    let pid = child(|| {
        handle(libc::SIGCONT, 0, count);
        ready.open();
        until(|| counted() == 1);
        page.store(1, SeqCst);
        until(|| counted() == 2);
    });
    ready.pass();
    ok!(kill(pid, libc::SIGSTOP));
    eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
    eq!(page.load(SeqCst), 0);
    ok!(kill(pid, libc::SIGCONT));
    until(|| page.load(SeqCst) == 1);
    // It runs the handler of a process that was not stopped, too.
    ok!(kill(pid, libc::SIGCONT));
    eq!(wait(pid), End::Exit(0));
}

fn stop_signals_in_a_group_with_a_parent() {
    // A group of its own with the parent in another group of the same session is not orphaned: these stop it.
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGSTOP] {
        let pid = child(|| {
            ok!(call!(SYS_setpgid, 0, 0));
            raise(signal);
        });
        eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(signal))));
        ok!(kill(pid, libc::SIGCONT));
        eq!(wait(pid), End::Exit(0));
    }
}

fn stop_twice_reports_once() {
    let counter: &'static AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let pid = counting_child(counter);
    ok!(kill(pid, libc::SIGSTOP));
    eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
    ok!(kill(pid, libc::SIGSTOP));
    eq!(wait_with(pid, libc::WUNTRACED | libc::WNOHANG), Ok((0, End::Exit(0))));
    ok!(kill(pid, libc::SIGCONT));
    moves(counter);
    finish(pid);
}

fn child_stops_itself() {
    let pid = child(|| {
        for _ in 0..5 {
            raise(libc::SIGSTOP);
        }
    });
    for _ in 0..5 {
        eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
        ok!(kill(pid, libc::SIGCONT));
    }
    eq!(wait(pid), End::Exit(0));
}
