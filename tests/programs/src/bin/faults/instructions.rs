//! Instructions that a program may not execute, or that trap.

use guest_programs::signal::{Fault, attempt};
use guest_programs::{Case, call, cases, check, eq, fail, ok, sys};

pub const CASES: &[Case] = cases![
    privileged_instructions,
    ports_are_forbidden,
    control_registers,
    undefined_instructions,
    division,
    breakpoint_and_single_step,
    software_interrupts,
    misaligned_vector_access,
    x87_exception,
    bad_segment_loads,
    flags_across_system_calls,
    interrupt_flag_cannot_be_cleared,
    system_call_clobbers_only_what_it_may,
    unknown_system_calls,
    cpuid_and_tsc_work,
];

const SI_KERNEL: i32 = 0x80;
const ILL_ILLOPN: i32 = 2;
const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;

/// A function around bare assembly that clobbers what it likes among the scratch registers.
macro_rules! code {
    ($($text:literal),+) => {{
        extern "C" fn code(_: usize) {
            // SAFETY: traps, on which the attempt ends; or has no effect but on the registers named.
            unsafe {
                std::arch::asm!($($text),+, out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
                    out("r8") _);
            }
        }
        attempt(code, 0)
    }};
}

fn one(what: &str, fault: Option<Fault>) -> Fault {
    match fault {
        Some(fault) => fault,
        None => fail!("{what}: no fault"),
    }
}

/// A general protection fault: SIGSEGV with no address.
fn protection(what: &str, fault: Option<Fault>) {
    let fault = one(what, fault);
    let seen = (fault.signal, fault.code, fault.addr, fault.reg(libc::REG_TRAPNO));
    check!(seen == (libc::SIGSEGV, SI_KERNEL, 0, 13), "{what}: {seen:?}");
}

fn privileged_instructions() {
    protection("hlt", code!("hlt"));
    protection("cli", code!("cli"));
    protection("sti", code!("sti"));
    protection("invd", code!("invd"));
    protection("wbinvd", code!("wbinvd"));
    protection("clts", code!("clts"));
    protection("rdmsr", code!("mov ecx, 0x10", "rdmsr"));
    protection("wrmsr", code!("mov ecx, 0xc0000082", "xor eax, eax", "xor edx, edx", "wrmsr"));
    protection("swapgs", code!("swapgs"));
    protection("sysretq", code!("lea rcx, [rip]", "sysretq"));
    protection("invlpg", code!("invlpg [rsp]"));
    protection("lgdt", code!("lgdt [rsp]"));
    protection("lidt", code!("lidt [rsp]"));
    protection("ltr", code!("xor eax, eax", "ltr ax"));
    protection("lldt", code!("xor eax, eax", "lldt ax"));
    protection("lmsw", code!("mov eax, 1", "lmsw ax"));
}

fn ports_are_forbidden() {
    protection("in al, 0x60", code!("in al, 0x60"));
    protection("out 0x80, al", code!("out 0x80, al"));
    protection("in dx", code!("mov edx, 0x3f8", "in al, dx"));
    protection("out dx", code!("mov edx, 0xf4", "mov eax, 1", "out dx, eax"));
    protection("rep outsb", code!("mov edx, 0xe9", "mov ecx, 1", "lea rsi, [rsp]", "rep outsb"));
}

fn control_registers() {
    protection("mov rax, cr0", code!("mov rax, cr0"));
    protection("mov cr0, rax", code!("mov eax, 0x80050033", "mov cr0, rax"));
    protection("mov rax, cr3", code!("mov rax, cr3"));
    protection("mov cr3, rax", code!("xor eax, eax", "mov cr3, rax"));
    protection("mov cr4, rax", code!("xor eax, eax", "mov cr4, rax"));
    protection("mov rax, dr7", code!("mov rax, dr7"));
    protection("mov dr7, rax", code!("xor eax, eax", "mov dr7, rax"));
}

