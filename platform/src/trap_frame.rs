//! The registers of an interrupted context.

/// Registers saved on the kernel stack on every entry, in the order of Linux's `struct pt_regs`
/// (arch/x86/include/uapi/asm/ptrace.h), which signal frames and core dumps follow.
///
/// The platform normalizes the selectors: whatever it uses itself, `cs` is [`TrapFrame::USER_CODE`] or
/// [`TrapFrame::USER_CODE_32`] for user mode and [`TrapFrame::KERNEL_CODE`] for the kernel, so that
/// [`TrapFrame::is_user`] needs no knowledge of privilege levels. It ignores what the kernel writes there but for the
/// difference between user and kernel. `rflags` carries the interrupt flag as the kernel knows it.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call number on a system call; what the platform likes on any other entry.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// Linux's kernel code selector.
    pub const KERNEL_CODE: u64 = 0x10;
    /// Linux's kernel data selector.
    pub const KERNEL_DATA: u64 = 0x18;
    /// Linux's 32-bit user code selector.
    pub const USER_CODE_32: u64 = 0x23;
    /// Linux's user data selector.
    pub const USER_DATA: u64 = 0x2b;
    /// Linux's 64-bit user code selector.
    pub const USER_CODE: u64 = 0x33;

    /// RFLAGS.IF.
    pub const INTERRUPT_FLAG: u64 = 1 << 9;

    /// Whether user mode was interrupted.
    pub const fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// Whether interrupts were enabled in the interrupted context.
    pub const fn interrupts_enabled(&self) -> bool {
        self.rflags & Self::INTERRUPT_FLAG != 0
    }

    /// A context that starts at `rip` in user mode with stack `rsp`, all other registers zero and interrupts enabled.
    pub const fn user(rip: u64, rsp: u64) -> Self {
        Self {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            orig_rax: u64::MAX,
            rip,
            cs: Self::USER_CODE,
            rflags: Self::INTERRUPT_FLAG | 2,
            rsp,
            ss: Self::USER_DATA,
        }
    }
}
