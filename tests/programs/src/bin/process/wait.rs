//! wait4, waitid, orphans, resource usage.

use guest_programs::process::{End, child, child_status, finish, in_child, kill, wait, wait_with};
use guest_programs::sync::{Gate, until};
use guest_programs::sys::{self, exit_group, getpid, getppid, zeroed};
use guest_programs::{Case, Sys, call, cases, check, eq, err, ok, signal};
use std::sync::atomic::Ordering::SeqCst;

pub const CASES: &[Case] = cases![
    wait_without_children,
    wait_nohang,
    wait_chooses_by_number_and_group,
    wait_any_gets_each_once,
    wait_status_of_signals,
    wait_stopped_and_continued,
    wait_bad_options,
    wait_interrupted_by_handler,
    waitid_exit_fields,
    waitid_signal_fields,
    waitid_nowait_leaves_child,
    waitid_stop_and_continue,
    waitid_bad_arguments,
    zombies_have_numbers_until_reaped,
    zombies_keep_their_name,
    zombies_can_be_waited_for_as_soon_as_they_are_shown,
    orphans_get_a_new_parent,
    orphan_of_a_subreaper,
    usage_of_self_and_children,
    times_of_children,
];

fn wait_without_children() {
    err!(wait_with(-1, 0), ECHILD);
    err!(wait_with(-1, libc::WNOHANG), ECHILD);
    err!(wait_with(1, 0), ECHILD);
    err!(wait_with(getpid(), 0), ECHILD);
    err!(wait_with(i32::MIN, 0), ESRCH | ECHILD);
    // Waiting for a grandchild is not possible either.
    let gate = Gate::new();
    let number = guest_programs::mem::shared(4096);
    let pid = child(|| {
        let pid = child(|| gate.pass());
        guest_programs::mem::poke(number, pid);
        gate.send(b'g');
        eq!(wait(pid), End::Exit(0));
    });
    until(|| guest_programs::mem::peek::<i32>(number) != 0);
    err!(wait_with(guest_programs::mem::peek::<i32>(number), 0), ECHILD);
    eq!(wait(pid), End::Exit(0));
}

fn wait_nohang() {
    let gate = Gate::new();
    let pid = child(|| gate.pass());
    eq!(wait_with(pid, libc::WNOHANG), Ok((0, End::Exit(0))));
    eq!(wait_with(-1, libc::WNOHANG), Ok((0, End::Exit(0))));
    gate.open();
    until(|| ok!(wait_with(pid, libc::WNOHANG)).0 == pid);
    err!(wait_with(pid, libc::WNOHANG), ECHILD);
}

fn wait_chooses_by_number_and_group() {
    let gate = Gate::new();
    let first = child_status(|| 1);
    let second = child_status(|| {
        ok!(call!(SYS_setpgid, 0, 0));
        gate.open();
        2
    });
    gate.pass();
    eq!(wait_with(-second, 0), Ok((second, End::Exit(2))));
    err!(wait_with(-second, 0), ECHILD);
    eq!(wait_with(0, 0), Ok((first, End::Exit(1))));
    let third = child_status(|| 3);
    let fourth = child_status(|| 4);
    eq!(wait_with(fourth, 0), Ok((fourth, End::Exit(4))));
    eq!(wait_with(third, 0), Ok((third, End::Exit(3))));
}

fn wait_any_gets_each_once() {
    let mut pids: Vec<i32> = (0..20).map(|i| child_status(|| i)).collect();
    while !pids.is_empty() {
        let (pid, end) = ok!(wait_with(-1, 0));
        check!(matches!(end, End::Exit(0..20)), "{end:?}");
        let Some(at) = pids.iter().position(|p| *p == pid) else {
            guest_programs::fail!("{pid} is no child left")
        };
        pids.remove(at);
    }
    err!(wait_with(-1, 0), ECHILD);
}

