//! fork and vfork: what a child gets, shares and does not get.

use guest_programs::process::{self, End, child, child_status, end_of, in_child, wait};
use guest_programs::sync::Gate;
use guest_programs::sys::{self, close, getpid, getppid, lseek, open, read, zeroed};
use guest_programs::{Case, call, cases, check, eq, fs, mem, ok, signal};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    fork_gives_numbers,
    fork_copies_memory,
    fork_shares_offsets_not_descriptors,
    fork_inherits_signal_dispositions_and_mask,
    fork_clears_pending_signals_and_timers,
    fork_inherits_directory_umask_and_limits,
    fork_in_fork,
    fork_many_at_once: 60,
    fork_from_deep_stack,
    vfork_child_first_in_shared_memory,
    vfork_parent_waits_for_exec,
    exit_status_is_eight_bits,
    exit_closes_descriptors,
    exit_runs_no_handlers_of_others,
];

fn fork_gives_numbers() {
    let parent = getpid();
    let gate = Gate::new();
    let pid = child(|| {
        eq!(getppid(), parent);
        check!(getpid() != parent);
        eq!(sys::gettid(), getpid());
        gate.open();
        let seen = gate.receive();
        eq!(seen, b'!');
    });
    check!(pid > 0);
    gate.open();
    eq!(wait(pid), End::Exit(0));
    // The C library agrees with the kernel, also after a fork.
    in_child(|| eq!(std::process::id() as i32, getpid()));
}

fn fork_copies_memory() {
    static DATA: AtomicU64 = AtomicU64::new(1);
    let heap = Box::new(AtomicU64::new(2));
    let stack = AtomicU64::new(3);
    let shared = mem::shared(mem::PAGE);
    in_child(|| {
        eq!((DATA.load(SeqCst), heap.load(SeqCst), stack.load(SeqCst)), (1, 2, 3));
        DATA.store(10, SeqCst);
        heap.store(20, SeqCst);
        stack.store(30, SeqCst);
        mem::poke(shared, 40u64);
    });
    eq!((DATA.load(SeqCst), heap.load(SeqCst), stack.load(SeqCst)), (1, 2, 3));
    eq!(mem::peek::<u64>(shared), 40);
}

fn fork_shares_offsets_not_descriptors() {
    fs::scratch();
    fs::put(c"f", b"abcdef", 0o644);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    in_child(|| {
        let mut two = [0; 2];
        eq!(read(fd, &mut two), Ok(2));
        eq!(&two, b"ab");
        ok!(close(fd));
    });
    let mut two = [0; 2];
    eq!(read(fd, &mut two), Ok(2));
    eq!(&two, b"cd");
    eq!(lseek(fd, 0, libc::SEEK_CUR), Ok(4));
}

fn fork_inherits_signal_dispositions_and_mask() {
    signal::handle(libc::SIGUSR1, 0, signal::count);
    signal::dispose(libc::SIGUSR2, libc::SIG_IGN);
    signal::block(&[libc::SIGHUP]);
    in_child(|| {
        eq!(signal::current_mask(), signal::set(&[libc::SIGHUP]));
        signal::raise(libc::SIGUSR1);
        signal::raise(libc::SIGUSR2);
        eq!(signal::counted(), 1);
    });
    eq!(signal::counted(), 0);
}

fn fork_clears_pending_signals_and_timers() {
    signal::block(&[libc::SIGUSR1]);
    signal::raise(libc::SIGUSR1);
    ok!(call!(SYS_alarm, 1000));
    in_child(|| {
        eq!(signal::pending(), 0);
        eq!(call!(SYS_alarm, 0), Ok(0));
    });
    eq!(signal::pending(), signal::set(&[libc::SIGUSR1]));
    check!(ok!(call!(SYS_alarm, 0)) > 0);
}

fn fork_inherits_directory_umask_and_limits() {
    let path = fs::scratch();
    ok!(call!(SYS_umask, 0o135));
    let limit = libc::rlimit { rlim_cur: 1234, rlim_max: 5678 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &limit, 0));
    in_child(|| {
        eq!(
            std::env::current_dir().map(|d| d.to_string_lossy().into_owned()).ok().as_deref(),
            path.to_str().ok()
        );
        eq!(call!(SYS_umask, 0), Ok(0o135));
        let mut limit: libc::rlimit = zeroed();
        ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, 0, &mut limit));
        eq!((limit.rlim_cur, limit.rlim_max), (1234, 5678));
        ok!(call!(SYS_chdir, c"/"));
    });
    eq!(call!(SYS_umask, 0o022), Ok(0o135));
    check!(fs::stat(&path).is_ok());
    let mut buf = [0u8; 256];
    let n = ok!(call!(SYS_getcwd, buf.as_mut_ptr(), buf.len()));
    eq!(&buf[..n], path.as_bytes_with_nul());
}