fn undefined_instructions() {
    let fault = one("ud2", code!("ud2"));
    eq!((fault.signal, fault.code), (libc::SIGILL, ILL_ILLOPN));
    eq!(fault.addr, fault.reg(libc::REG_RIP));
    eq!(guest_programs::mem::peek::<[u8; 2]>(fault.addr), [0x0f, 0x0b]);
    // 32-bit instructions that 64-bit mode has not: push es, daa, into.
    for (what, fault) in [
        ("push es", code!(".byte 0x06")),
        ("daa", code!(".byte 0x27")),
        ("into", code!(".byte 0xce")),
        ("ud0", code!(".byte 0x0f, 0xff, 0xc0")),
    ] {
        eq!(one(what, fault).signal, libc::SIGILL);
    }
}

fn division() {
    for fault in [
        code!("xor edx, edx", "mov eax, 5", "xor ecx, ecx", "div ecx"),
        code!("mov edx, 5", "mov eax, 5", "mov ecx, 2", "div ecx"),
        code!("mov rax, 0x8000000000000000", "cqo", "mov rcx, -1", "idiv rcx"),
    ] {
        let fault = one("division", fault);
        eq!((fault.signal, fault.code), (libc::SIGFPE, FPE_INTDIV));
        eq!(fault.addr, fault.reg(libc::REG_RIP));
        eq!(fault.reg(libc::REG_TRAPNO), 0);
    }
    check!(code!("xor edx, edx", "mov eax, 5", "mov ecx, 5", "div ecx").is_none());
}

