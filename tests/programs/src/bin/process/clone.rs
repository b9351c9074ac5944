//! clone and clone3: what each flag shares.

use guest_programs::process::{End, child, clone_onto, kill, wait, wait_with};
use guest_programs::sync::await_change;
use guest_programs::sys::{self, getpid, getppid};
use guest_programs::{Case, call, cases, check, eq, err, fs, mem, ok, signal};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    clone_vm_shares_memory,
    clone_files_shares_descriptors,
    clone_fs_shares_directory_and_umask,
    clone_sighand_shares_handlers,
    clone_sets_and_clears_numbers,
    clone_parent_makes_a_sibling,
    clone_settls,
    clone_with_other_exit_signal,
    clone_bad_flags,
    clone3_forks,
    killed_in_vfork,
    unshare_files_and_fs,
];

const STACK: usize = 128 * 1024;

fn start(flags: i32, entry: extern "C" fn(usize) -> i32, arg: usize) -> i32 {
    ok!(clone_onto(flags | libc::SIGCHLD, mem::stack(STACK), entry, arg, 0, 0, 0))
}

fn clone_vm_shares_memory() {
    static VALUE: AtomicI32 = AtomicI32::new(0);
    extern "C" fn set(value: usize) -> i32 {
        VALUE.store(value as i32, SeqCst);
        5
    }
    eq!(wait(start(libc::CLONE_VM, set, 11)), End::Exit(5));
    eq!(VALUE.load(SeqCst), 11);
    eq!(wait(start(0, set, 12)), End::Exit(5));
    eq!(VALUE.load(SeqCst), 11);
}

fn clone_files_shares_descriptors() {
    extern "C" fn dup_to(fd: usize) -> i32 {
        i32::from(call!(SYS_dup2, 1, fd).is_err())
    }
    eq!(wait(start(libc::CLONE_FILES, dup_to, 77)), End::Exit(0));
    eq!(call!(SYS_fcntl, 77, libc::F_GETFD), Ok(0));
    eq!(wait(start(0, dup_to, 78)), End::Exit(0));
    err!(call!(SYS_fcntl, 78, libc::F_GETFD), EBADF);
}

fn clone_fs_shares_directory_and_umask() {
    extern "C" fn change(_: usize) -> i32 {
        let _ = call!(SYS_umask, 0o111);
        i32::from(call!(SYS_chdir, c"/").is_err())
    }
    let cwd = || {
        let mut buf = [0u8; 256];
        let n = ok!(call!(SYS_getcwd, buf.as_mut_ptr(), buf.len()));
        buf[..n - 1].to_vec()
    };
    let directory = fs::scratch();
    eq!(wait(start(0, change, 0)), End::Exit(0));
    eq!(cwd(), directory.to_bytes());
    eq!(wait(start(libc::CLONE_FS, change, 0)), End::Exit(0));
    eq!(cwd(), b"/");
    eq!(call!(SYS_umask, 0), Ok(0o111));
}

fn clone_sighand_shares_handlers() {
    extern "C" fn ignore(_: usize) -> i32 {
        let action = [1usize, 0, 0, 0];
        i32::from(call!(SYS_rt_sigaction, libc::SIGUSR1, action.as_ptr(), 0, 8).is_err())
    }
    eq!(wait(start(libc::CLONE_VM | libc::CLONE_SIGHAND, ignore, 0)), End::Exit(0));
    let mut action = [9usize; 4];
    ok!(call!(SYS_rt_sigaction, libc::SIGUSR1, 0, action.as_mut_ptr(), 8));
    eq!(action[0], libc::SIG_IGN);
    signal::raise(libc::SIGUSR1);
}

fn clone_sets_and_clears_numbers() {
    extern "C" fn nothing(_: usize) -> i32 {
        0
    }
    let page = mem::anon(mem::PAGE);
    let (parent, child): (&AtomicU32, &AtomicU32) = (mem::at(page), mem::at(page + 64));
    child.store(u32::MAX, SeqCst);
    let flags = libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    let pid = ok!(clone_onto(flags, mem::stack(STACK), nothing, 0, page, page + 64, 0));
    eq!(parent.load(SeqCst), pid as u32);
    // Cleared, and waiters woken, when it ends.
    await_change(child, u32::MAX);
    eq!(child.load(SeqCst), 0);
    eq!(wait(pid), End::Exit(0));

    extern "C" fn same(word: usize) -> i32 {
        i32::from(mem::peek::<u32>(word) != getpid() as u32)
    }
    let flags = libc::CLONE_CHILD_SETTID | libc::SIGCHLD;
    eq!(wait(ok!(clone_onto(flags, mem::stack(STACK), same, page + 64, 0, page + 64, 0))), End::Exit(0));
    // The child's own copy was written, not ours.
    eq!(child.load(SeqCst), 0);
}