fn fork_in_fork() {
    fn down(depth: i32) -> i32 {
        if depth == 0 {
            return 0;
        }
        match wait(child_status(|| down(depth - 1))) {
            End::Exit(below) => below + 1,
            _ => 99,
        }
    }
    eq!(down(12), 12);
}

fn fork_many_at_once() {
    const N: i32 = 60;
    let start = Gate::new();
    let ready = Gate::new();
    let pids: Vec<i32> = (0..N)
        .map(|i| {
            child_status(|| {
                ready.open();
                start.pass();
                i
            })
        })
        .collect();
    (0..N).for_each(|_| ready.pass());
    let mut unique = pids.clone();
    unique.sort_unstable();
    unique.dedup();
    eq!(unique.len(), N as usize);
    (0..N).for_each(|_| start.open());
    for (i, pid) in pids.into_iter().enumerate() {
        eq!(wait(pid), End::Exit(i as i32));
    }
}

fn fork_from_deep_stack() {
    #[inline(never)]
    fn deep(depth: u32) -> u64 {
        let frame = [u64::from(depth); 128];
        let frame = std::hint::black_box(&frame);
        if depth == 0 {
            in_child(|| eq!(frame[127], 0));
            return 0;
        }
        frame[64] + deep(depth - 1)
    }
    eq!(deep(500), 500 * 501 / 2);
}

/// vfork whose child stores 1 to `flag` and exits with `status`, never touching the stack.
fn vfork_store_exit(flag: &AtomicI32, status: i32) -> isize {
    let ret: isize;
    // SAFETY: the child uses no stack and ends inside the assembly; the parent gets one ordinary return.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f",
            "mov dword ptr [r12], 1", "mov eax, 231", "syscall", "ud2", "2:",
            inlateout("rax") libc::SYS_vfork as isize => ret, in("r12") flag.as_ptr(), in("rdi") status,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    ret
}

fn vfork_child_first_in_shared_memory() {
    for round in 0..50 {
        let flag = AtomicI32::new(0);
        let pid = vfork_store_exit(&flag, round);
        // The parent goes on only after the child has let go of the memory they share.
        eq!(flag.load(SeqCst), 1);
        eq!(wait(pid as i32), End::Exit(round));
    }
}

fn vfork_parent_waits_for_exec() {
    // A child that got as far as the exec has the parent going on while it lives.
    static STORED: AtomicI32 = AtomicI32::new(0);
    static GATE: AtomicU64 = AtomicU64::new(0);
    extern "C" fn run(fd: usize) -> i32 {
        STORED.store(1, SeqCst);
        let fd = fs::cstr(&fd.to_string());
        process::execve(process::self_exe(), &[c"x", c"@wait-for-byte", &fd], &[]);
        99
    }
    let (out, inn) = ok!(sys::pipe(0));
    GATE.store(inn as u64, SeqCst);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let pid = ok!(process::clone_onto(flags, mem::stack(256 * 1024), run, out as usize, 0, 0, 0));
    eq!(STORED.load(SeqCst), 1);
    eq!(process::wait_with(pid, libc::WNOHANG), Ok((0, End::Exit(0))));
    eq!(sys::write(inn, b"*"), Ok(1));
    eq!(wait(pid), End::Exit(i32::from(b'*')));
}

fn exit_status_is_eight_bits() {
    for (status, seen) in
        [(0, 0), (1, 1), (127, 127), (128, 128), (255, 255), (256, 0), (0x1234, 0x34), (-1, 255)]
    {
        eq!(wait(child_status(|| status)), End::Exit(seen));
        // The exit of the only thread is the exit of the process.
        eq!(end_of(|| sys::exit_thread(status)), End::Exit(seen));
    }
}

fn exit_closes_descriptors() {
    let (out, inn) = ok!(sys::pipe(0));
    let pid = child(|| {
        ok!(close(out));
        ok!(sys::write(inn, b"x"));
    });
    ok!(close(inn));
    eq!(sys::read_all(out), Ok(b"x".to_vec()));
    eq!(wait(pid), End::Exit(0));
}

fn exit_runs_no_handlers_of_others() {
    // A dying child sends its parent SIGCHLD, and nothing else; the parent's handler runs in the parent.
    signal::handle(libc::SIGCHLD, libc::SA_RESTART, signal::count);
    let pid = child(|| {});
    eq!(wait(pid), End::Exit(0));
    guest_programs::sync::until(|| signal::counted() == 1);
    eq!(signal::LAST.load(SeqCst), libc::SIGCHLD);
}
