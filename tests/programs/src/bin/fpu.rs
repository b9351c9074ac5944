//! Floating point and vector registers: each thread's own, whatever else runs.

use guest_programs::process::{End, child, wait};
use guest_programs::sys::{getpid, yield_now};
use guest_programs::{Case, call, cases, check, eq, ok, run, signal};
use std::arch::asm;

const CASES: &[Case] = cases![
    sse_across_system_calls,
    sse_across_context_switches: 60,
    avx_across_context_switches: 60,
    upper_halves_across_system_calls,
    mxcsr_is_per_thread: 60,
    x87_is_per_thread: 60,
    state_is_inherited_by_fork,
    state_starts_clean_after_exec,
    new_thread_inherits_control_words,
    mixed_use_and_no_use: 60,
    numbers_come_out_right: 60,
];

fn main() {
    run(&[CASES], &[("initial-state", |_| initial_state())])
}

/// Fills xmm0 to xmm15 from `pattern`, makes system call `nr`, and gives what is in them afterwards.
fn through_call(pattern: &[u8; 256], nr: i64, arg: usize) -> [u8; 256] {
    let mut after = [0u8; 256];
    // SAFETY: reads and writes 256 bytes at the two pointers; the call has one argument at most.
    unsafe {
        asm!(
            "movups xmm0, [r8]", "movups xmm1, [r8+16]", "movups xmm2, [r8+32]", "movups xmm3, [r8+48]",
            "movups xmm4, [r8+64]", "movups xmm5, [r8+80]", "movups xmm6, [r8+96]", "movups xmm7, [r8+112]",
            "movups xmm8, [r8+128]", "movups xmm9, [r8+144]", "movups xmm10, [r8+160]", "movups xmm11, [r8+176]",
            "movups xmm12, [r8+192]", "movups xmm13, [r8+208]", "movups xmm14, [r8+224]", "movups xmm15, [r8+240]",
            "syscall",
            "movups [r9], xmm0", "movups [r9+16], xmm1", "movups [r9+32], xmm2", "movups [r9+48], xmm3",
            "movups [r9+64], xmm4", "movups [r9+80], xmm5", "movups [r9+96], xmm6", "movups [r9+112], xmm7",
            "movups [r9+128], xmm8", "movups [r9+144], xmm9", "movups [r9+160], xmm10", "movups [r9+176], xmm11",
            "movups [r9+192], xmm12", "movups [r9+208], xmm13", "movups [r9+224], xmm14", "movups [r9+240], xmm15",
            inout("rax") nr => _, in("rdi") arg, in("rsi") 0, in("r8") pattern.as_ptr(), in("r9") after.as_mut_ptr(),
            out("rcx") _, out("r11") _, out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _,
            out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
        );
    }
    after
}

fn pattern(seed: usize) -> [u8; 256] {
    std::array::from_fn(|i| (i * 31 + seed * 7 + 1) as u8)
}

fn sse_across_system_calls() {
    let brief = guest_programs::time::timespec(1000);
    for seed in 0..200 {
        for (nr, arg) in [
            (libc::SYS_getpid, 0),
            (libc::SYS_sched_yield, 0),
            (libc::SYS_nanosleep, &brief as *const _ as usize),
            (libc::SYS_close, usize::MAX),
        ] {
            eq!(through_call(&pattern(seed), nr, arg), pattern(seed));
        }
    }
}

