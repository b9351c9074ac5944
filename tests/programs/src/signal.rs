//! Signals: handlers, masks, and what a handler is told.

use crate::sys::{Sys, zeroed};
use crate::{call, ok};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

/// A handler that takes all three arguments.
pub type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// How often `count` ran.
pub static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The last signal that `count` saw.
pub static LAST: AtomicI32 = AtomicI32::new(0);

/// A handler that counts.
pub extern "C" fn count(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    LAST.store(signal, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

/// How often `count` ran so far.
pub fn counted() -> usize {
    COUNT.load(SeqCst)
}

/// Installs `handler` with SA_SIGINFO and `flags`.
pub fn handle(signal: i32, flags: i32, handler: Handler) {
    handle_masked(signal, flags, handler, &[]);
}

/// Installs `handler` with SA_SIGINFO, `flags`, and `mask` blocked while it runs.
pub fn handle_masked(signal: i32, flags: i32, handler: Handler, mask: &[i32]) {
    ok!(sigaction(signal, flags | libc::SA_SIGINFO, handler as usize, mask));
}

/// Sets the default action, or ignores.
pub fn dispose(signal: i32, to: usize) {
    ok!(sigaction(signal, 0, to, &[]));
}

/// `sigaction` by way of libc (which supplies the restorer); gives the old action.
pub fn sigaction(signal: i32, flags: i32, handler: usize, mask: &[i32]) -> Sys<libc::sigaction> {
    let mut new: libc::sigaction = zeroed();
    let mut old: libc::sigaction = zeroed();
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    // SAFETY: plain structures on this stack.
    let ret = unsafe {
        libc::sigemptyset(&mut new.sa_mask);
        mask.iter().for_each(|s| {
            libc::sigaddset(&mut new.sa_mask, *s);
        });
        libc::sigaction(signal, &new, &mut old)
    };
    if ret == 0 { Ok(old) } else { Err(last()) }
}

/// libc's errno of the calling thread.
pub fn last() -> crate::Errno {
    crate::Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// A kernel signal set: bit N-1 for signal N.
pub fn set(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |bits, s| bits | 1 << (s - 1))
}

/// `rt_sigprocmask`; gives the old mask.
pub fn mask(how: i32, signals: &[i32]) -> u64 {
    let mut old = 0u64;
    ok!(call!(SYS_rt_sigprocmask, how, &set(signals), &mut old, 8));
    old
}

/// Blocks signals; gives the old mask.
pub fn block(signals: &[i32]) -> u64 {
    mask(libc::SIG_BLOCK, signals)
}

/// Unblocks signals.
pub fn unblock(signals: &[i32]) -> u64 {
    mask(libc::SIG_UNBLOCK, signals)
}

/// The current mask.
pub fn current_mask() -> u64 {
    mask(libc::SIG_BLOCK, &[])
}

/// Pending signals.
pub fn pending() -> u64 {
    let mut bits = 0u64;
    ok!(call!(SYS_rt_sigpending, &mut bits, 8));
    bits
}

/// Sends a signal to the calling thread.
pub fn raise(signal: i32) {
    ok!(call!(SYS_tgkill, crate::sys::getpid(), crate::sys::gettid(), signal));
}

/// Takes one of `signals`, which must be blocked, waiting for it as long as needed.
pub fn take(signals: &[i32]) -> libc::siginfo_t {
    let mut info: libc::siginfo_t = zeroed();
    loop {
        match call!(SYS_rt_sigtimedwait, &set(signals), &mut info, 0, 8) {
            Ok(_) => return info,
            Err(crate::Errno(libc::EINTR)) => {}
            Err(e) => crate::fail!("rt_sigtimedwait: {e:?}"),
        }
    }
}

/// Sends SIGALRM to this process every `millis` milliseconds; 0 stops it. For interrupting a call whose start
/// cannot be observed: one of the signals will find it waiting.
pub fn tick(millis: i64) {
    let every = libc::timeval { tv_sec: 0, tv_usec: millis * 1000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    ok!(call!(SYS_setitimer, libc::ITIMER_REAL, &timer, 0));
}

/// Alternate signal stack of the calling thread: `size` bytes with an unmapped page below it; gives its base.
pub fn alternate_stack(size: usize) -> usize {
    let base = crate::mem::stack(size) - size;
    let stack = libc::stack_t { ss_sp: base as *mut _, ss_flags: 0, ss_size: size };
    ok!(call!(SYS_sigaltstack, &stack, 0));
    base
}

/// What the last fault handled by `catch_faults` looked like.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Signal number.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_addr.
    pub addr: usize,
    /// Registers at the fault, in the order of ucontext.
    pub regs: [i64; 23],
}

impl Fault {
    /// Register `which` (libc::REG_*) at the fault.
    pub fn reg(&self, which: i32) -> usize {
        self.regs[which as usize] as usize
    }
}

static FAULT: std::sync::Mutex<Option<Fault>> = std::sync::Mutex::new(None);
static SAVED: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

unsafe extern "C" {
    fn guest_attempt_enter(code: extern "C" fn(usize), arg: usize, saved: *const AtomicUsize) -> usize;
    fn guest_attempt_leave();
}

// Saves what the C convention keeps, runs the code, and can be left from a signal handler: a setjmp that cannot
// return twice as far as the compiler can see.
std::arch::global_asm!(
    ".globl guest_attempt_enter",
    "guest_attempt_enter:",
    "push rbp",
    "mov [rdx], rbx",
    "mov [rdx + 8], rsp",
    "mov [rdx + 16], r12",
    "mov [rdx + 24], r13",
    "mov [rdx + 32], r14",
    "mov [rdx + 40], r15",
    "push rdx",
    "sub rsp, 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    "pop rdx",
    "pop rbp",
    "xor eax, eax",
    "ret",
    // Comes here by a signal handler that put the save area into rdx.
    ".globl guest_attempt_leave",
    "guest_attempt_leave:",
    "mov rbx, [rdx]",
    "mov rsp, [rdx + 8]",
    "mov r12, [rdx + 16]",
    "mov r13, [rdx + 24]",
    "mov r14, [rdx + 32]",
    "mov r15, [rdx + 40]",
    "cld",
    "pop rbp",
    "mov eax, 1",
    "ret",
);

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both for a handler with SA_SIGINFO.
    let (info, context) = unsafe { (&*info, &mut *(context as *mut libc::ucontext_t)) };
    // SAFETY: the field is at the same place for every fault signal.
    let addr = unsafe { info.si_addr() } as usize;
    let regs = &mut context.uc_mcontext.gregs;
    if let Ok(mut fault) = FAULT.try_lock() {
        *fault = Some(Fault { signal, code: info.si_code, addr, regs: *regs });
    }
    regs[libc::REG_RIP as usize] = guest_attempt_leave as *const () as i64;
    regs[libc::REG_RDX as usize] = SAVED.as_ptr() as i64;
    // A handler must not resume with the trap flag the case may have set.
    regs[libc::REG_EFL as usize] &= !0x100;
}

/// Runs `code(arg)` and gives the fault that stopped it, if any. Faults are handled on an alternate stack, so that a
/// lost stack pointer is survivable. Not for several threads at once.
pub fn attempt(code: extern "C" fn(usize), arg: usize) -> Option<Fault> {
    static STACK: AtomicUsize = AtomicUsize::new(0);
    if STACK.load(SeqCst) == 0 {
        STACK.store(alternate_stack(65536), SeqCst);
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
            handle(signal, libc::SA_ONSTACK | libc::SA_NODEFER, on_fault);
        }
    }
    if let Ok(mut fault) = FAULT.lock() {
        *fault = None;
    }
    // SAFETY: the assembly above keeps the C convention whether the code returns or faults.
    unsafe { guest_attempt_enter(code, arg, SAVED.as_ptr()) };
    FAULT.lock().ok().and_then(|fault| *fault)
}

/// Whether reading a byte at `addr` faults.
pub fn read_faults(addr: usize) -> Option<Fault> {
    extern "C" fn read(addr: usize) {
        crate::mem::peek::<u8>(addr);
    }
    attempt(read, addr)
}

/// Whether writing a byte at `addr` faults.
pub fn write_faults(addr: usize) -> Option<Fault> {
    extern "C" fn write(addr: usize) {
        crate::mem::poke::<u8>(addr, 1);
    }
    attempt(write, addr)
}
