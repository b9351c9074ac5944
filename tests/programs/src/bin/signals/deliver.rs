//! kill, tgkill, process groups; who gets a signal and what it is told.

use guest_programs::process::{End, child, end_of, finish, in_child, kill, wait};
use guest_programs::signal::{block, count, counted, handle, pending, raise, set, take, unblock};
use guest_programs::sync::{Gate, until};
use guest_programs::sys::{getpid, getppid, gettid};
use guest_programs::{Case, call, cases, check, eq, err, ok, signal};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    kill_by_number,
    kill_errors,
    kill_own_process_delivers_before_return,
    kill_group,
    kill_own_group,
    kill_everybody_spares_sender,
    tgkill_reaches_that_thread,
    tgkill_errors,
    process_signal_goes_to_a_thread_that_takes_it,
    sender_is_told,
    child_death_is_told,
    child_signal_on_stop_and_continue,
    child_signal_no_stop_flag,
    child_signal_ignored_reaps,
    child_signal_nocldwait_reaps,
    permission_to_signal,
    kill_reaches_a_busy_process,
    kill_reaches_a_blocked_process,
    kill_beats_everything,
    sigpipe_on_write,
];

fn pause_forever() {
    loop {
        let _ = call!(SYS_pause);
    }
}

fn kill_by_number() {
    let ready = Gate::new();
    let pid = child(|| {
        block(&[libc::SIGUSR1]);
        ready.open();
        eq!(take(&[libc::SIGUSR1]).si_signo, libc::SIGUSR1);
    });
    ready.pass();
    eq!(kill(pid, 0), Ok(0));
    eq!(kill(pid, libc::SIGUSR1), Ok(0));
    eq!(wait(pid), End::Exit(0));
}

fn kill_errors() {
    err!(kill(getpid(), 65), EINVAL);
    err!(kill(getpid(), -1), EINVAL);
    err!(kill(0x3fff_ffff, 0), ESRCH);
    err!(kill(-0x3fff_ffff, 0), ESRCH);
    err!(kill(i32::MIN, libc::SIGTERM), ESRCH);
    eq!(kill(getpid(), 0), Ok(0));
    eq!(kill(0, 0), Ok(0));
}

fn kill_own_process_delivers_before_return() {
    handle(libc::SIGUSR1, 0, count);
    for n in 1..=1000 {
        ok!(kill(getpid(), libc::SIGUSR1));
        eq!(counted(), n);
    }
    // Unblocking delivers before it returns, too.
    for n in 1..=100 {
        block(&[libc::SIGUSR1]);
        ok!(kill(getpid(), libc::SIGUSR1));
        eq!(counted(), 999 + n);
        unblock(&[libc::SIGUSR1]);
        eq!(counted(), 1000 + n);
    }
}

fn kill_group() {
    let ready = Gate::new();
    let leader = child(|| {
        ok!(call!(SYS_setpgid, 0, 0));
        ready.open();
        pause_forever();
    });
    ready.pass();
    let member = child(|| {
        ok!(call!(SYS_setpgid, 0, leader));
        ready.open();
        pause_forever();
    });
    ready.pass();
    let outsider = child(pause_forever);
    eq!(kill(-leader, 0), Ok(0));
    eq!(kill(-leader, libc::SIGTERM), Ok(0));
    eq!(wait(leader), End::Signal(libc::SIGTERM));
    eq!(wait(member), End::Signal(libc::SIGTERM));
    eq!(kill(outsider, 0), Ok(0));
    finish(outsider);
    err!(kill(-leader, 0), ESRCH);
}

fn kill_own_group() {
    handle(libc::SIGUSR1, 0, count);
    let ready = Gate::new();
    let pids = [0, 1].map(|_| {
        child(|| {
            ready.open();
            until(|| counted() == 1);
        })
    });
    pids.iter().for_each(|_| ready.pass());
    eq!(kill(0, libc::SIGUSR1), Ok(0));
    eq!(counted(), 1);
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn kill_everybody_spares_sender() {
    // Signal 0 to all: success if there is anybody but process 1 and the caller.
    let other = child(pause_forever);
    eq!(kill(-1, 0), Ok(0));
    finish(other);
}

fn tgkill_reaches_that_thread() {
    static WHO: AtomicI32 = AtomicI32::new(0);
    extern "C" fn who(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        WHO.store(gettid(), SeqCst);
    }
    handle(libc::SIGUSR1, 0, who);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (send, receive) = std::sync::mpsc::channel();
            let stop = stop.clone();
            let handle = std::thread::spawn(move || {
                let _ = send.send(gettid());
                while !stop.load(SeqCst) {
                    std::thread::yield_now();
                }
            });
            (ok!(receive.recv()), handle)
        })
        .collect();
    for _ in 0..50 {
        for (tid, _) in &threads {
            ok!(call!(SYS_tgkill, getpid(), *tid, libc::SIGUSR1));
            until(|| WHO.load(SeqCst) == *tid);
        }
    }
    ok!(call!(SYS_tkill, gettid(), libc::SIGUSR1));
    eq!(WHO.load(SeqCst), gettid());
    stop.store(true, SeqCst);
    threads.into_iter().for_each(|(_, t)| check!(t.join().is_ok()));
}

