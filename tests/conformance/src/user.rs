//! Excursions into user mode: out with some registers, back with what ended it.

use core::arch::naked_asm;
use core::cell::UnsafeCell;

use platform::{Exception, TrapFrame, VirtAddr};

use crate::cpus;
use crate::hook::cpu;

/// Why user mode was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// By a system call.
    SystemCall,
    /// By an exception.
    Exception(Exception),
}

/// One CPU's way back.
pub struct Excursion(UnsafeCell<State>);

struct State {
    /// RSP of the code that waits for the excursion's end.
    waiting: VirtAddr,
    /// Top of the stack for entries from user mode; zero until the first excursion.
    stack: VirtAddr,
    end: Option<(Left, TrapFrame)>,
}

impl Excursion {
    pub const fn new() -> Self {
        Self(UnsafeCell::new(State { waiting: VirtAddr(0), stack: VirtAddr(0), end: None }))
    }
}

/// Runs user mode from `frame` until a system call or an exception ends it. Interrupts come and go meanwhile. Context:
/// interrupts enabled, the user's space active.
pub fn run(frame: &TrapFrame) -> (Left, TrapFrame) {
    cpu::irq_disable();
    let state = cpus::this().excursion.0.get();
    // SAFETY: this CPU's own, and no excursion is under way; interrupts are disabled but in user mode, from where
    // `end` comes back here.
    let end = unsafe {
        if (*state).stack == VirtAddr(0) {
            (*state).stack = cpus::stack();
        }
        cpu::set_kernel_stack((*state).stack);
        leave(&raw mut (*state).waiting, frame);
        (*state).end.take()
    };
    cpu::irq_enable();
    match end {
        Some(end) => end,
        None => panic!("user mode was left for no reason"),
    }
}

/// [`platform::Kernel::system_call`].
pub fn on_system_call(frame: &TrapFrame) -> ! {
    end(Left::SystemCall, frame)
}

/// [`platform::Kernel::exception`] in user mode.
pub fn on_exception(exception: Exception, frame: &TrapFrame) -> ! {
    end(Left::Exception(exception), frame)
}

/// Abandons the stack of the entry and goes on where [`run`] waits.
fn end(why: Left, frame: &TrapFrame) -> ! {
    let state = cpus::this().excursion.0.get();
    // SAFETY: this CPU's own; user mode was entered by `run`, whose stack is as it was left.
    unsafe {
        (*state).end = Some((why, *frame));
        come_back((*state).waiting)
    }
}

/// Pushes the callee-saved registers, stores RSP and enters user mode.
#[unsafe(naked)]
unsafe extern "C" fn leave(waiting: *mut VirtAddr, frame: &TrapFrame) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi], rsp",
        "mov rdi, rsi",
        "call {enter}",
        "ud2",
        enter = sym enter,
    )
}

extern "C" fn enter(frame: &TrapFrame) -> ! {
    cpu::enter_user(frame)
}

/// Makes [`leave`] return.
#[unsafe(naked)]
unsafe extern "C" fn come_back(waiting: VirtAddr) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