fn breakpoint_and_single_step() {
    let fault = one("int3", code!("mov esi, 0x77", "int3"));
    eq!((fault.signal, fault.code), (libc::SIGTRAP, SI_KERNEL));
    eq!(fault.reg(libc::REG_RSI), 0x77);
    // A trap: the instruction pointer is behind it.
    eq!(guest_programs::mem::peek::<u8>(fault.reg(libc::REG_RIP) - 1), 0xcc);
    let fault = one("trap flag", code!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"));
    eq!((fault.signal, fault.code), (libc::SIGTRAP, libc::TRAP_TRACE));
    eq!(fault.reg(libc::REG_TRAPNO), 1);
}

fn software_interrupts() {
    // Gates that only the processor and the kernel may use.
    protection("int 0", code!("int 0"));
    protection("int 8", code!("int 8"));
    protection("int 14", code!("int 14"));
    protection("int 0x20", code!("int 0x20"));
    protection("int 0xef", code!("int 0xef"));
    protection("int 0xff", code!("int 0xff"));
}

fn misaligned_vector_access() {
    protection("movaps", code!("lea rax, [rsp - 64]", "or rax, 15", "movaps xmm0, [rax]"));
    check!(code!("lea rax, [rsp - 64]", "or rax, 15", "movups xmm0, [rax]").is_none());
}

fn x87_exception() {
    // Division by zero unmasked; reported by the next waiting instruction.
    let fault = code!(
        "mov word ptr [rsp - 16], 0x37b",
        "fldcw [rsp - 16]",
        "fld1",
        "fldz",
        "fdivp st(1), st",
        "fwait",
        "fninit"
    );
    let fault = one("fdiv", fault);
    eq!((fault.signal, fault.code), (libc::SIGFPE, FPE_FLTDIV));
    eq!(fault.reg(libc::REG_TRAPNO), 16);
}

fn bad_segment_loads() {
    let fault = one("mov fs", code!("mov eax, 0xfff8", "mov fs, ax"));
    eq!((fault.signal, fault.code, fault.reg(libc::REG_TRAPNO)), (libc::SIGSEGV, SI_KERNEL, 13));
    eq!(fault.reg(libc::REG_ERR), 0xfff8);
    let fault = one("mov ds", code!("mov eax, 0x8888", "mov ds, ax"));
    eq!(fault.signal, libc::SIGSEGV);
    // A null selector is harmless in data segments.
    check!(code!("xor eax, eax", "mov ds, ax", "mov es, ax").is_none());
}

fn flags_across_system_calls() {
    // Direction, carry and the rest come back; the kernel does not trip over the direction flag or the
    // alignment-check flag being set.
    for flags in [0x400u64, 0x4_0000, 0x8d5, 0x400 | 0x4_0000 | 0x8d5] {
        let seen: u64;
        // SAFETY: sets flags around a harmless call and puts them right again.
        unsafe {
            std::arch::asm!(
                "pushfq", "pop r8", "mov r9, r8", "and r9, ~0x40cd5", "or {f}, r9", "push {f}", "popfq",
                "syscall",
                "pushfq", "pop {f}", "push r8", "popfq",
                f = inout(reg) flags => seen, inout("rax") libc::SYS_getppid => _,
                out("r8") _, out("r9") _, out("rcx") _, out("r11") _,
            );
        }
        eq!(seen & (0x400 | 0x4_0000 | 0x8d5), flags);
        eq!(seen & 0x200, 0x200);
    }
}

fn interrupt_flag_cannot_be_cleared() {
    let seen: u64;
    // SAFETY: popfq ignores the interrupt flag and the I/O privilege level in user mode.
    unsafe {
        std::arch::asm!("pushfq", "and qword ptr [rsp], ~0x200", "or qword ptr [rsp], 0x3000", "popfq",
            "pushfq", "pop {}", out(reg) seen);
    }
    eq!(seen & 0x3200, 0x200);
    sys::yield_now();
}

fn system_call_clobbers_only_what_it_may() {
    let (mut rbx, mut rdi, mut rsi, mut rdx) = (0x1u64, 0x2u64, 0x3u64, 0x4u64);
    let (mut r8, mut r9, mut r10) = (0x8u64, 0x9u64, 0x10u64);
    let (mut r12, mut r13, mut r14, mut r15) = (0x12u64, 0x13u64, 0x14u64, 0x15u64);
    let (rcx, r11): (u64, u64);
    // SAFETY: a call without arguments; rbx is put back.
    unsafe {
        std::arch::asm!("xchg rbx, {b}", "syscall", "2:", "xchg rbx, {b}", b = inout(reg) rbx,
            inout("rax") libc::SYS_getpid => _, inout("rdi") rdi, inout("rsi") rsi, inout("rdx") rdx,
            inout("r8") r8, inout("r9") r9, inout("r10") r10, inout("r12") r12, inout("r13") r13,
            inout("r14") r14, inout("r15") r15, out("rcx") rcx, out("r11") r11);
    }
    eq!([rbx, rdi, rsi, rdx, r8, r9, r10], [0x1, 0x2, 0x3, 0x4, 0x8, 0x9, 0x10]);
    eq!([r12, r13, r14, r15], [0x12, 0x13, 0x14, 0x15]);
    // The instruction leaves the return address and the flags in these; no kernel address may show.
    check!(rcx < guest_programs::mem::USER_END as u64 && r11 < 1 << 22, "rcx {rcx:#x} r11 {r11:#x}");
}

fn unknown_system_calls() {
    for nr in [350, 400, 511, 600, 1000, 0xffff, 0x7fff_ffff, i64::from(u32::MAX), -1, i64::MAX] {
        guest_programs::err!(guest_programs::sys::syscall(nr, &[1, 2, 3, 4, 5, 6]), ENOSYS);
    }
    // Only the lower half of the register counts.
    eq!(guest_programs::sys::syscall(1 << 40 | libc::SYS_getpid, &[]), Ok(ok!(call!(SYS_getpid))));
}

fn cpuid_and_tsc_work() {
    // SAFETY: unprivileged instructions of every x86-64.
    let first = unsafe { core::arch::x86_64::_rdtsc() };
    // SAFETY: as above.
    let second = unsafe { core::arch::x86_64::_rdtsc() };
    check!(second >= first);
    check!(core::arch::x86_64::__cpuid(0).eax >= 1);
}
