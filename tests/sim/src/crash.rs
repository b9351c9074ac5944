//! Panics and host exceptions on a CPU end the run with a reason, not the test process without one.

use std::cell::UnsafeCell;
use std::fmt::Write;
use std::sync::Once;
use std::sync::atomic::Ordering::SeqCst;

use platform::VirtAddr;

use crate::memory::{USER_TOP, memory};
use crate::outcome::{Failure, FailureKind, finish};
use crate::state::{current, park};

const SIGNAL_STACK_BYTES: usize = 1 << 16;
const SIGNALS: [(libc::c_int, &str); 4] = [
    (libc::SIGSEGV, "invalid memory access"),
    (libc::SIGBUS, "bus error"),
    (libc::SIGILL, "undefined instruction"),
    (libc::SIGFPE, "arithmetic exception"),
];

/// Makes panics and exceptions on CPU threads end the run.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match current() {
            None => previous(info),
            Some(cpu) => {
                let message = format!("on CPU {}: {info}", cpu.id.0);
                finish(Err(Failure { kind: FailureKind::Panic, message }));
                // No unwinding: below may be stacks that no unwinder knows, and the machine is gone anyway.
                park()
            }
        }));
        for (signal, _) in SIGNALS {
            let mut action = libc::sigaction {
                sa_sigaction: on_signal as *const () as usize,
                // SAFETY: an all-zero signal set is a valid value; it is emptied below.
                sa_mask: unsafe { std::mem::zeroed() },
                sa_flags: libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER,
                sa_restorer: None,
            };
            // SAFETY: both pointers are to a local; the handler has the signature that SA_SIGINFO asks for.
            let result = unsafe {
                libc::sigemptyset(&raw mut action.sa_mask);
                libc::sigaction(signal, &raw const action, std::ptr::null_mut())
            };
            assert_eq!(result, 0, "sigaction: {}", std::io::Error::last_os_error());
        }
    });
}

/// Lets this thread take signals when its stack is not usable. Needed once on every CPU thread.
pub fn use_signal_stack() {
    let memory: &'static UnsafeCell<[u8; SIGNAL_STACK_BYTES]> =
        Box::leak(Box::new(UnsafeCell::new([0; SIGNAL_STACK_BYTES])));
    let stack = libc::stack_t { ss_sp: memory.get().cast(), ss_flags: 0, ss_size: SIGNAL_STACK_BYTES };
    // SAFETY: the memory is leaked and used by nobody else.
    let result = unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
    assert_eq!(result, 0, "sigaltstack: {}", std::io::Error::last_os_error());
}

/// What an address is, for people.
fn describe(address: u64) -> &'static str {
    let memory = memory();
    if address < 4096 {
        "a null pointer"
    } else if address < USER_TOP {
        "a user address, which the kernel must reach through sim::kernel_access"
    } else if memory.in_window(VirtAddr(address)) {
        "in the kernel window, where the access is not allowed: a guard page, or unmapped"
    } else if memory.in_direct_map(VirtAddr(address)) {
        "in the direct map"
    } else {
        "no address of the machine"
    }
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(cpu) = current() else {
        // Not ours: the default action takes it when the instruction is tried again.
        // SAFETY: resets one signal of this process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let what = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("signal", |(_, name)| name);
    // SAFETY: the host passes a valid siginfo_t for these signals.
    let address = unsafe { (*info).si_addr() } as u64;
    // SAFETY: with SA_SIGINFO the third argument is a ucontext_t.
    let rip = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] };
    let place = if cpu.user_context.load(SeqCst) == 0 { "the kernel" } else { "a user program" };
    let mut message = format!("CPU {} in {place}: {what} at instruction {rip:#x}", cpu.id.0);
    if signal == libc::SIGSEGV || signal == libc::SIGBUS {
        let _ = write!(message, ", address {address:#x} ({})", describe(address));
    }
    // Formatting allocates, which a signal handler may not in general; these signals are synchronous and the process is
    // about to end. The worst case is a hang in the allocator, which the wall-clock limit turns into a report.
    finish(Err(Failure { kind: FailureKind::Crash, message }));
    park()
}
