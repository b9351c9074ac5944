//! mprotect, madvise, execution of data.

use guest_programs::elf::exit_code;
use guest_programs::mem::{PAGE, RW, anon, bytes, mprotect, munmap, peek, poke, run_code, unmapped};
use guest_programs::process::{End, end_of, in_child};
use guest_programs::signal::{Fault, attempt, read_faults, write_faults};
use guest_programs::{Case, call, cases, check, eq, err, fail, ok, sys};

pub const CASES: &[Case] = cases![
    protect_each_right,
    protect_splits_and_joins,
    protect_errors,
    guard_page_tells_address,
    kernel_respects_protection,
    write_then_execute,
    execute_needs_right,
    no_execution_of_stack_or_heap,
    protect_none_keeps_contents,
    dontneed_gives_zeros,
    dontneed_on_file_gives_file_again,
    madvise_errors,
    protection_seen_by_other_threads,
    mlock_is_accepted,
    msync_errors,
];

const READ: i32 = libc::PROT_READ;
const NONE: i32 = libc::PROT_NONE;
const EXEC: i32 = libc::PROT_EXEC;

fn segv(fault: Option<Fault>, code: i32, addr: usize) {
    let Some(fault) = fault else { fail!("no fault at {addr:#x}") };
    eq!((fault.signal, fault.code), (libc::SIGSEGV, code));
    check!(fault.addr == addr, "si_addr {:#x}, expected {addr:#x}", fault.addr);
}

const MAPERR: i32 = 1;
const ACCERR: i32 = 2;

fn protect_each_right() {
    let at = anon(PAGE);
    poke(at, 9u8);
    ok!(mprotect(at, PAGE, READ));
    eq!(peek::<u8>(at), 9);
    segv(write_faults(at + 5), ACCERR, at + 5);
    ok!(mprotect(at, PAGE, NONE));
    segv(read_faults(at + 6), ACCERR, at + 6);
    ok!(mprotect(at, PAGE, RW));
    eq!(peek::<u8>(at), 9);
    check!(write_faults(at).is_none());
    ok!(munmap(at, PAGE));
    segv(read_faults(at + 7), MAPERR, at + 7);
    segv(write_faults(at + 8), MAPERR, at + 8);
}

fn protect_splits_and_joins() {
    let at = anon(5 * PAGE);
    bytes(at, 5 * PAGE).fill(3);
    ok!(mprotect(at + PAGE, 3 * PAGE, READ));
    ok!(mprotect(at + 2 * PAGE, PAGE, NONE));
    for (page, readable, writable) in
        [(0, true, true), (1, true, false), (2, false, false), (3, true, false), (4, true, true)]
    {
        eq!(read_faults(at + page * PAGE).is_none(), readable);
        eq!(write_faults(at + page * PAGE).is_none(), writable);
    }
    ok!(mprotect(at, 5 * PAGE, RW));
    check!(bytes(at, 5 * PAGE)[PAGE..].iter().enumerate().all(|(i, b)| *b == 3 || i % PAGE == 0));
    bytes(at, 5 * PAGE).fill(4);
    ok!(munmap(at, 5 * PAGE));
}

fn protect_errors() {
    let at = anon(3 * PAGE);
    err!(mprotect(at + 1, PAGE, READ), EINVAL);
    err!(mprotect(at, PAGE, 0x100), EINVAL);
    eq!(mprotect(at, 0, NONE), Ok(0));
    err!(mprotect(unmapped(), PAGE, READ), ENOMEM);
    ok!(munmap(at + PAGE, PAGE));
    err!(mprotect(at, 3 * PAGE, READ), ENOMEM);
    err!(mprotect(guest_programs::mem::KERNEL, PAGE, READ), ENOMEM | EINVAL);
    err!(mprotect(at, usize::MAX & !4095, READ), ENOMEM | EINVAL);
}

