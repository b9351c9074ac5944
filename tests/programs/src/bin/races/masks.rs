//! A signal that is blocked, or awaited, does nothing by itself, however narrowly it comes before or after that.

use guest_programs::process::{End, child, kill, wait};
use guest_programs::signal::{block, set, unblock};
use guest_programs::sync::until;
use guest_programs::sys::yield_now;
use guest_programs::time::{rounds, timespec};
use guest_programs::{Case, call, cases, eq, mem, ok};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

pub const CASES: &[Case] = cases![nobody_dies_while_it_is_blocked, nobody_dies_of_what_is_awaited];

fn nobody_dies_while_it_is_blocked() {
    let [inside, moves] = [0, 64].map({
        let page = mem::shared(mem::PAGE);
        move |offset| mem::at::<AtomicU32>(page + offset)
    });
    for round in rounds(3000) {
        inside.store(0, SeqCst);
        moves.store(0, SeqCst);
        let pid = child(|| {
            loop {
                block(&[libc::SIGTERM]);
                inside.store(1, SeqCst);
                (0..100).for_each(|_| spin_loop());
                inside.store(0, SeqCst);
                unblock(&[libc::SIGTERM]);
                moves.fetch_add(1, SeqCst);
            }
        });
        until(|| moves.load(SeqCst) > 2);
        (0..round % 200).for_each(|_| spin_loop());
        ok!(kill(pid, libc::SIGTERM));
        eq!(wait(pid), End::Signal(libc::SIGTERM));
        eq!(inside.load(SeqCst), 0);
    }
}

fn nobody_dies_of_what_is_awaited() {
    let over: &AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let ready: &AtomicU32 = mem::at(over.as_ptr() as usize + 64);
    let pid = child(|| {
        block(&[libc::SIGUSR1]);
        ready.store(1, SeqCst);
        while over.load(SeqCst) == 0 {
            let _ = call!(SYS_rt_sigtimedwait, &set(&[libc::SIGUSR1]), 0, &timespec(0), 8);
        }
    });
    until(|| ready.load(SeqCst) == 1);
    for round in rounds(200_000) {
        // Once it is dead nobody takes them any more, and that is told below.
        let _ = kill(pid, libc::SIGUSR1);
        if round % 16 == 0 {
            yield_now();
        }
    }
    over.store(1, SeqCst);
    eq!(wait(pid), End::Exit(0));
}
