//! The switch from one kernel stack to another.

use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;

use platform::VirtAddr;

/// Where a task that does not run has left its stack pointer. Where it goes on lies on the stack there.
pub struct Context(UnsafeCell<VirtAddr>);

// SAFETY: written by the CPU that switches away from the task and read by the one that switches to it, both under the
// lock of a run queue the task belongs to.
unsafe impl Sync for Context {}

/// What a new task does first, on its own stack, with interrupts disabled. The argument is the one given with it.
pub type KernelEntry = extern "C" fn(argument: usize) -> !;

/// What a new task finds, from the lowest address up.
#[repr(C)]
struct InitialStack {
    return_address: u64,
    argument: u64,
    entry: u64,
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
            return_address: start as *const () as u64,
            argument: argument as u64,
            entry: entry as usize as u64,
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
    #[inline(always)]
    pub unsafe fn switch_to(&self, next: &Self) {
        // SAFETY: the caller's promise. What switches back finds the stack as it was left, and every register but the stack
        // pointer and the two that are pushed is given up.
        unsafe {
            asm!(
                "push rbp",
                "push rbx",
                "lea rax, [rip + 2f]",
                "push rax",
                "mov [rdi], rsp",
                "mov rsp, rsi",
                "ret",
                "2:",
                "pop rbx",
                "pop rbp",
                inout("rdi") self.0.get() => _,
                inout("rsi") (*next.0.get()).0 => _,
                out("r12") _,
                out("r13") _,
                out("r14") _,
                out("r15") _,
                clobber_abi("C"),
            );
        }
    }
}

/// First code of a new task.
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!(
        "pop r12",
        "pop r13",
        // The chain of frame pointers ends here.
        "xor ebp, ebp",
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