fn wait_status_of_signals() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &none, 0));
    for signal in [libc::SIGHUP, libc::SIGKILL, libc::SIGSEGV, libc::SIGTERM, libc::SIGUSR2, 34, 64] {
        let pid = child(|| {
            if signal != libc::SIGKILL {
                signal::dispose(signal, libc::SIG_DFL);
            }
            signal::raise(signal);
            exit_group(1)
        });
        let mut status = 0i32;
        eq!(call!(SYS_wait4, pid, &mut status, 0, 0), Ok(pid as usize));
        // Low seven bits the signal; with no core file allowed, the eighth is clear.
        eq!(status, signal);
    }
}

fn wait_stopped_and_continued() {
    let pid = child(|| {
        loop {
            let _ = call!(SYS_pause);
        }
    });
    ok!(kill(pid, libc::SIGSTOP));
    eq!(wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
    // Reported once only.
    eq!(wait_with(pid, libc::WUNTRACED | libc::WNOHANG), Ok((0, End::Exit(0))));
    ok!(kill(pid, libc::SIGCONT));
    eq!(wait_with(pid, libc::WCONTINUED), Ok((pid, End::Continued)));
    eq!(wait_with(pid, libc::WCONTINUED | libc::WNOHANG), Ok((0, End::Exit(0))));
    ok!(kill(pid, libc::SIGSTOP));
    // Not asked for: not reported.
    eq!(wait_with(pid, libc::WNOHANG), Ok((0, End::Exit(0))));
    // A stopped process can be killed.
    ok!(kill(pid, libc::SIGKILL));
    eq!(wait_with(pid, 0), Ok((pid, End::Signal(libc::SIGKILL))));
}

fn wait_bad_options() {
    err!(call!(SYS_wait4, -1, 0, 0x1000, 0), EINVAL);
    err!(call!(SYS_wait4, -1, 0, libc::WEXITED, 0), EINVAL);
    let pid = child(|| {});
    err!(call!(SYS_wait4, pid, guest_programs::mem::KERNEL, 0, 0), EFAULT);
}

fn wait_interrupted_by_handler() {
    let gate = Gate::new();
    let pid = child(|| gate.pass());
    signal::handle(libc::SIGALRM, 0, signal::count);
    signal::tick(5);
    err!(call!(SYS_wait4, pid, 0, 0, 0), EINTR);
    // With SA_RESTART it goes on waiting, however many signals arrive.
    signal::handle(libc::SIGALRM, libc::SA_RESTART, signal::count);
    let start = signal::counted();
    let helper = child(|| {
        let parent = getppid();
        for _ in 0..200 {
            ok!(kill(parent, libc::SIGALRM));
        }
        gate.open();
    });
    eq!(call!(SYS_wait4, pid, 0, 0, 0), Ok(pid as usize));
    check!(signal::counted() > start);
    eq!(call!(SYS_wait4, helper, 0, 0, 0), Ok(helper as usize));
    signal::tick(0);
}

fn waitid(kind: u32, id: i32, options: i32) -> Sys<libc::siginfo_t> {
    let mut info: libc::siginfo_t = zeroed();
    info.si_signo = 99;
    call!(SYS_waitid, kind, id, &mut info, options, 0)?;
    Ok(info)
}

/// si_pid, si_uid, si_status.
fn fields(info: &libc::siginfo_t) -> (i32, u32, i32) {
    // SAFETY: the kernel fills these for SIGCHLD.
    unsafe { (info.si_pid(), info.si_uid(), info.si_status()) }
}

fn waitid_exit_fields() {
    let pid = child_status(|| 300);
    let info = ok!(waitid(libc::P_PID, pid, libc::WEXITED));
    eq!((info.si_signo, info.si_errno, info.si_code), (libc::SIGCHLD, 0, libc::CLD_EXITED));
    eq!(fields(&info), (pid, 0, 300 & 0xff));
    err!(waitid(libc::P_PID, pid, libc::WEXITED), ECHILD);
    // Nothing yet: success with a zero structure.
    let gate = Gate::new();
    let pid = child(|| gate.pass());
    let info = ok!(waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG));
    eq!((info.si_signo, fields(&info).0), (0, 0));
    gate.open();
    eq!(fields(&ok!(waitid(libc::P_PGID, 0, libc::WEXITED))).0, pid);
}