fn tgkill_errors() {
    let (pid, tid) = (getpid(), gettid());
    eq!(call!(SYS_tgkill, pid, tid, 0), Ok(0));
    err!(call!(SYS_tgkill, pid, 0, 0), EINVAL);
    err!(call!(SYS_tgkill, 0, tid, 0), EINVAL);
    err!(call!(SYS_tgkill, -1, tid, 0), EINVAL);
    err!(call!(SYS_tgkill, pid, tid, 65), EINVAL);
    err!(call!(SYS_tgkill, getppid(), tid, 0), ESRCH);
    err!(call!(SYS_tgkill, pid, 0x3fff_ffff, 0), ESRCH);
    err!(call!(SYS_tkill, 0, 0), EINVAL);
    err!(call!(SYS_tkill, 0x3fff_ffff, 0), ESRCH);
}

fn process_signal_goes_to_a_thread_that_takes_it() {
    static WHO: AtomicI32 = AtomicI32::new(0);
    extern "C" fn who(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        WHO.store(gettid(), SeqCst);
    }
    handle(libc::SIGUSR1, 0, who);
    let (send, receive) = std::sync::mpsc::channel();
    // The thread that does not block it sleeps in the kernel and must be woken for it.
    let open = std::thread::spawn(move || {
        ok!(send.send(gettid()));
        until(|| WHO.load(SeqCst) != 0);
    });
    let tid = ok!(receive.recv());
    block(&[libc::SIGUSR1]);
    ok!(kill(getpid(), libc::SIGUSR1));
    check!(open.join().is_ok());
    eq!(WHO.load(SeqCst), tid);
    // Nobody takes it: it stays pending for the process, and the first to unblock it gets it.
    ok!(kill(getpid(), libc::SIGUSR1));
    check!(std::thread::spawn(|| eq!(pending(), set(&[libc::SIGUSR1]))).join().is_ok());
    unblock(&[libc::SIGUSR1]);
    eq!(WHO.load(SeqCst), gettid());
}

fn sender_is_told() {
    block(&[libc::SIGUSR1, libc::SIGUSR2]);
    let me = getpid();
    let pid = child(|| {
        ok!(kill(me, libc::SIGUSR1));
        ok!(call!(SYS_tgkill, me, me, libc::SIGUSR2));
    });
    for (signal, code) in [(libc::SIGUSR1, libc::SI_USER), (libc::SIGUSR2, libc::SI_TKILL)] {
        let info = take(&[signal]);
        eq!((info.si_signo, info.si_code, info.si_errno), (signal, code, 0));
        // SAFETY: the kernel fills these for signals sent by a process.
        eq!(unsafe { (info.si_pid(), info.si_uid()) }, (pid, 0));
    }
    eq!(wait(pid), End::Exit(0));
}

fn child_death_is_told() {
    block(&[libc::SIGCHLD]);
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &none, 0));
    for (body, code, status) in [
        ((|| guest_programs::sys::exit_group(7)) as fn(), libc::CLD_EXITED, 7),
        (|| raise(libc::SIGKILL), libc::CLD_KILLED, libc::SIGKILL),
    ] {
        let pid = child(body);
        let info = take(&[libc::SIGCHLD]);
        // SAFETY: the kernel fills these for SIGCHLD.
        let seen = unsafe { (info.si_code, info.si_pid(), info.si_status(), info.si_uid()) };
        eq!(seen, (code, pid, status, 0));
        wait(pid);
    }
}

fn child_signal_on_stop_and_continue() {
    block(&[libc::SIGCHLD]);
    let pid = child(pause_forever);
    for (signal, code) in [(libc::SIGSTOP, libc::CLD_STOPPED), (libc::SIGCONT, libc::CLD_CONTINUED)] {
        ok!(kill(pid, signal));
        let info = take(&[libc::SIGCHLD]);
        // SAFETY: as above.
        eq!(unsafe { (info.si_code, info.si_pid(), info.si_status()) }, (code, pid, signal));
    }
    finish(pid);
}