fn several(body: fn(usize)) {
    let threads: Vec<_> = (1..=6usize).map(|n| std::thread::spawn(move || body(n))).collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
    let pids: Vec<i32> = (1..=4usize).map(|n| child(|| body(n))).collect();
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn sse_across_context_switches() {
    several(|n| {
        for round in 0..400 {
            let mine = pattern(n * 1000 + round);
            eq!(through_call(&mine, libc::SYS_sched_yield, 0), mine);
        }
    });
}

/// Whether the program may use AVX: the CPU has it and the kernel keeps its registers.
fn avx() -> bool {
    let has = std::arch::x86_64::__cpuid(1).ecx;
    // A CPU with AVX on which the kernel has not switched xsave on would lose programs their registers.
    check!(has >> 28 & 1 == 0 || has >> 26 & 1 == 0 || has >> 27 & 1 == 1, "AVX without xsave enabled");
    std::arch::is_x86_feature_detected!("avx")
}

#[target_feature(enable = "avx")]
fn wide_through_yield(seed: usize) -> bool {
    let before: [u8; 64] = std::array::from_fn(|i| (i * 13 + seed) as u8);
    let mut after = [0u8; 64];
    // SAFETY: the CPU has AVX; reads and writes 64 bytes at the two pointers.
    unsafe {
        asm!("vmovups ymm1, [r8]", "vmovups ymm15, [r8+32]", "syscall", "vmovups [r9], ymm1", "vmovups [r9+32], ymm15",
            inout("rax") libc::SYS_sched_yield => _, in("r8") before.as_ptr(), in("r9") after.as_mut_ptr(),
            out("rcx") _, out("r11") _, out("xmm1") _, out("xmm15") _);
    }
    before == after
}

fn avx_across_context_switches() {
    several(|n| {
        for round in 0..400 {
            // SAFETY: checked just here.
            check!(!avx() || unsafe { wide_through_yield(n * 1000 + round) });
        }
    });
}

#[target_feature(enable = "avx")]
fn upper_zero_after_clear() -> bool {
    let mut after = [0xffu8; 32];
    // SAFETY: the CPU has AVX; writes 32 bytes.
    unsafe {
        asm!("vpcmpeqb xmm2, xmm2, xmm2", "vinsertf128 ymm2, ymm2, xmm2, 1", "vzeroupper", "syscall",
            "vmovups [r9], ymm2", inout("rax") libc::SYS_getpid => _, in("r9") after.as_mut_ptr(),
            out("rcx") _, out("r11") _, out("xmm2") _);
    }
    after[..16] == [0xff; 16] && after[16..] == [0; 16]
}

fn upper_halves_across_system_calls() {
    if avx() {
        for _ in 0..1000 {
            // SAFETY: checked just above.
            check!(unsafe { upper_zero_after_clear() });
        }
    }
}

fn control() -> (u16, u32) {
    let (mut word, mut mxcsr) = (0u16, 0u32);
    // SAFETY: stores to the two variables.
    unsafe { asm!("fnstcw [{}]", "stmxcsr [{}]", in(reg) &mut word, in(reg) &mut mxcsr) };
    (word, mxcsr)
}

fn set_control(word: u16, mxcsr: u32) {
    // SAFETY: loads valid control words.
    unsafe { asm!("fldcw [{}]", "ldmxcsr [{}]", in(reg) &word, in(reg) &mxcsr) };
}

fn mxcsr_is_per_thread() {
    several(|n| {
        // Rounding modes and flush-to-zero, all exceptions masked.
        let mine = (0x37f | (n as u16 % 4) << 10, 0x1f80 | (n as u32 % 4) << 13 | (n as u32 & 1) << 15);
        set_control(mine.0, mine.1);
        for _ in 0..400 {
            yield_now();
            let now = control();
            eq!((now.0, now.1 & !0x3f), mine);
        }
    });
}

fn x87_is_per_thread() {
    several(|n| {
        for round in 0..400 {
            let value = (n * 1000 + round) as f64;
            let mut back = 0f64;
            // SAFETY: one value on the x87 stack across a yield.
            unsafe {
                asm!("fld qword ptr [{}]", "syscall", "fstp qword ptr [{}]", in(reg) &value, in(reg) &mut back,
                    inout("rax") libc::SYS_sched_yield => _, out("rcx") _, out("r11") _);
            }
            eq!(back, value);
        }
    });
}

fn state_is_inherited_by_fork() {
    set_control(0xb7f, 0x3f80);
    let before = pattern(99);
    let after = through_call(&before, libc::SYS_fork, 0);
    // Both come here with the registers as they were.
    let me = getpid();
    let fine = after == before && control() == (0xb7f, 0x3f80);
    if guest_programs::sys::getppid() != unsafe_parent(me) {
        guest_programs::sys::exit_group(i32::from(!fine));
    }
    check!(fine);
    let (_, end) = ok!(guest_programs::process::wait_with(-1, 0));
    eq!(end, End::Exit(0));
}

/// The runner's number, which is the parent of the case but not of its child.
fn unsafe_parent(_: i32) -> i32 {
    // The case leads its session; its child does not.
    if call!(SYS_getsid, 0) == Ok(getpid() as usize) { guest_programs::sys::getppid() } else { -1 }
}

fn initial_state() -> i32 {
    i32::from(control() != (0x37f, 0x1f80))
}

fn state_starts_clean_after_exec() {
    let pid = child(|| {
        set_control(0xb7f, 0x3f80);
        guest_programs::process::execve(guest_programs::process::self_exe(), &[c"x", c"@initial-state"], &[]);
    });
    eq!(wait(pid), End::Exit(0));
    // Registers, too: a program that looks at xmm0 and st(0) first thing sees nothing of its predecessor.
    guest_programs::fs::scratch();
    let mut code = vec![0x66, 0x48, 0x0f, 0x7e, 0xc7]; // movq rdi, xmm0
    code.extend([0x66, 0x4c, 0x0f, 0x7e, 0xf8]); // movq rax, xmm15
    code.extend([0x48, 0x09, 0xc7, 0x40, 0x0f, 0x95, 0xc7]); // or rdi, rax; setne dil
    code.extend([0x40, 0x0f, 0xb6, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]); // movzx edi, dil; exit
    guest_programs::fs::put(c"look", &guest_programs::elf::tiny(&code), 0o755);
    let pid = child(|| {
        guest_programs::process::execve(c"./look", &[c"look"], &[]);
    });
    eq!(wait(pid), End::Exit(0));
}

fn new_thread_inherits_control_words() {
    set_control(0x77f, 0x5f80);
    let other = std::thread::spawn(control).join();
    let Ok(other) = other else { guest_programs::fail!("thread died") };
    eq!((other.0, other.1 & !0x3f), (0x77f, 0x5f80));
}

fn mixed_use_and_no_use() {
    // Processes that use the registers among others that do not, with signals arriving.
    let pids: Vec<i32> = (0..6usize)
        .map(|n| {
            child(|| {
                signal::handle(libc::SIGALRM, libc::SA_RESTART, signal::count);
                signal::tick(3);
                for round in 0..300 {
                    if n % 2 == 0 {
                        let mine = pattern(n * 1000 + round);
                        eq!(through_call(&mine, libc::SYS_sched_yield, 0), mine);
                    } else {
                        (0..100).for_each(|_| yield_now());
                    }
                }
            })
        })
        .collect();
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn numbers_come_out_right() {
    // Long calculations on several threads at once give the same result to the last bit.
    fn series() -> u64 {
        let mut sum = 0f64;
        for i in 1..200_000u32 {
            sum += (1.0 / f64::from(i)).sin() * f64::from(i % 7).sqrt();
        }
        sum.to_bits()
    }
    let expected = series();
    let threads: Vec<_> = (0..6).map(|_| std::thread::spawn(series)).collect();
    threads.into_iter().for_each(|t| eq!(t.join().ok(), Some(expected)));
    check!(f64::from_bits(expected).is_finite());
    // The processor's own cosine of the x87 unit.
    let mut x = 0f64;
    // SAFETY: loads zero, takes the cosine, stores it.
    unsafe { asm!("fldz", "fcos", "fstp qword ptr [{}]", in(reg) &mut x) };
    eq!(x, 1.0);
}
