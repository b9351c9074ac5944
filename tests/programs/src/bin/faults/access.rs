//! Bad accesses: signal, code, address and registers as the handler sees them.

use guest_programs::mem::{KERNEL, NON_CANONICAL, PAGE, USER_END, anon, peek, poke, run_code, unmapped};
use guest_programs::signal::{Fault, attempt, read_faults, write_faults};
use guest_programs::{Case, call, cases, check, eq, fail, ok, sys};

pub const CASES: &[Case] = cases![
    null_read_write_jump,
    unmapped_read_write_jump,
    text_is_not_writable,
    kernel_addresses,
    non_canonical_addresses,
    end_of_user_space,
    registers_of_a_fault,
    error_code_and_trap_number,
    handler_can_repair_and_resume,
    handler_can_map_and_resume,
    jump_to_kernel,
    wide_access_across_a_border,
    string_instruction_stops_midway,
    fault_in_handler_is_nested,
    faults_in_many_threads: 60,
    fault_with_bad_stack_pointer,
    many_faults_leak_nothing,
];

const MAPERR: i32 = 1;
const ACCERR: i32 = 2;
const SI_KERNEL: i32 = 0x80;

fn one(fault: Option<Fault>) -> Fault {
    match fault {
        Some(fault) => fault,
        None => fail!("no fault"),
    }
}

fn is(fault: Option<Fault>, code: i32, addr: usize) {
    let fault = one(fault);
    eq!((fault.signal, fault.code), (libc::SIGSEGV, code));
    check!(fault.addr == addr, "si_addr {:#x}, expected {addr:#x}", fault.addr);
}

extern "C" fn jump(to: usize) {
    run_code(to);
}

fn null_read_write_jump() {
    for addr in [0, 1, 8, PAGE - 1] {
        is(read_faults(addr), MAPERR, addr);
        is(write_faults(addr), MAPERR, addr);
        let fault = attempt(jump, addr);
        is(fault, MAPERR, addr);
        eq!(one(fault).reg(libc::REG_RIP), addr);
    }
}

fn unmapped_read_write_jump() {
    let addr = unmapped() + 123;
    is(read_faults(addr), MAPERR, addr);
    is(write_faults(addr), MAPERR, addr);
    is(attempt(jump, addr), MAPERR, addr);
}

fn text_is_not_writable() {
    let addr = jump as *const () as usize;
    let before: u8 = peek(addr);
    is(write_faults(addr), ACCERR, addr);
    eq!(peek::<u8>(addr), before);
    // A constant too.
    static CONSTANT: [u8; 64] = [7; 64];
    let addr = CONSTANT.as_ptr() as usize;
    is(write_faults(addr), ACCERR, addr);
    eq!(peek::<u8>(addr), 7);
}

fn kernel_addresses() {
    for addr in [KERNEL, 0xffff_8000_0000_0000, 0xffff_8880_0000_1000, 0xffff_ffff_ffff_f000, usize::MAX] {
        is(read_faults(addr), MAPERR, addr);
        is(write_faults(addr), MAPERR, addr);
    }
}

fn non_canonical_addresses() {
    // The processor reports no address for these.
    for addr in [NON_CANONICAL, USER_END, USER_END + PAGE, 0xffff_0000_0000_0000, 1 << 62] {
        for fault in [read_faults(addr), write_faults(addr)] {
            let fault = one(fault);
            eq!((fault.signal, fault.code, fault.addr), (libc::SIGSEGV, SI_KERNEL, 0));
        }
    }
    let fault = one(attempt(jump, NON_CANONICAL));
    eq!((fault.signal, fault.code), (libc::SIGSEGV, SI_KERNEL));
}

fn end_of_user_space() {
    for addr in [USER_END - 1, USER_END - PAGE, USER_END - 2 * PAGE] {
        is(read_faults(addr), MAPERR, addr);
        is(write_faults(addr), MAPERR, addr);
    }
}

