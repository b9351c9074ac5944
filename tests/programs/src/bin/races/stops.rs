//! Whoever sees in `/proc` that a child has stopped, or goes on, is told so by `wait`.

use guest_programs::process::{End, child, finish, kill, wait_with};
use guest_programs::sync::{Gate, until};
use guest_programs::time::rounds;
use guest_programs::{Case, call, cases, eq, fs, ok};

pub const CASES: &[Case] = cases![stopped_is_waited_for, continued_is_waited_for, killed_is_not_stopped];

/// The letter that `/proc` shows for a process.
fn state(pid: i32) -> u8 {
    let text = fs::text(&fs::cstr(&format!("/proc/{pid}/stat")));
    text.rsplit(')').next().map_or(0, |rest| rest.as_bytes()[1])
}

fn idle() -> i32 {
    child(|| {
        loop {
            let _ = call!(SYS_pause);
        }
    })
}

fn stopped_is_waited_for() {
    fs::need_proc();
    let pid = idle();
    for _ in rounds(3000) {
        ok!(kill(pid, libc::SIGSTOP));
        until(|| state(pid) == b'T');
        eq!(wait_with(pid, libc::WUNTRACED | libc::WNOHANG), Ok((pid, End::Stopped(libc::SIGSTOP))));
        ok!(kill(pid, libc::SIGCONT));
    }
    finish(pid);
}

fn continued_is_waited_for() {
    fs::need_proc();
    let pid = idle();
    let asked = Gate::new();
    // Somebody else sends the signal, and so is not done with that when it is seen to work.
    let other = child(|| {
        loop {
            asked.pass();
            ok!(kill(pid, libc::SIGCONT));
        }
    });
    for _ in rounds(3000) {
        ok!(kill(pid, libc::SIGSTOP));
        eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
        asked.open();
        until(|| state(pid) != b'T');
        eq!(wait_with(pid, libc::WCONTINUED | libc::WNOHANG), Ok((pid, End::Continued)));
    }
    finish(other);
    finish(pid);
}

/// A stop that nobody has waited for is over with the kill, before the process has ended.
fn killed_is_not_stopped() {
    fs::need_proc();
    for _ in rounds(1000) {
        let pid = idle();
        ok!(kill(pid, libc::SIGSTOP));
        until(|| state(pid) == b'T');
        ok!(kill(pid, libc::SIGKILL));
        eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Signal(libc::SIGKILL))));
    }
}
