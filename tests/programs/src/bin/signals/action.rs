//! sigaction, sigprocmask and their flags.

use guest_programs::process::{End, child, end_of, wait};
use guest_programs::signal::{
    self, COUNT, LAST, alternate_stack, count, counted, current_mask, dispose, handle, handle_masked,
    pending, raise, set,
};
use guest_programs::sys::{exit_group, zeroed};
use guest_programs::{Case, call, cases, check, eq, err, mem, ok};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    handler_runs_and_returns,
    old_action_is_given_back,
    action_errors,
    mask_operations,
    mask_never_blocks_kill_and_stop,
    mask_errors,
    handler_blocks_itself_and_its_mask,
    nodefer_lets_it_nest,
    resethand_is_one_shot,
    alternate_stack_is_used,
    alternate_stack_errors,
    alternate_stack_autodisarm,
    nested_handlers_of_different_signals,
    default_actions,
    ignored_signals_do_nothing,
    ignoring_discards_pending,
    handler_may_change_mask_for_afterwards,
];

fn handler_runs_and_returns() {
    for signal in (1..=64).filter(|s| ![9, 19, 32, 33].contains(s)) {
        handle(signal, 0, count);
        let before = counted();
        raise(signal);
        eq!((counted(), LAST.load(SeqCst)), (before + 1, signal));
    }
}

fn raw_action(signal: i32, new: usize, old: usize, size: usize) -> guest_programs::Sys {
    call!(SYS_rt_sigaction, signal, new, old, size)
}

fn old_action_is_given_back() {
    handle_masked(libc::SIGUSR1, libc::SA_RESTART | libc::SA_NODEFER, count, &[libc::SIGHUP, libc::SIGTERM]);
    // handler, flags, restorer, mask
    let mut old = [0usize; 4];
    eq!(raw_action(libc::SIGUSR1, 0, old.as_mut_ptr() as usize, 8), Ok(0));
    eq!(old[0], count as *const () as usize);
    let flags = libc::SA_RESTART | libc::SA_NODEFER | libc::SA_SIGINFO;
    eq!(old[1] as i32 & flags, flags);
    eq!(old[3] as u64, set(&[libc::SIGHUP, libc::SIGTERM]));
    // Kill and stop cannot be in the mask that is kept.
    handle_masked(libc::SIGUSR1, 0, count, &[libc::SIGKILL, libc::SIGSTOP, libc::SIGINT]);
    eq!(raw_action(libc::SIGUSR1, 0, old.as_mut_ptr() as usize, 8), Ok(0));
    eq!(old[3] as u64, set(&[libc::SIGINT]));
}

fn action_errors() {
    let new = [1usize, 0, 0, 0];
    let at = new.as_ptr() as usize;
    for signal in [0, -1, 65, 1000, libc::SIGKILL, libc::SIGSTOP] {
        err!(raw_action(signal, at, 0, 8), EINVAL);
    }
    // Asking about these two is allowed.
    let mut old = [9usize; 4];
    eq!(raw_action(libc::SIGKILL, 0, old.as_mut_ptr() as usize, 8), Ok(0));
    eq!(old[0], libc::SIG_DFL);
    err!(raw_action(libc::SIGUSR1, at, 0, 4), EINVAL);
    err!(raw_action(libc::SIGUSR1, mem::unmapped(), 0, 8), EFAULT);
    err!(raw_action(libc::SIGUSR1, 0, mem::KERNEL, 8), EFAULT);
}

fn mask_operations() {
    eq!(current_mask(), 0);
    eq!(signal::block(&[1, 2, 64]), 0);
    eq!(signal::block(&[3]), set(&[1, 2, 64]));
    eq!(signal::unblock(&[2]), set(&[1, 2, 3, 64]));
    eq!(signal::mask(libc::SIG_SETMASK, &[10]), set(&[1, 3, 64]));
    eq!(current_mask(), set(&[10]));
}

fn mask_never_blocks_kill_and_stop() {
    signal::block(&(1..=64).collect::<Vec<_>>());
    eq!(current_mask(), !set(&[libc::SIGKILL, libc::SIGSTOP]));
    eq!(end_of(|| raise(libc::SIGKILL)), End::Signal(libc::SIGKILL));
}

fn mask_errors() {
    let bits = 0u64;
    err!(call!(SYS_rt_sigprocmask, 3, &bits, 0, 8), EINVAL);
    err!(call!(SYS_rt_sigprocmask, -1, &bits, 0, 8), EINVAL);
    err!(call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &bits, 0, 4), EINVAL);
    err!(call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, mem::KERNEL, 0, 8), EFAULT);
    err!(call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, mem::KERNEL, 8), EFAULT);
    // With nothing to set the operation does not matter.
    let mut old = 9u64;
    eq!(call!(SYS_rt_sigprocmask, 77, 0, &mut old, 8), Ok(0));
    eq!(old, 0);
    err!(call!(SYS_rt_sigpending, mem::KERNEL, 8), EFAULT);
    err!(call!(SYS_rt_sigpending, &mut old, 9), EINVAL);
}