extern "C" fn load_with_marks(addr: usize) {
    // SAFETY: the load may fault, on which the attempt ends.
    unsafe {
        std::arch::asm!("mov byte ptr [rcx], 5", in("rcx") addr, in("rax") 0x1111, in("rdx") 0x2222, in("rsi") 0x3333,
            in("rdi") 0x4444, in("r8") 0x8888, in("r9") 0x9999, in("r10") 0xaaaa, in("r11") 0xbbbb, in("r12") 0xcccc,
            in("r13") 0xdddd, in("r14") 0xeeee, in("r15") 0xffff);
    }
}

fn registers_of_a_fault() {
    let fault = one(attempt(load_with_marks, 16));
    let expected = [
        (libc::REG_RCX, 16),
        (libc::REG_RAX, 0x1111),
        (libc::REG_RDX, 0x2222),
        (libc::REG_RSI, 0x3333),
        (libc::REG_RDI, 0x4444),
        (libc::REG_R8, 0x8888),
        (libc::REG_R9, 0x9999),
        (libc::REG_R10, 0xaaaa),
        (libc::REG_R11, 0xbbbb),
        (libc::REG_R12, 0xcccc),
        (libc::REG_R13, 0xdddd),
        (libc::REG_R14, 0xeeee),
        (libc::REG_R15, 0xffff),
    ];
    for (which, value) in expected {
        check!(fault.reg(which) == value, "register {which} is {:#x}, expected {value:#x}", fault.reg(which));
    }
    // The instruction pointer is at the store: c6 01 05.
    eq!(peek::<[u8; 3]>(fault.reg(libc::REG_RIP)), [0xc6, 0x01, 0x05]);
    let here = &fault as *const Fault as usize;
    check!(fault.reg(libc::REG_RSP).abs_diff(here) < 1 << 16);
    // Selectors of a 64-bit user: ring 3 code.
    eq!(fault.reg(libc::REG_CSGSFS) & 3, 3);
}

fn error_code_and_trap_number() {
    let at = anon(PAGE);
    poke(at, 1u8);
    let read = one(read_faults(unmapped()));
    eq!((read.reg(libc::REG_TRAPNO), read.reg(libc::REG_ERR)), (14, 4));
    let write = one(write_faults(unmapped()));
    eq!((write.reg(libc::REG_TRAPNO), write.reg(libc::REG_ERR)), (14, 6));
    ok!(call!(SYS_mprotect, at, PAGE, libc::PROT_READ));
    let write = one(write_faults(at));
    eq!((write.reg(libc::REG_TRAPNO), write.reg(libc::REG_ERR)), (14, 7));
    eq!(write.reg(libc::REG_CR2), at);
    let fetch = one(attempt(jump, at));
    eq!((fetch.reg(libc::REG_TRAPNO), fetch.reg(libc::REG_ERR)), (14, 0x15));
    let bad = one(read_faults(NON_CANONICAL));
    eq!((bad.reg(libc::REG_TRAPNO), bad.reg(libc::REG_ERR)), (13, 0));
}

fn handler_can_repair_and_resume() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static GOOD: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn repair(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext.
        let regs = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
        regs[libc::REG_RCX as usize] = GOOD.load(SeqCst) as i64;
    }
    GOOD.store(anon(PAGE), SeqCst);
    guest_programs::signal::handle(libc::SIGSEGV, 0, repair);
    for _ in 0..100 {
        load_with_marks(24);
        eq!(peek::<u8>(GOOD.load(SeqCst)), 5);
        poke(GOOD.load(SeqCst), 0u8);
    }
}

fn handler_can_map_and_resume() {
    extern "C" fn map(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel fills si_addr for SIGSEGV.
        let page = unsafe { (*info).si_addr() } as usize & !(PAGE - 1);
        let flags = guest_programs::mem::ANON | libc::MAP_FIXED;
        ok!(guest_programs::mem::mmap(page, PAGE, guest_programs::mem::RW, flags, -1, 0));
        poke(page, page);
    }
    let area = anon(64 * PAGE);
    ok!(guest_programs::mem::munmap(area, 64 * PAGE));
    guest_programs::signal::handle(libc::SIGSEGV, 0, map);
    for i in (0..64).rev() {
        eq!(peek::<usize>(area + i * PAGE), area + i * PAGE);
    }
}