fn child_signal_no_stop_flag() {
    block(&[libc::SIGCHLD]);
    handle(libc::SIGCHLD, libc::SA_NOCLDSTOP, count);
    let pid = child(pause_forever);
    ok!(kill(pid, libc::SIGSTOP));
    eq!(guest_programs::process::wait_with(pid, libc::WUNTRACED), Ok((pid, End::Stopped(libc::SIGSTOP))));
    eq!(pending(), 0);
    ok!(kill(pid, libc::SIGKILL));
    eq!(take(&[libc::SIGCHLD]).si_code, libc::CLD_KILLED);
    wait(pid);
}

fn child_signal_ignored_reaps() {
    signal::dispose(libc::SIGCHLD, libc::SIG_IGN);
    let pid = child(|| {});
    // Waits for the last child, then says there is none.
    err!(call!(SYS_wait4, pid, 0, 0, 0), ECHILD);
    err!(kill(pid, 0), ESRCH);
}

fn child_signal_nocldwait_reaps() {
    handle(libc::SIGCHLD, libc::SA_NOCLDWAIT | libc::SA_RESTART, count);
    let pid = child(|| {});
    until(|| counted() == 1);
    err!(call!(SYS_wait4, pid, 0, 0, 0), ECHILD);
}

fn permission_to_signal() {
    let stay = Gate::new();
    let pid = child(|| stay.pass());
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(kill(pid, 0), EPERM);
        err!(kill(pid, libc::SIGKILL), EPERM);
        err!(call!(SYS_tgkill, pid, pid, libc::SIGKILL), EPERM);
    });
    stay.open();
    eq!(wait(pid), End::Exit(0));
}

fn kill_reaches_a_busy_process() {
    // It never enters the kernel by itself.
    let ready = Gate::new();
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let pid = child(|| {
            ready.open();
            loop {
                std::hint::spin_loop();
            }
        });
        ready.pass();
        ok!(kill(pid, signal));
        eq!(wait(pid), End::Signal(signal));
    }
}

fn kill_reaches_a_blocked_process() {
    let (out, _inn) = ok!(guest_programs::sys::pipe(0));
    let word = std::sync::atomic::AtomicU32::new(0);
    let sleeps: [&dyn Fn(); 4] = [
        &|| _ = guest_programs::sys::read(out, &mut [0]),
        &|| guest_programs::time::sleep(1_000_000 * guest_programs::time::SECOND),
        &|| _ = guest_programs::sync::futex_wait(&word, 0),
        &|| _ = call!(SYS_poll, 0, 0, -1),
    ];
    for sleep in sleeps {
        let ready = Gate::new();
        let pid = child(|| {
            ready.open();
            sleep();
        });
        ready.pass();
        ok!(kill(pid, libc::SIGKILL));
        eq!(wait(pid), End::Signal(libc::SIGKILL));
    }
}

fn kill_beats_everything() {
    let end = end_of(|| {
        block(&(1..=64).collect::<Vec<_>>());
        ok!(kill(getpid(), libc::SIGTERM));
        ok!(kill(getpid(), libc::SIGSTOP - 2));
        ok!(kill(getpid(), libc::SIGKILL));
        guest_programs::sys::exit_group(0);
    });
    eq!(end, End::Signal(libc::SIGKILL));
    // A stopped process dies at once.
    let pid = child(pause_forever);
    ok!(kill(pid, libc::SIGSTOP));
    ok!(guest_programs::process::wait_with(pid, libc::WUNTRACED));
    // Other signals wait for it to continue.
    ok!(kill(pid, libc::SIGTERM));
    eq!(guest_programs::process::wait_with(pid, libc::WNOHANG), Ok((0, End::Exit(0))));
    ok!(kill(pid, libc::SIGKILL));
    eq!(wait(pid), End::Signal(libc::SIGKILL));
}

fn sigpipe_on_write() {
    let (out, inn) = ok!(guest_programs::sys::pipe(0));
    ok!(guest_programs::sys::close(out));
    eq!(end_of(|| _ = guest_programs::sys::write(inn, b"x")), End::Signal(libc::SIGPIPE));
    signal::dispose(libc::SIGPIPE, libc::SIG_IGN);
    err!(guest_programs::sys::write(inn, b"x"), EPIPE);
    handle(libc::SIGPIPE, 0, count);
    err!(guest_programs::sys::write(inn, b"x"), EPIPE);
    eq!(counted(), 1);
}