fn guard_page_tells_address() {
    let at = anon(3 * PAGE);
    ok!(mprotect(at + PAGE, PAGE, NONE));
    for offset in [0, 1, 2048, 4095] {
        segv(read_faults(at + PAGE + offset), ACCERR, at + PAGE + offset);
        segv(write_faults(at + PAGE + offset), ACCERR, at + PAGE + offset);
    }
}

fn kernel_respects_protection() {
    let at = anon(2 * PAGE);
    let (out, inn) = ok!(sys::pipe(0));
    eq!(sys::write(inn, b"abcd"), Ok(4));
    ok!(mprotect(at, PAGE, READ));
    err!(sys::read(out, bytes(at, 2)), EFAULT);
    ok!(mprotect(at, PAGE, NONE));
    err!(sys::write(inn, bytes(at, 2)), EFAULT);
    ok!(mprotect(at, PAGE, RW));
    eq!(sys::read(out, bytes(at, 4)), Ok(4));
    eq!(bytes(at, 4), b"abcd");
}

/// Code that returns `value`.
fn give(value: u8) -> [u8; 6] {
    [0xb8, value, 0, 0, 0, 0xc3]
}

fn write_then_execute() {
    let at = anon(PAGE);
    for value in 1..20 {
        ok!(mprotect(at, PAGE, RW));
        bytes(at, 6).copy_from_slice(&give(value));
        ok!(mprotect(at, PAGE, READ | EXEC));
        eq!(run_code(at), usize::from(value));
        check!(write_faults(at).is_some());
    }
    // In a page that is all three at once, new code is seen at once.
    ok!(mprotect(at, PAGE, RW | EXEC));
    for value in 1..20 {
        bytes(at, 6).copy_from_slice(&give(value));
        eq!(run_code(at), usize::from(value));
    }
    in_child(|| {
        bytes(at, 6).copy_from_slice(&give(99));
        eq!(run_code(at), 99);
    });
    eq!(run_code(at), 19);
}

extern "C" fn jump(to: usize) {
    run_code(to);
}

fn execute_needs_right() {
    let at = anon(PAGE);
    bytes(at, 6).copy_from_slice(&give(1));
    segv(attempt(jump, at), ACCERR, at);
    ok!(mprotect(at, PAGE, READ));
    segv(attempt(jump, at), ACCERR, at);
    let gone = unmapped();
    segv(attempt(jump, gone), MAPERR, gone);
    ok!(mprotect(at, PAGE, READ | EXEC));
    check!(attempt(jump, at).is_none());
}

fn no_execution_of_stack_or_heap() {
    let on_stack = give(1);
    check!(attempt(jump, on_stack.as_ptr() as usize).is_some());
    let on_heap = Box::new(give(1));
    check!(attempt(jump, on_heap.as_ptr() as usize).is_some());
    let end = end_of(|| {
        guest_programs::signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
        jump(exit_code(0).as_ptr() as usize);
    });
    eq!(end, End::Signal(libc::SIGSEGV));
}

fn protect_none_keeps_contents() {
    let at = anon(50 * PAGE);
    (0..50).for_each(|i| poke(at + i * PAGE, i));
    ok!(mprotect(at, 50 * PAGE, NONE));
    check!((0..50).all(|i| read_faults(at + i * PAGE).is_some()));
    ok!(mprotect(at, 50 * PAGE, READ));
    (0..50).for_each(|i| eq!(peek::<usize>(at + i * PAGE), i));
}

fn dontneed_gives_zeros() {
    let at = anon(6 * PAGE);
    bytes(at, 6 * PAGE).fill(5);
    ok!(call!(SYS_madvise, at + PAGE, 3 * PAGE, libc::MADV_DONTNEED));
    check!(bytes(at + PAGE, 3 * PAGE).iter().all(|b| *b == 0));
    check!(bytes(at, PAGE).iter().all(|b| *b == 5) && bytes(at + 4 * PAGE, 2 * PAGE).iter().all(|b| *b == 5));
    in_child(|| {
        ok!(call!(SYS_madvise, at, PAGE, libc::MADV_DONTNEED));
        eq!(peek::<u8>(at), 0);
    });
    eq!(peek::<u8>(at), 5);
}