fn jump_to_kernel() {
    for addr in [KERNEL, KERNEL + 0x1000, 0xffff_8000_0000_0000] {
        let fault = one(attempt(jump, addr));
        eq!((fault.signal, fault.code, fault.addr), (libc::SIGSEGV, MAPERR, addr));
        eq!(fault.reg(libc::REG_RIP), addr);
    }
}

fn wide_access_across_a_border() {
    let at = anon(2 * PAGE);
    ok!(guest_programs::mem::munmap(at + PAGE, PAGE));
    extern "C" fn wide(addr: usize) {
        // SAFETY: an eight-byte store wherever told.
        unsafe { std::arch::asm!("mov qword ptr [{}], 0", in(reg) addr, options(nostack)) };
    }
    poke(at + PAGE - 4, 0x0101_0101u32);
    // The address told is the first byte that cannot be accessed.
    is(attempt(wide, at + PAGE - 4), MAPERR, at + PAGE);
    eq!(peek::<u32>(at + PAGE - 4), 0x0101_0101);
    check!(attempt(wide, at + PAGE - 8).is_none());
}

fn string_instruction_stops_midway() {
    let at = anon(2 * PAGE);
    ok!(guest_programs::mem::munmap(at + PAGE, PAGE));
    extern "C" fn store(addr: usize) {
        // SAFETY: stores until it faults.
        unsafe {
            std::arch::asm!("rep stosb", inout("rdi") addr => _, inout("rcx") 300usize => _, in("al") 9u8)
        };
    }
    let fault = one(attempt(store, at + PAGE - 100));
    eq!((fault.code, fault.addr), (MAPERR, at + PAGE));
    eq!((fault.reg(libc::REG_RDI), fault.reg(libc::REG_RCX)), (at + PAGE, 200));
    check!(guest_programs::mem::bytes(at + PAGE - 100, 100).iter().all(|b| *b == 9));
}

fn fault_in_handler_is_nested() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static DEPTH: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn deeper(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        if DEPTH.fetch_add(1, SeqCst) < 20 {
            load_with_marks(0);
        }
        // SAFETY: the kernel passes a ucontext; the store is three bytes long.
        let regs = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
        regs[libc::REG_RIP as usize] += 3;
    }
    guest_programs::signal::handle(libc::SIGSEGV, libc::SA_NODEFER, deeper);
    load_with_marks(0);
    eq!(DEPTH.load(SeqCst), 21);
}

fn faults_in_many_threads() {
    // Each thread repairs its own faults: addresses and registers do not get mixed up.
    extern "C" fn skip(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes both.
        let (addr, regs) = unsafe {
            ((*info).si_addr() as usize, &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs)
        };
        check!(regs[libc::REG_RCX as usize] as usize == addr);
        regs[libc::REG_RIP as usize] += 3;
    }
    guest_programs::signal::handle(libc::SIGSEGV, 0, skip);
    let threads: Vec<_> = (1..9usize)
        .map(|n| std::thread::spawn(move || (0..2000usize).for_each(|i| load_with_marks(n * 4000 + i % 100))))
        .collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn fault_with_bad_stack_pointer() {
    extern "C" fn lose_stack(to: usize) {
        // SAFETY: the push faults; the attempt restores the stack pointer.
        unsafe { std::arch::asm!("mov rsp, {}", "push rax", "ud2", in(reg) to, options(noreturn)) };
    }
    // At canonical addresses a page fault; the push is 8 bytes below the pointer.
    is(attempt(lose_stack, 4096), MAPERR, 4088);
    is(attempt(lose_stack, KERNEL), MAPERR, KERNEL - 8);
    let fault = one(attempt(lose_stack, NON_CANONICAL));
    check!(matches!(fault.signal, libc::SIGSEGV | libc::SIGBUS), "{fault:?}");
}

fn many_faults_leak_nothing() {
    let addr = unmapped();
    for _ in 0..20_000 {
        check!(read_faults(addr).is_some());
    }
    eq!(sys::getpid(), std::process::id() as i32);
}
