//! The signal frame: what a handler finds on its stack, and what a return restores.

use guest_programs::mem::{self, KERNEL, NON_CANONICAL, PAGE, poke};
use guest_programs::process::{End, child, end_of, wait};
use guest_programs::signal::{count, counted, dispose, handle, raise, tick};
use guest_programs::sync::until;
use guest_programs::sys::exit_group;
use guest_programs::{Case, call, cases, check, eq, ok};
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    registers_survive_a_handler,
    registers_can_be_changed,
    stack_is_aligned_and_red_zone_kept,
    vector_registers_survive: 60,
    wide_vector_registers_survive: 60,
    x87_and_mxcsr_survive,
    handler_starts_with_clean_flags,
    frame_holds_floating_point_state,
    return_with_wild_frame_kills,
    return_with_privileged_flags,
    return_to_wild_address_faults,
    return_with_bad_selectors,
    return_with_bad_fpu_state,
    many_handlers_under_load: 60,
];

extern "C" fn scramble(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: overwrites registers that it declares, as any handler may.
    unsafe {
        std::arch::asm!("mov rax, -1", "mov rcx, -1", "mov rdx, -1", "mov rsi, -1", "mov rdi, -1", "mov r8, -1",
            "mov r9, -1", "mov r10, -1", "mov r11, -1", "pcmpeqb xmm0, xmm0", "pcmpeqb xmm7, xmm7",
            "pcmpeqb xmm15, xmm15", "stc", out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("xmm0") _, out("xmm7") _, out("xmm15") _);
    }
    guest_programs::signal::COUNT.fetch_add(1, SeqCst);
}

fn registers_survive_a_handler() {
    // Interrupted anywhere in a loop that uses all registers: the checksum is always the same.
    handle(libc::SIGALRM, 0, scramble);
    tick(2);
    until(|| {
        let (a, b, c): (u64, u64, u64);
        // SAFETY: pure arithmetic in registers.
        unsafe {
            std::arch::asm!("mov eax, 1", "mov ecx, 100000", "mov edx, 3", "mov esi, 5", "mov edi, 7", "mov r8d, 11",
                "mov r9d, 13", "mov r10d, 17", "mov r11d, 19", "2:", "add rax, rdx", "add rdx, rsi", "add rsi, rdi",
                "add rdi, r8", "add r8, r9", "add r9, r10", "add r10, r11", "add r11, rax", "dec rcx", "jnz 2b",
                out("rax") a, out("rcx") _, out("rdx") b, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _,
                out("r10") _, out("r11") c, options(nostack));
        }
        let (mut r, mut n) = ([1u64, 3, 5, 7, 11, 13, 17, 19], 100_000);
        while n > 0 {
            (0..8).for_each(|i| r[i] = r[i].wrapping_add(r[(i + 1) % 8]));
            n -= 1;
        }
        eq!((a, b, c), (r[0], r[1], r[7]));
        counted() >= 20
    });
    tick(0);
}

fn registers_can_be_changed() {
    extern "C" fn change(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext.
        let regs = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
        regs[libc::REG_R15 as usize] = 0x1515;
        regs[libc::REG_RSI as usize] = 0x0606;
        regs[libc::REG_EFL as usize] |= 1;
    }
    handle(libc::SIGTRAP, 0, change);
    let (r15, rsi): (u64, u64);
    let carry: u8;
    // SAFETY: the breakpoint is handled and resumed behind.
    unsafe {
        std::arch::asm!("clc", "int3", "setc {}", out(reg_byte) carry, out("r15") r15, out("rsi") rsi);
    }
    eq!((r15, rsi, carry), (0x1515, 0x0606, 1));
}