fn dontneed_on_file_gives_file_again() {
    guest_programs::fs::scratch();
    guest_programs::fs::put(c"f", &[8; PAGE], 0o644);
    let fd = ok!(sys::open(c"f", libc::O_RDONLY, 0));
    let at = ok!(guest_programs::mem::mmap(0, PAGE, RW, libc::MAP_PRIVATE, fd, 0));
    poke(at, 1u8);
    ok!(call!(SYS_madvise, at, PAGE, libc::MADV_DONTNEED));
    eq!(peek::<u8>(at), 8);
}

fn madvise_errors() {
    let at = anon(PAGE);
    err!(call!(SYS_madvise, at + 1, PAGE, libc::MADV_NORMAL), EINVAL);
    err!(call!(SYS_madvise, at, PAGE, 12345), EINVAL);
    err!(call!(SYS_madvise, unmapped(), PAGE, libc::MADV_DONTNEED), ENOMEM);
    eq!(call!(SYS_madvise, at, 0, libc::MADV_DONTNEED), Ok(0));
    for advice in [libc::MADV_NORMAL, libc::MADV_RANDOM, libc::MADV_SEQUENTIAL, libc::MADV_WILLNEED] {
        eq!(call!(SYS_madvise, at, PAGE, advice), Ok(0));
    }
}

fn protection_seen_by_other_threads() {
    // Writers on other CPUs must lose the right before mprotect returns: after it, the page may not change.
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    static STOP: AtomicBool = AtomicBool::new(false);
    static PAGE_AT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    extern "C" fn skip(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext; the store below is followed by its next instruction at r11.
        let regs = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
        regs[libc::REG_RIP as usize] = regs[libc::REG_R11 as usize];
    }
    let at = anon(PAGE);
    PAGE_AT.store(at, SeqCst);
    guest_programs::signal::handle(libc::SIGSEGV, libc::SA_NODEFER, skip);
    let writers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(|| {
                let mut value = 0u64;
                while !STOP.load(SeqCst) {
                    value += 1;
                    // SAFETY: a store to a mapped page; if it faults the handler goes on at the label in r11.
                    unsafe {
                        std::arch::asm!("lea r11, [rip + 2f]", "mov [{p}], {v}", "2:",
                            p = in(reg) PAGE_AT.load(SeqCst), v = in(reg) value, out("r11") _, options(nostack));
                    }
                }
            })
        })
        .collect();
    for _ in 0..300 {
        ok!(mprotect(at, PAGE, READ));
        let before = peek::<u64>(at);
        (0..200).for_each(|_| eq!(peek::<u64>(at), before));
        ok!(mprotect(at, PAGE, RW));
    }
    STOP.store(true, SeqCst);
    for writer in writers {
        check!(writer.join().is_ok());
    }
}

fn mlock_is_accepted() {
    let at = anon(2 * PAGE);
    eq!(call!(SYS_mlock, at, PAGE), Ok(0));
    eq!(call!(SYS_munlock, at, PAGE), Ok(0));
    err!(call!(SYS_mlock, unmapped(), PAGE), ENOMEM);
}

fn msync_errors() {
    let at = anon(PAGE);
    eq!(call!(SYS_msync, at, PAGE, libc::MS_SYNC), Ok(0));
    err!(call!(SYS_msync, at + 1, PAGE, libc::MS_SYNC), EINVAL);
    err!(call!(SYS_msync, at, PAGE, libc::MS_SYNC | libc::MS_ASYNC), EINVAL);
    err!(call!(SYS_msync, unmapped(), PAGE, libc::MS_SYNC), ENOMEM);
}