static MASK_SEEN: AtomicU64 = AtomicU64::new(0);
static PENDING_SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn look(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    MASK_SEEN.store(current_mask(), SeqCst);
    raise(signal);
    raise(libc::SIGUSR2);
    PENDING_SEEN.store(pending(), SeqCst);
    handle(signal, 0, count);
}

fn handler_blocks_itself_and_its_mask() {
    handle(libc::SIGUSR2, 0, count);
    handle_masked(libc::SIGUSR1, 0, look, &[libc::SIGUSR2, libc::SIGHUP]);
    signal::block(&[libc::SIGTERM]);
    raise(libc::SIGUSR1);
    eq!(MASK_SEEN.load(SeqCst), set(&[libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP, libc::SIGTERM]));
    eq!(PENDING_SEEN.load(SeqCst), set(&[libc::SIGUSR1, libc::SIGUSR2]));
    // Both were held back and came afterwards, and the mask is as before.
    eq!(counted(), 2);
    eq!(current_mask(), set(&[libc::SIGTERM]));
}

static DEPTH: AtomicUsize = AtomicUsize::new(0);

extern "C" fn again(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if DEPTH.fetch_add(1, SeqCst) < 9 {
        raise(signal);
    }
    COUNT.fetch_add(DEPTH.load(SeqCst), SeqCst);
}

fn nodefer_lets_it_nest() {
    handle(libc::SIGUSR1, libc::SA_NODEFER, again);
    raise(libc::SIGUSR1);
    // All ten were inside before the first returned.
    eq!((DEPTH.load(SeqCst), counted()), (10, 100));
    eq!(current_mask(), 0);
}

fn resethand_is_one_shot() {
    handle(libc::SIGUSR1, libc::SA_RESETHAND, count);
    raise(libc::SIGUSR1);
    eq!(counted(), 1);
    let mut old = [9usize; 4];
    eq!(raw_action(libc::SIGUSR1, 0, old.as_mut_ptr() as usize, 8), Ok(0));
    eq!(old[0], libc::SIG_DFL);
    eq!(end_of(|| raise(libc::SIGUSR1)), End::Signal(libc::SIGUSR1));
}

static STACK_SEEN: AtomicUsize = AtomicUsize::new(0);
static FLAGS_SEEN: AtomicUsize = AtomicUsize::new(99);

extern "C" fn where_am_i(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let here = 0u8;
    STACK_SEEN.store(std::hint::black_box(&here) as *const u8 as usize, SeqCst);
    let mut stack: libc::stack_t = zeroed();
    ok!(call!(SYS_sigaltstack, 0, &mut stack));
    FLAGS_SEEN.store(stack.ss_flags as usize, SeqCst);
    // While it is in use it cannot be changed.
    if stack.ss_flags & libc::SS_ONSTACK != 0 {
        err!(call!(SYS_sigaltstack, &stack, 0), EPERM);
    }
}

fn alternate_stack_is_used() {
    let size = 65536;
    let base = alternate_stack(size);
    let mut stack: libc::stack_t = zeroed();
    ok!(call!(SYS_sigaltstack, 0, &mut stack));
    eq!((stack.ss_sp as usize, stack.ss_size, stack.ss_flags), (base, size, 0));
    handle(libc::SIGUSR1, libc::SA_ONSTACK, where_am_i);
    handle(libc::SIGUSR2, 0, where_am_i);
    raise(libc::SIGUSR1);
    check!((base..base + size).contains(&STACK_SEEN.load(SeqCst)));
    eq!(FLAGS_SEEN.load(SeqCst), libc::SS_ONSTACK as usize);
    raise(libc::SIGUSR2);
    check!(!(base..base + size).contains(&STACK_SEEN.load(SeqCst)));
    eq!(FLAGS_SEEN.load(SeqCst), 0);
    // A child keeps it, a disabled one is not used.
    guest_programs::process::in_child(|| {
        raise(libc::SIGUSR1);
        check!((base..base + size).contains(&STACK_SEEN.load(SeqCst)));
    });
    stack.ss_flags = libc::SS_DISABLE;
    ok!(call!(SYS_sigaltstack, &stack, 0));
    raise(libc::SIGUSR1);
    check!(!(base..base + size).contains(&STACK_SEEN.load(SeqCst)));
}