fn waitid_signal_fields() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &none, 0));
    let pid = child(|| signal::raise(libc::SIGTERM));
    let mut usage: libc::rusage = zeroed();
    let mut info: libc::siginfo_t = zeroed();
    eq!(call!(SYS_waitid, libc::P_PID, pid, &mut info, libc::WEXITED, &mut usage), Ok(0));
    eq!(info.si_code, libc::CLD_KILLED);
    eq!(fields(&info), (pid, 0, libc::SIGTERM));
}

fn waitid_nowait_leaves_child() {
    let pid = child_status(|| 7);
    for _ in 0..3 {
        let info = ok!(waitid(libc::P_PID, pid, libc::WEXITED | libc::WNOWAIT));
        eq!(fields(&info), (pid, 0, 7));
    }
    eq!(wait(pid), End::Exit(7));
}

fn waitid_stop_and_continue() {
    let pid = child(|| {
        loop {
            let _ = call!(SYS_pause);
        }
    });
    ok!(kill(pid, libc::SIGSTOP));
    let info = ok!(waitid(libc::P_PID, pid, libc::WSTOPPED | libc::WNOWAIT));
    eq!((info.si_code, fields(&info)), (libc::CLD_STOPPED, (pid, 0, libc::SIGSTOP)));
    let info = ok!(waitid(libc::P_PID, pid, libc::WSTOPPED));
    eq!((info.si_code, fields(&info)), (libc::CLD_STOPPED, (pid, 0, libc::SIGSTOP)));
    ok!(kill(pid, libc::SIGCONT));
    let info = ok!(waitid(libc::P_PID, pid, libc::WCONTINUED));
    eq!((info.si_code, fields(&info)), (libc::CLD_CONTINUED, (pid, 0, libc::SIGCONT)));
    finish(pid);
}

fn waitid_bad_arguments() {
    let pid = child(|| {});
    err!(waitid(libc::P_PID, pid, 0), EINVAL);
    err!(waitid(libc::P_PID, pid, libc::WNOHANG), EINVAL);
    err!(waitid(libc::P_PID, pid, libc::WEXITED | 0x1000), EINVAL);
    err!(waitid(17, pid, libc::WEXITED), EINVAL);
    err!(waitid(libc::P_PID, 0, libc::WEXITED), EINVAL);
    err!(waitid(libc::P_PID, -5, libc::WEXITED), EINVAL);
    eq!(wait(pid), End::Exit(0));
}

fn zombies_have_numbers_until_reaped() {
    let pid = child_status(|| 3);
    ok!(waitid(libc::P_PID, pid, libc::WEXITED | libc::WNOWAIT));
    eq!(kill(pid, 0), Ok(0));
    eq!(kill(pid, libc::SIGKILL), Ok(0));
    eq!(call!(SYS_getpgid, pid), Ok(ok!(call!(SYS_getpgid, 0))));
    eq!(wait(pid), End::Exit(3));
    err!(kill(pid, 0), ESRCH);
    err!(call!(SYS_getpgid, pid), ESRCH);
}

/// What `/proc/PID/stat` says of a process: its name and the letter of its state.
fn name_and_state(pid: i32) -> (String, char) {
    let line =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that was not waited for");
    let (start, rest) = line.rsplit_once(") ").expect("a name in parentheses");
    let name = start.split_once('(').expect("a name in parentheses").1;
    (name.to_string(), rest.chars().next().expect("a state"))
}

fn zombies_keep_their_name() {
    let pid = child(|| {
        ok!(call!(SYS_prctl, libc::PR_SET_NAME, c"late".as_ptr()));
    });
    ok!(waitid(libc::P_PID, pid, libc::WEXITED | libc::WNOWAIT));
    eq!(name_and_state(pid), ("late".to_string(), 'Z'));
    eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm"), "late\n");
    eq!(wait(pid), End::Exit(0));
}

