//! Faults that nobody handles: the process dies of the right signal, and nothing else does.

use guest_programs::mem::{KERNEL, NON_CANONICAL, PAGE, anon, poke, run_code};
use guest_programs::process::{End, child, end_of, wait};
use guest_programs::{Case, call, cases, check, eq, err, ok, signal, sys};

pub const CASES: &[Case] = cases![
    unhandled_faults_kill,
    blocked_fault_kills,
    ignored_fault_kills,
    fault_without_room_for_a_frame_kills,
    fault_in_one_thread_kills_all,
    system_call_from_a_lost_stack,
    core_limit_zero_leaves_no_core_flag,
    kernel_survives_a_storm: 60,
];

fn quiet() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &none, 0));
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        signal::dispose(signal, libc::SIG_DFL);
    }
}

fn dies(body: fn(), of: i32) {
    let end = end_of(|| {
        quiet();
        body();
    });
    eq!(end, End::Signal(of));
}

macro_rules! asm {
    ($($text:literal),+) => {
        // SAFETY: runs in a child that is expected to die of it.
        || unsafe { std::arch::asm!($($text),+, out("rax") _, out("rcx") _, out("rdx") _) }
    };
}

fn unhandled_faults_kill() {
    dies(|| poke(0, 1u8), libc::SIGSEGV);
    dies(|| poke(KERNEL, 1u8), libc::SIGSEGV);
    dies(|| poke(NON_CANONICAL, 1u8), libc::SIGSEGV);
    dies(|| _ = run_code(KERNEL), libc::SIGSEGV);
    dies(|| _ = run_code(0), libc::SIGSEGV);
    dies(asm!("hlt"), libc::SIGSEGV);
    dies(asm!("ud2"), libc::SIGILL);
    dies(asm!("int3"), libc::SIGTRAP);
    dies(asm!("xor edx, edx", "xor ecx, ecx", "div ecx"), libc::SIGFPE);
    dies(asm!("mov rsp, 0", "push rax"), libc::SIGSEGV);
}

fn blocked_fault_kills() {
    dies(
        || {
            signal::handle(libc::SIGSEGV, 0, signal::count);
            signal::block(&[libc::SIGSEGV]);
            poke(0, 1u8);
        },
        libc::SIGSEGV,
    );
}

fn ignored_fault_kills() {
    dies(
        || {
            signal::dispose(libc::SIGSEGV, libc::SIG_IGN);
            poke(0, 1u8);
        },
        libc::SIGSEGV,
    );
    // Sent by somebody, it is ignored like any other.
    signal::dispose(libc::SIGSEGV, libc::SIG_IGN);
    signal::raise(libc::SIGSEGV);
}

fn fault_without_room_for_a_frame_kills() {
    dies(
        || {
            // No alternate stack: the frame would have to go to a bad stack.
            let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            ok!(call!(SYS_sigaltstack, &none, 0));
            signal::handle(libc::SIGSEGV, 0, signal::count);
            // SAFETY: expected to die.
            unsafe { std::arch::asm!("mov rsp, 64", "push rax", options(noreturn)) }
        },
        libc::SIGSEGV,
    );
    dies(
        || {
            let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            ok!(call!(SYS_sigaltstack, &none, 0));
            signal::handle(libc::SIGUSR1, 0, signal::count);
            signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
            let (pid, tid) = (sys::getpid(), sys::gettid());
            // SAFETY: sends itself a signal on a stack in the kernel's half; expected to die.
            unsafe {
                std::arch::asm!("mov rsp, {}", "syscall", "ud2", in(reg) KERNEL, in("rax") libc::SYS_tgkill,
                    in("rdi") pid, in("rsi") tid, in("rdx") libc::SIGUSR1, options(noreturn))
            }
        },
        libc::SIGSEGV,
    );
}

fn fault_in_one_thread_kills_all() {
    dies(
        || {
            let threads: Vec<_> = (0..4)
                .map(|i| {
                    std::thread::spawn(move || {
                        if i == 3 {
                            poke(0, 1u8);
                        }
                        loop {
                            let _ = call!(SYS_pause);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|t| _ = t.join());
        },
        libc::SIGSEGV,
    );
}

fn system_call_from_a_lost_stack() {
    // The kernel does not use the user's stack pointer.
    for stack in [0usize, 8, KERNEL, NON_CANONICAL, usize::MAX] {
        let pid: i64;
        // SAFETY: the stack pointer is put back before anything uses it; no signal arrives in this process.
        unsafe {
            std::arch::asm!("mov r12, rsp", "mov rsp, {}", "syscall", "mov rsp, r12", in(reg) stack,
                inout("rax") libc::SYS_getpid => pid, out("r12") _, out("rcx") _, out("r11") _);
        }
        eq!(pid as i32, sys::getpid());
    }
}

fn core_limit_zero_leaves_no_core_flag() {
    let pid = child(|| {
        quiet();
        poke(0, 1u8);
    });
    let mut status = 0i32;
    ok!(call!(SYS_wait4, pid, &mut status, 0, 0));
    eq!(status, libc::SIGSEGV);
}

fn kernel_survives_a_storm() {
    let bodies: [fn(); 6] = [
        || poke(0, 1u8),
        || poke(KERNEL, 1u8),
        || _ = run_code(NON_CANONICAL),
        asm!("cli"),
        asm!("ud2"),
        asm!("mov rsp, 0xffffffff80000000", "push rax"),
    ];
    for round in 0..20 {
        let area = anon(PAGE);
        poke(area, round);
        let pids = bodies.map(|body| {
            child(|| {
                quiet();
                body();
            })
        });
        for pid in pids {
            let end = wait(pid);
            check!(matches!(end, End::Signal(libc::SIGSEGV | libc::SIGILL | libc::SIGBUS)), "{end:?}");
        }
        eq!(guest_programs::mem::peek::<i32>(area), round);
    }
    err!(call!(SYS_wait4, -1, 0, 0, 0), ECHILD);
}
