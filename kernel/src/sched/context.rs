//! The switch from one kernel stack to another.

use core::arch::naked_asm;
use core::cell::UnsafeCell;

use platform::VirtAddr;

/// Where a task that does not run has left its stack pointer. Its callee-saved registers lie on the stack above that.
pub struct Context(UnsafeCell<VirtAddr>);

// SAFETY: written by the CPU that switches away from the task and read by the one that switches to it, both under the
// lock of a run queue the task belongs to.
unsafe impl Sync for Context {}

/// What a new task does first, on its own stack, with interrupts disabled. The argument is the one given with it.
pub type KernelEntry = extern "C" fn(argument: usize) -> !;

/// What [`switch_stacks`] pops, from the lowest address up.
#[repr(C)]
struct InitialStack {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    return_address: u64,
    /// Ends the chain of frame pointers.
    end: u64,
}

impl Context {
    /// The context of a task that never ran: it will start at `entry(argument)` on the stack whose top (16-byte
    /// aligned) is `top`.
    ///
    /// # Safety
    /// The stack belongs to this context alone and has room for a few dozen words below `top`.
    pub unsafe fn new(top: VirtAddr, entry: KernelEntry, argument: usize) -> Self {
        let stack = top - size_of::<InitialStack>() as u64;
        let initial = InitialStack {
            r15: 0,
            r14: 0,
            r13: entry as usize as u64,
            r12: argument as u64,
            rbx: 0,
            rbp: 0,
            return_address: start as *const () as u64,
            end: 0,
        };
        // SAFETY: the caller gave the stack, and `stack` is aligned for the structure.
        unsafe { stack.as_mut_ptr::<InitialStack>().write(initial) };
        Self(UnsafeCell::new(stack))
    }

    /// The context of what runs already (a CPU's idle task): filled when it is first switched away from.
    pub const fn running() -> Self {
        Self(UnsafeCell::new(VirtAddr(0)))
    }

    /// Saves what runs in `self` and continues `next`. Returns when something switches back.
    ///
    /// # Safety
    /// `self` is the running task's context, `next` one that was saved or made and does not run; interrupts are
    /// disabled and the run queue is locked.
    #[inline]
    pub unsafe fn switch_to(&self, next: &Self) {
        // SAFETY: the caller's promise.
        unsafe { switch_stacks(self.0.get(), *next.0.get()) }
    }
}

/// Pushes the callee-saved registers, stores RSP in `*save`, takes the other stack and pops the other registers.
#[unsafe(naked)]
unsafe extern "C" fn switch_stacks(save: *mut VirtAddr, next: VirtAddr) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// First code of a new task.
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!(
        // Whatever the top was: the ABI wants it aligned before a call.
        "and rsp, -16",
        "call {finish}",
        "mov rdi, r12",
        "call r13",
        "ud2",
        finish = sym finish,
    )
}

extern "C" fn finish() {
    super::switch::finish_first_switch();
}