fn alternate_stack_errors() {
    let at = mem::anon(65536);
    let small = libc::stack_t { ss_sp: at as *mut _, ss_flags: 0, ss_size: 1024 };
    err!(call!(SYS_sigaltstack, &small, 0), ENOMEM);
    let wrong = libc::stack_t { ss_sp: at as *mut _, ss_flags: 0x40, ss_size: 65536 };
    err!(call!(SYS_sigaltstack, &wrong, 0), EINVAL);
    err!(call!(SYS_sigaltstack, mem::KERNEL, 0), EFAULT);
    err!(call!(SYS_sigaltstack, 0, mem::KERNEL), EFAULT);
}

fn alternate_stack_autodisarm() {
    // SS_AUTODISARM: disabled while the handler runs, set again when it returns.
    let size = 65536;
    let at = mem::anon(size);
    let stack = libc::stack_t { ss_sp: at as *mut _, ss_flags: i32::MIN, ss_size: size };
    ok!(call!(SYS_sigaltstack, &stack, 0));
    handle(libc::SIGUSR1, libc::SA_ONSTACK, where_am_i);
    raise(libc::SIGUSR1);
    check!((at..at + size).contains(&STACK_SEEN.load(SeqCst)));
    eq!(FLAGS_SEEN.load(SeqCst) as i32, libc::SS_DISABLE);
    let mut now: libc::stack_t = zeroed();
    ok!(call!(SYS_sigaltstack, 0, &mut now));
    eq!((now.ss_sp as usize, now.ss_flags), (at, i32::MIN));
}

fn nested_handlers_of_different_signals() {
    static ORDER: AtomicU64 = AtomicU64::new(0);
    fn note(digit: u64) {
        ORDER.store(ORDER.load(SeqCst) * 10 + digit, SeqCst);
    }
    extern "C" fn nest(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let level = (signal - 34) as u64;
        note(level);
        if level < 4 {
            raise(signal + 1);
        }
        note(9 - level);
    }
    (35..=38).for_each(|s| handle(s, 0, nest));
    raise(35);
    eq!(ORDER.load(SeqCst), 12_345_678);
}

fn default_actions() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &none, 0));
    for signal in 1..=64 {
        if [32, 33].contains(&signal) {
            continue;
        }
        let pid = child(|| {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                dispose(signal, libc::SIG_DFL);
            }
            raise(signal);
            exit_group(42)
        });
        match signal {
            libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => eq!(wait(pid), End::Exit(42)),
            // The group of this session is orphaned, where the terminal's stop signals do nothing.
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => eq!(wait(pid), End::Exit(42)),
            libc::SIGSTOP => {
                let stopped = guest_programs::process::wait_with(pid, libc::WUNTRACED);
                eq!(stopped, Ok((pid, End::Stopped(signal))));
                ok!(guest_programs::process::kill(pid, libc::SIGCONT));
                eq!(wait(pid), End::Exit(42));
            }
            _ => eq!(wait(pid), End::Signal(signal)),
        }
    }
}

fn ignored_signals_do_nothing() {
    for signal in (1..=64).filter(|s| ![9, 19, 32, 33].contains(s)) {
        dispose(signal, libc::SIG_IGN);
        raise(signal);
    }
    eq!(pending(), 0);
}

fn ignoring_discards_pending() {
    handle(libc::SIGUSR1, 0, count);
    signal::block(&[libc::SIGUSR1, libc::SIGCHLD]);
    raise(libc::SIGUSR1);
    eq!(pending(), set(&[libc::SIGUSR1]));
    dispose(libc::SIGUSR1, libc::SIG_IGN);
    eq!(pending(), 0);
    handle(libc::SIGUSR1, 0, count);
    signal::unblock(&[libc::SIGUSR1]);
    eq!(counted(), 0);
    // A blocked signal whose default is to be ignored stays pending until the default is set anew.
    handle(libc::SIGCHLD, 0, count);
    raise(libc::SIGCHLD);
    dispose(libc::SIGCHLD, libc::SIG_DFL);
    eq!(pending(), 0);
}

fn handler_may_change_mask_for_afterwards() {
    extern "C" fn block_more(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext; its mask is what the return restores.
        let context = unsafe { &mut *(context as *mut libc::ucontext_t) };
        // SAFETY: a plain set within that structure.
        unsafe { libc::sigaddset(&mut context.uc_sigmask, libc::SIGHUP) };
        signal::block(&[libc::SIGTERM]);
    }
    handle(libc::SIGUSR1, 0, block_more);
    raise(libc::SIGUSR1);
    // What the frame says counts, not what the handler blocked.
    eq!(current_mask(), set(&[libc::SIGHUP]));
}