fn stack_is_aligned_and_red_zone_kept() {
    static AT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn see(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext.
        let regs = unsafe { &(*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
        AT.store(regs[libc::REG_RSP as usize] as usize - context as usize, SeqCst);
        // The context follows the return address; entry is with the stack as after a call.
        eq!(context as usize % 16, 0);
    }
    handle(libc::SIGTRAP, 0, see);
    let back: u64;
    // SAFETY: keeps a value in the 128 bytes below the stack pointer across the breakpoint.
    unsafe {
        std::arch::asm!("mov r8, 0x1234567", "mov [rsp - 128], r8", "mov [rsp - 8], r8", "int3",
            "mov r8, [rsp - 128]", "cmp r8, [rsp - 8]", "je 2f", "xor r8, r8", "2:", out("r8") back);
    }
    eq!(back, 0x1234567);
    check!(AT.load(SeqCst) > 128);
}

/// Fills all vector registers with a pattern, spins, and gives how many differ afterwards.
fn vectors_differ(seed: u8) -> usize {
    let pattern: Vec<u8> = (0..256).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
    let mut after = vec![0u8; 256];
    // SAFETY: reads and writes 256 bytes at the two pointers; all vector registers are declared.
    unsafe {
        std::arch::asm!(
            "movups xmm0, [rsi]", "movups xmm1, [rsi+16]", "movups xmm2, [rsi+32]", "movups xmm3, [rsi+48]",
            "movups xmm4, [rsi+64]", "movups xmm5, [rsi+80]", "movups xmm6, [rsi+96]", "movups xmm7, [rsi+112]",
            "movups xmm8, [rsi+128]", "movups xmm9, [rsi+144]", "movups xmm10, [rsi+160]", "movups xmm11, [rsi+176]",
            "movups xmm12, [rsi+192]", "movups xmm13, [rsi+208]", "movups xmm14, [rsi+224]", "movups xmm15, [rsi+240]",
            "2:", "dec rcx", "jnz 2b",
            "movups [rdi], xmm0", "movups [rdi+16], xmm1", "movups [rdi+32], xmm2", "movups [rdi+48], xmm3",
            "movups [rdi+64], xmm4", "movups [rdi+80], xmm5", "movups [rdi+96], xmm6", "movups [rdi+112], xmm7",
            "movups [rdi+128], xmm8", "movups [rdi+144], xmm9", "movups [rdi+160], xmm10", "movups [rdi+176], xmm11",
            "movups [rdi+192], xmm12", "movups [rdi+208], xmm13", "movups [rdi+224], xmm14", "movups [rdi+240], xmm15",
            in("rsi") pattern.as_ptr(), in("rdi") after.as_mut_ptr(), inout("rcx") 200_000u64 => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
            out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nostack));
    }
    pattern.iter().zip(&after).filter(|(a, b)| a != b).count()
}

fn vector_registers_survive() {
    handle(libc::SIGALRM, 0, scramble);
    tick(2);
    let mut seed = 0u8;
    until(|| {
        seed = seed.wrapping_add(1);
        eq!(vectors_differ(seed), 0);
        counted() >= 30
    });
    tick(0);
}

#[target_feature(enable = "avx")]
fn wide_vectors_differ(seed: u8) -> usize {
    let pattern: Vec<u8> = (0..64).map(|i| (i as u8).wrapping_mul(29) ^ seed).collect();
    let mut after = vec![0u8; 64];
    // SAFETY: as above; the CPU has AVX.
    unsafe {
        std::arch::asm!("vmovups ymm3, [rsi]", "vmovups ymm14, [rsi+32]", "2:", "dec rcx", "jnz 2b",
            "vmovups [rdi], ymm3", "vmovups [rdi+32], ymm14", in("rsi") pattern.as_ptr(), in("rdi") after.as_mut_ptr(),
            inout("rcx") 200_000u64 => _, out("xmm3") _, out("xmm14") _, options(nostack));
    }
    pattern.iter().zip(&after).filter(|(a, b)| a != b).count()
}

#[target_feature(enable = "avx")]
fn clobber_wide() {
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("vxorps ymm3, ymm3, ymm3", "vxorps ymm14, ymm14, ymm14", out("xmm3") _, out("xmm14") _)
    };
}

fn wide_vector_registers_survive() {
    extern "C" fn clobber(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: installed only where the CPU has AVX.
        unsafe { clobber_wide() };
        guest_programs::signal::COUNT.fetch_add(1, SeqCst);
    }
    if !std::arch::is_x86_feature_detected!("avx") {
        // A CPU without AVX has nothing to lose; the narrow registers have their own case.
        check!(
            std::arch::x86_64::__cpuid(1).ecx & (1 << 28) == 0
                || std::arch::x86_64::__cpuid(1).ecx & (1 << 27) == 0
        );
        return;
    }
    handle(libc::SIGALRM, 0, clobber);
    tick(2);
    let mut seed = 0u8;
    until(|| {
        seed = seed.wrapping_add(1);
        // SAFETY: the CPU has AVX.
        eq!(unsafe { wide_vectors_differ(seed) }, 0);
        counted() >= 30
    });
    tick(0);
}

fn control_words() -> (u16, u32) {
    let (mut word, mut mxcsr) = (0u16, 0u32);
    // SAFETY: store to the two variables.
    unsafe { std::arch::asm!("fnstcw [{}]", "stmxcsr [{}]", in(reg) &mut word, in(reg) &mut mxcsr) };
    (word, mxcsr)
}

fn set_control_words(word: u16, mxcsr: u32) {
    // SAFETY: loads valid control words.
    unsafe { std::arch::asm!("fldcw [{}]", "ldmxcsr [{}]", in(reg) &word, in(reg) &mxcsr) };
}