fn zombies_can_be_waited_for_as_soon_as_they_are_shown() {
    for _ in 0..300 {
        let pid = child(|| {});
        while name_and_state(pid).1 != 'Z' {}
        eq!(wait_with(pid, libc::WNOHANG), Ok((pid, End::Exit(0))));
    }
}

fn orphans_get_a_new_parent() {
    // The runner is process 1 or a subreaper: either way its number is what the orphan sees.
    let runner = getppid();
    let seen = guest_programs::mem::shared(4096);
    let word: &std::sync::atomic::AtomicU32 = guest_programs::mem::at(seen);
    in_child(|| {
        let middle = getpid();
        child(|| {
            until(|| getppid() != middle);
            word.store(getppid() as u32, SeqCst);
            guest_programs::sync::futex_wake(word, 1).ok();
        });
    });
    guest_programs::sync::await_change(word, 0);
    eq!(word.load(SeqCst) as i32, runner);
}

fn orphan_of_a_subreaper() {
    ok!(call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    let mut flag = 0i32;
    ok!(call!(SYS_prctl, libc::PR_GET_CHILD_SUBREAPER, &mut flag, 0, 0, 0));
    eq!(flag, 1);
    let me = getpid();
    let middle = child(|| {
        let middle = getpid();
        child_status(|| {
            until(|| getppid() != middle);
            if getppid() == me { 55 } else { 56 }
        });
    });
    eq!(wait(middle), End::Exit(0));
    let (_, end) = ok!(wait_with(-1, 0));
    eq!(end, End::Exit(55));
    err!(wait_with(-1, 0), ECHILD);
}

fn burn() {
    let mut usage: libc::rusage = zeroed();
    until(|| {
        (0..10_000u64).fold(0, |a, b| std::hint::black_box(a ^ b));
        ok!(call!(SYS_getrusage, libc::RUSAGE_SELF, &mut usage));
        usage.ru_utime.tv_sec * 1_000_000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec > 60_000
    });
}

fn usage_of_self_and_children() {
    let micros = |u: &libc::rusage| {
        (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1_000_000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec
    };
    let mut usage: libc::rusage = zeroed();
    ok!(call!(SYS_getrusage, libc::RUSAGE_CHILDREN, &mut usage));
    eq!(micros(&usage), 0);
    let pid = child(burn);
    let mut of_child: libc::rusage = zeroed();
    eq!(call!(SYS_wait4, pid, 0, 0, &mut of_child), Ok(pid as usize));
    check!(micros(&of_child) >= 60_000, "{} us", micros(&of_child));
    check!(of_child.ru_maxrss > 0);
    check!(of_child.ru_minflt > 0);
    ok!(call!(SYS_getrusage, libc::RUSAGE_CHILDREN, &mut usage));
    check!(micros(&usage) >= 60_000);
    burn();
    ok!(call!(SYS_getrusage, libc::RUSAGE_SELF, &mut usage));
    check!(micros(&usage) >= 60_000);
    ok!(call!(SYS_getrusage, libc::RUSAGE_THREAD, &mut usage));
    check!(micros(&usage) >= 60_000);
    err!(call!(SYS_getrusage, 5, &mut usage), EINVAL);
    err!(call!(SYS_getrusage, libc::RUSAGE_SELF, 0), EFAULT);
}

fn times_of_children() {
    let mut before: libc::tms = zeroed();
    let start = ok!(call!(SYS_times, &mut before));
    eq!((before.tms_cutime, before.tms_cstime), (0, 0));
    in_child(burn);
    let mut after: libc::tms = zeroed();
    check!(ok!(call!(SYS_times, &mut after)) >= start + 5);
    check!(after.tms_cutime + after.tms_cstime >= 5);
    check!(call!(SYS_times, 0).is_ok());
    let _ = sys::gettid();
}
