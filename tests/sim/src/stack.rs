//! Changing stacks.

use core::arch::naked_asm;

/// Abandons the current stack and calls `function(argument)` on the one that ends at `top`.
///
/// # Safety
/// `top` is the 16-byte aligned end of a writable stack that nobody else uses. Nothing on the abandoned stack is needed
/// again.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn start(top: u64, function: extern "sysv64" fn(u64) -> !, argument: u64) -> ! {
    naked_asm!("mov rsp, rdi", "xor ebp, ebp", "mov rdi, rdx", "call rsi", "ud2")
}

/// Keeps what a call must keep on the current stack, writes the stack pointer to `*save`, and calls `function(0)` on the
/// stack that ends at `top`. Returns when somebody calls [`resume`] with what was saved, perhaps on another thread.
///
/// # Safety
/// As for [`start`]; `save` is writable.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn leave(save: *mut u64, top: u64, function: extern "sysv64" fn(u64) -> !) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "xor ebp, ebp",
        "xor edi, edi",
        "call rdx",
        "ud2",
    )
}

/// Abandons the current stack and goes on after the [`leave`] that saved this stack pointer.
///
/// # Safety
/// `saved` was written by [`leave`] and is used once.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn resume(saved: u64) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// A stack of the build machine for user code, with a page below it that faults.
pub struct HostStack {
    /// 16-byte aligned end.
    pub top: u64,
}

/// Bytes of a [`HostStack`]; only what is touched takes memory.
const BYTES: usize = 1 << 20;

impl HostStack {
    /// A new stack, which is never given back to the build machine.
    pub fn new() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping; without MAP_FIXED it replaces none.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(base, libc::MAP_FAILED, "mmap of a user stack: {}", std::io::Error::last_os_error());
        // SAFETY: the lowest page of the mapping just made.
        let guarded = unsafe { libc::mprotect(base, 4096, libc::PROT_NONE) };
        assert_eq!(guarded, 0, "mprotect: {}", std::io::Error::last_os_error());
        Self { top: base as u64 + BYTES as u64 }
    }
}