fn x87_and_mxcsr_survive() {
    extern "C" fn disturb(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // It starts with the defaults, whatever the program had set.
        eq!(control_words(), (0x37f, 0x1f80));
        set_control_words(0x77f, 0x9fc0);
        // SAFETY: leaves the x87 stack empty.
        unsafe { std::arch::asm!("fninit", "fldpi") };
        guest_programs::signal::COUNT.fetch_add(1, SeqCst);
    }
    handle(libc::SIGUSR1, 0, disturb);
    set_control_words(0xb7f, 0x3f80);
    let one: f64 = 1.0;
    let mut back: f64 = 0.0;
    let (pid, tid) = (guest_programs::sys::getpid(), guest_programs::sys::gettid());
    // SAFETY: a value is kept on the x87 stack across a signal to this thread.
    unsafe {
        std::arch::asm!("fld qword ptr [{}]", "syscall", "fstp qword ptr [{}]", in(reg) &one, in(reg) &mut back,
            inout("rax") libc::SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") libc::SIGUSR1,
            out("rcx") _, out("r11") _);
    }
    eq!((back, counted()), (1.0, 1));
    eq!(control_words(), (0xb7f, 0x3f80));
}

fn handler_starts_with_clean_flags() {
    extern "C" fn see(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let flags: u64;
        // SAFETY: reads the flags.
        unsafe { std::arch::asm!("pushfq", "pop {}", out(reg) flags) };
        // Direction and trap clear.
        eq!(flags & 0x500, 0);
        guest_programs::signal::COUNT.fetch_add(1, SeqCst);
    }
    handle(libc::SIGTRAP, 0, see);
    let flags: u64;
    // SAFETY: the direction flag is put back at once.
    unsafe { std::arch::asm!("std", "int3", "pushfq", "cld", "pop {}", out(reg) flags) };
    eq!((flags & 0x400, counted()), (0x400, 1));
}

fn frame_holds_floating_point_state() {
    extern "C" fn change(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext with a pointer to an fxsave image, xmm0 at byte 160.
        unsafe {
            let fp = (*(context as *mut libc::ucontext_t)).uc_mcontext.fpregs as usize;
            check!(fp != 0 && fp.is_multiple_of(16));
            let xmm0 = (fp + 160) as *mut __m128i;
            let mut bytes = [0u8; 16];
            _mm_storeu_si128(bytes.as_mut_ptr() as *mut __m128i, _mm_loadu_si128(xmm0));
            eq!(bytes, [0x42; 16]);
            bytes.fill(0x24);
            _mm_storeu_si128(xmm0, _mm_loadu_si128(bytes.as_ptr() as *const __m128i));
        }
    }
    handle(libc::SIGTRAP, 0, change);
    let mut bytes = [0x42u8; 16];
    // SAFETY: loads and stores sixteen bytes around a handled breakpoint.
    unsafe {
        std::arch::asm!("movups xmm0, [{0}]", "int3", "movups [{0}], xmm0", in(reg) &mut bytes, out("xmm0") _)
    };
    eq!(bytes, [0x24; 16]);
}

fn sigreturn_at(stack: usize) -> ! {
    // SAFETY: meant to end the process, one way or another.
    unsafe {
        std::arch::asm!("mov rsp, {}", "syscall", "ud2", in(reg) stack, in("rax") libc::SYS_rt_sigreturn, options(noreturn))
    }
}