fn clone_parent_makes_a_sibling() {
    extern "C" fn sibling(expected: usize) -> i32 {
        i32::from(getppid() != expected as i32)
    }
    extern "C" fn middle(parent: usize) -> i32 {
        let flags = libc::CLONE_PARENT | libc::SIGCHLD;
        let made = clone_onto(flags, mem::stack(STACK), sibling, parent, 0, 0, 0);
        // It is not this process's child.
        let none = wait_with(-1, 0).is_err();
        i32::from(made.is_err() || !none)
    }
    let pid = start(0, middle, getpid() as usize);
    let ends = [ok!(wait_with(-1, 0)), ok!(wait_with(-1, 0))];
    check!(ends.iter().any(|(p, _)| *p == pid) && ends[0].0 != ends[1].0, "{ends:?}");
    check!(ends.iter().all(|(_, end)| *end == End::Exit(0)), "{ends:?}");
    err!(wait_with(-1, 0), ECHILD);
}

fn clone_settls() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn read_fs(_: usize) -> i32 {
        let value: usize;
        // SAFETY: the parent gave this task a mapped thread area.
        unsafe { std::arch::asm!("mov {}, fs:[8]", out(reg) value, options(nostack, readonly)) };
        SEEN.store(value, SeqCst);
        0
    }
    let area = mem::anon(mem::PAGE);
    mem::poke(area + 8, 0x1234_5678usize);
    let flags = libc::CLONE_VM | libc::CLONE_SETTLS | libc::SIGCHLD;
    let pid = ok!(clone_onto(flags, mem::stack(STACK), read_fs, 0, 0, 0, area));
    eq!(wait(pid), End::Exit(0));
    eq!(SEEN.load(SeqCst), 0x1234_5678);
    // The parent's own thread area is untouched.
    eq!(std::thread::current().id(), std::thread::current().id());
    err!(clone_onto(flags, mem::stack(STACK), read_fs, 0, 0, 0, mem::NON_CANONICAL), EPERM);
}

fn clone_with_other_exit_signal() {
    extern "C" fn nothing(_: usize) -> i32 {
        6
    }
    signal::handle(libc::SIGUSR2, libc::SA_RESTART, signal::count);
    let pid = ok!(clone_onto(libc::SIGUSR2, mem::stack(STACK), nothing, 0, 0, 0, 0));
    err!(wait_with(pid, 0), ECHILD);
    eq!(wait_with(pid, libc::__WCLONE), Ok((pid, End::Exit(6))));
    guest_programs::sync::until(|| signal::counted() == 1);
    // Without a signal at all.
    let pid = ok!(clone_onto(0, mem::stack(STACK), nothing, 0, 0, 0, 0));
    eq!(wait_with(pid, libc::__WALL), Ok((pid, End::Exit(6))));
    eq!(signal::counted(), 1);
}

fn clone_bad_flags() {
    for flags in [
        libc::CLONE_SIGHAND,
        libc::CLONE_THREAD,
        libc::CLONE_THREAD | libc::CLONE_SIGHAND,
        libc::CLONE_THREAD | libc::CLONE_VM,
        libc::CLONE_FS | libc::CLONE_NEWNS,
    ] {
        err!(call!(SYS_clone, flags, 0, 0, 0, 0), EINVAL);
    }
}

fn clone3_forks() {
    let mut args = [0u64; 8]; // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
    args[4] = libc::SIGCHLD as u64;
    let pid = ok!(call!(SYS_clone3, args.as_ptr(), 64)) as i32;
    if pid == 0 {
        sys::exit_group(44);
    }
    eq!(wait(pid), End::Exit(44));
    err!(call!(SYS_clone3, args.as_ptr(), 32), EINVAL);
    args[4] = 65;
    err!(call!(SYS_clone3, args.as_ptr(), 64), EINVAL);
    args[4] = 0;
    args[0] = libc::CLONE_SIGHAND as u64;
    err!(call!(SYS_clone3, args.as_ptr(), 64), EINVAL);
    args[0] = 0;
    args[5] = 4096;
    err!(call!(SYS_clone3, args.as_ptr(), 64), EINVAL);
    err!(call!(SYS_clone3, mem::unmapped(), 64), EFAULT);
}

/// Whoever waits for a vfork child can be killed, and the child lives on.
fn killed_in_vfork() {
    let (out, inn) = ok!(sys::pipe(0));
    let parent = child(|| {
        if ok!(call!(SYS_clone, libc::CLONE_VFORK | libc::SIGCHLD, 0, 0, 0, 0)) == 0 {
            ok!(sys::write(inn, &getpid().to_ne_bytes()));
            loop {
                let _interrupted = call!(SYS_pause);
            }
        }
        // It is killed in the wait before this.
        ok!(sys::write(inn, &[0; 4]));
    });
    let mut number = [0; 4];
    eq!(sys::read(out, &mut number), Ok(4));
    let grandchild = i32::from_ne_bytes(number);
    ok!(kill(parent, libc::SIGKILL));
    eq!(wait(parent), End::Signal(libc::SIGKILL));
    ok!(kill(grandchild, 0));
    ok!(kill(grandchild, libc::SIGKILL));
    ok!(sys::close(inn));
    // The last writer ends without a word of its parent's.
    eq!(sys::read_all(out), Ok(vec![]));
}

fn unshare_files_and_fs() {
    eq!(call!(SYS_unshare, libc::CLONE_FILES | libc::CLONE_FS), Ok(0));
    err!(call!(SYS_unshare, 1), EINVAL);
}
