//! What is sent to a process group reaches all of it, however its members come and go; and its number is its own.

use guest_programs::process::{End, child, clone_onto, kill, wait};
use guest_programs::sync::{Gate, until};
use guest_programs::sys::{close, open};
use guest_programs::time::rounds;
use guest_programs::{Case, Errno, call, cases, check, eq, fs, mem, ok, signal};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

pub const CASES: &[Case] =
    cases![group_is_killed_to_the_last, terminal_is_lost_by_all, group_number_stays_taken: 100];

/// Processes that each fork the next and end, in a group of their own.
fn chain(links: &AtomicU32) -> i32 {
    let group = child(|| {
        ok!(call!(SYS_setpgid, 0, 0));
        loop {
            // SAFETY: both processes go on in this loop, or end.
            match unsafe { libc::fork() } {
                0 => _ = links.fetch_add(1, SeqCst),
                -1 => guest_programs::sys::yield_now(),
                _ => guest_programs::sys::exit_group(0),
            }
        }
    });
    let _ = call!(SYS_setpgid, group, group);
    group
}

fn group_is_killed_to_the_last() {
    // What ends here is reaped at once.
    signal::dispose(libc::SIGCHLD, libc::SIG_IGN);
    ok!(call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    let links: &AtomicU32 = mem::at(mem::shared(mem::PAGE));
    for round in rounds(1000) {
        links.store(0, SeqCst);
        let group = chain(links);
        until(|| links.load(SeqCst) > 2 + round % 5);
        ok!(kill(-group, libc::SIGKILL));
        let told = links.load(SeqCst);
        // Those that have been killed end; that they do is all that is waited for.
        until(|| {
            let more = links.load(SeqCst) - told;
            check!(more < 10, "{more} processes of the group were made after it was killed");
            kill(-group, 0) == Err(Errno(libc::ESRCH))
        });
    }
}

/// A group outlives the process it is called by, whose number then is given to nobody.
fn group_number_stays_taken() {
    fs::need_proc();
    let (ready, over) = (Gate::new(), Gate::new());
    let first = child(|| {
        ok!(call!(SYS_setpgid, 0, 0));
        child(|| {
            ready.open();
            over.pass();
        });
    });
    eq!(wait(first), End::Exit(0));
    ready.pass();
    ok!(kill(-first, 0));
    let most: i32 = ok!(fs::text(c"/proc/sys/kernel/pid_max").trim().parse());
    // Where there are more numbers than that, it would take too long to come round to the first ones again.
    let rounds = most.min(40_000);
    let stack = mem::anon(mem::PAGE) + mem::PAGE;
    let mut last = first;
    let mut came_round = false;
    for _ in 0..rounds {
        let pid =
            ok!(clone_onto(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, stack, nothing, 0, 0, 0, 0));
        eq!(wait(pid), End::Exit(0));
        check!(pid != first, "the number of a group was given to a process");
        came_round |= pid < last;
        last = pid;
    }
    check!(came_round || most > rounds);
    over.open();
}

extern "C" fn nothing(_: usize) -> i32 {
    0
}

/// A session that loses its terminal loses it in all its processes.
fn terminal_is_lost_by_all() {
    fs::need_dev();
    // What ends here is reaped at once.
    signal::dispose(libc::SIGCHLD, libc::SIG_IGN);
    ok!(call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    let links: &AtomicU32 = mem::at(mem::shared(mem::PAGE));
    let [lost, stale] = [64, 128].map(|offset| mem::at::<AtomicU32>(links.as_ptr() as usize + offset));
    for round in rounds(1000) {
        let (master, slave) = terminal();
        links.store(0, SeqCst);
        lost.store(0, SeqCst);
        let leader = child(|| {
            ok!(call!(SYS_setsid));
            ok!(call!(SYS_ioctl, slave, libc::TIOCSCTTY, 0));
            (signal::dispose(libc::SIGHUP, libc::SIG_IGN), ok!(close(master)), ok!(close(slave)));
            child(|| {
                loop {
                    let late = lost.load(SeqCst) != 0;
                    // SAFETY: both processes go on in this loop, or end.
                    match unsafe { libc::fork() } {
                        0 if late && open(c"/dev/tty", libc::O_RDWR, 0) != Err(Errno(libc::ENXIO)) => {
                            stale.fetch_add(1, SeqCst);
                        }
                        0 => {}
                        -1 => guest_programs::sys::yield_now(),
                        _ => guest_programs::sys::exit_group(0),
                    }
                    links.fetch_add(1, SeqCst);
                }
            });
            loop {
                let _ = call!(SYS_pause);
            }
        });
        ok!(close(slave));
        until(|| links.load(SeqCst) > 2 + round % 5);
        ok!(close(master));
        lost.store(1, SeqCst);
        let told = links.load(SeqCst);
        until(|| links.load(SeqCst) > told + 5);
        eq!(stale.load(SeqCst), 0);
        ok!(kill(-leader, libc::SIGKILL));
        until(|| kill(-leader, 0) == Err(Errno(libc::ESRCH)));
    }
}

/// A pseudo-terminal: master and slave.
fn terminal() -> (i32, i32) {
    let path = if fs::stat(c"/dev/ptmx").is_ok() { c"/dev/ptmx" } else { c"/dev/pts/ptmx" };
    let master = ok!(open(path, libc::O_RDWR | libc::O_NOCTTY, 0));
    let (unlocked, mut number) = (0i32, -1i32);
    ok!(call!(SYS_ioctl, master, libc::TIOCSPTLCK, &unlocked));
    ok!(call!(SYS_ioctl, master, libc::TIOCGPTN, &mut number));
    (master, ok!(open(&fs::cstr(&format!("/dev/pts/{number}")), libc::O_RDWR | libc::O_NOCTTY, 0)))
}