fn return_with_wild_frame_kills() {
    dispose(libc::SIGSEGV, libc::SIG_DFL);
    let zeros = mem::anon(4 * PAGE);
    let noise = mem::anon(4 * PAGE);
    (0..4 * PAGE / 8).for_each(|i| poke(noise + i * 8, (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    for stack in [0, 8, mem::unmapped(), KERNEL, NON_CANONICAL, usize::MAX, mem::USER_END - 8, zeros, noise] {
        let end = end_of(|| sigreturn_at(stack));
        check!(end == End::Signal(libc::SIGSEGV), "frame at {stack:#x}: {end:?}");
    }
}

/// Runs `edit` on the registers of a frame that is then returned through.
fn edited(edit: fn(&mut [i64; 23])) -> End {
    static EDIT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn apply(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext; EDIT holds the function stored below.
        unsafe {
            let edit: fn(&mut [i64; 23]) = std::mem::transmute(EDIT.load(SeqCst));
            edit(&mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs);
        }
    }
    EDIT.store(edit as usize, SeqCst);
    end_of(|| {
        dispose(libc::SIGSEGV, libc::SIG_DFL);
        dispose(libc::SIGBUS, libc::SIG_DFL);
        handle(libc::SIGUSR1, 0, apply);
        raise(libc::SIGUSR1);
        // No more privilege than before: the interrupt flag is set, port access is refused.
        let flags: u64;
        // SAFETY: reads the flags.
        unsafe { std::arch::asm!("pushfq", "pop {}", out(reg) flags) };
        check!(flags & 0x3200 == 0x200, "flags {flags:#x}");
        exit_group(5)
    })
}

fn return_with_privileged_flags() {
    eq!(edited(|regs| regs[libc::REG_EFL as usize] &= !0x200), End::Exit(5));
    eq!(edited(|regs| regs[libc::REG_EFL as usize] |= 0x3000), End::Exit(5));
    eq!(edited(|regs| regs[libc::REG_EFL as usize] |= 0x2_0000), End::Exit(5));
    eq!(edited(|regs| regs[libc::REG_EFL as usize] = !0x4_0500), End::Exit(5));
}

fn return_to_wild_address_faults() {
    let segv = End::Signal(libc::SIGSEGV);
    eq!(edited(|regs| regs[libc::REG_RIP as usize] = 0), segv);
    eq!(edited(|regs| regs[libc::REG_RIP as usize] = KERNEL as i64), segv);
    eq!(edited(|regs| regs[libc::REG_RIP as usize] = NON_CANONICAL as i64), segv);
    eq!(edited(|regs| regs[libc::REG_RIP as usize] = -1), segv);
    let end = edited(|regs| regs[libc::REG_RSP as usize] = NON_CANONICAL as i64);
    check!(matches!(end, End::Signal(libc::SIGSEGV | libc::SIGBUS)), "{end:?}");
    eq!(edited(|regs| regs[libc::REG_RSP as usize] = KERNEL as i64), segv);
}

fn return_with_bad_selectors() {
    // Ring 0 selectors are forced to ring 3 or refused; nonsense is refused. Never is it the kernel that suffers.
    for selectors in [0x10u64, 0x08, 0, 0xffff, 0x2b, 0x1b, 0x63] {
        static CS: AtomicUsize = AtomicUsize::new(0);
        CS.store(selectors as usize, SeqCst);
        let end = edited(|regs| {
            let rest = regs[libc::REG_CSGSFS as usize] & !0xffff;
            regs[libc::REG_CSGSFS as usize] = rest | CS.load(SeqCst) as i64;
        });
        let fine = matches!(end, End::Exit(5) | End::Signal(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL));
        check!(fine, "selector {selectors:#x}: {end:?}");
    }
}

fn return_with_bad_fpu_state() {
    // Reserved bits of MXCSR set, a pointer into the kernel, garbage all over: refused or ignored, never fatal to
    // anybody else.
    static KIND: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn spoil(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext with a pointer to its fxsave image.
        unsafe {
            let context = &mut (*(context as *mut libc::ucontext_t)).uc_mcontext;
            let fp = context.fpregs as usize;
            match KIND.load(SeqCst) {
                0 => poke(fp + 24, u32::MAX),
                1 => context.fpregs = KERNEL as *mut _,
                2 => context.fpregs = NON_CANONICAL as *mut _,
                3 => context.fpregs = 64 as *mut _,
                4 => mem::bytes(fp, 512).fill(0xff),
                5 => mem::bytes(fp + 512, 64).fill(0xff),
                _ => context.fpregs = (fp + 1) as *mut _,
            }
        }
    }
    for kind in 0..7 {
        KIND.store(kind, SeqCst);
        let pid = child(|| {
            dispose(libc::SIGSEGV, libc::SIG_DFL);
            handle(libc::SIGUSR1, 0, spoil);
            raise(libc::SIGUSR1);
        });
        let end = wait(pid);
        check!(matches!(end, End::Exit(0) | End::Signal(libc::SIGSEGV)), "kind {kind}: {end:?}");
    }
    eq!(vectors_differ(1), 0);
}

fn many_handlers_under_load() {
    handle(libc::SIGUSR1, 0, count);
    let me = guest_programs::sys::getpid();
    let pids = [0; 3]
        .map(|_| child(|| (0..3000).for_each(|_| _ = ok!(guest_programs::process::kill(me, libc::SIGUSR1)))));
    let mut seed = 0u8;
    let mut left = pids.len();
    until(|| {
        seed = seed.wrapping_add(1);
        eq!(vectors_differ(seed), 0);
        while let Ok(pid) = call!(SYS_wait4, -1, 0, libc::WNOHANG, 0) {
            if pid == 0 {
                break;
            }
            left -= 1;
        }
        left == 0
    });
    check!(counted() > 0);
}
