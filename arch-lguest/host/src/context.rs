//! The state of a virtual CPU that changes with every instruction.

/// Which of its two modes a guest is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u64)]
pub enum Mode {
    /// Guest kernel.
    #[default]
    Kernel = 0,
    /// Guest user.
    User = 1,
}

/// General registers and what an exit pushes, in the order the entry code knows.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
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
    /// Why the guest was left: a vector, or [`Registers::HYPERCALL`].
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Registers {
    /// `vector` of a `syscall` in guest-kernel mode.
    pub const HYPERCALL: u64 = 256;
    /// The one code selector.
    pub const CODE: u64 = 0x33;
    /// The one data selector.
    pub const DATA: u64 = 0x2b;
    /// RFLAGS that are always set while a guest runs: IF and the one that is always 1.
    pub const FLAGS: u64 = 0x202;
}

/// Registers, mode and GS base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Context {
    /// The registers.
    pub registers: Registers,
    /// The mode.
    pub mode: Mode,
    /// GS base.
    pub gs_base: u64,
}

impl Context {
    /// A guest's first instruction at `entry`, with one argument.
    pub fn start(entry: u64, rsi: u64) -> Self {
        let registers = Registers {
            rsi,
            rip: entry,
            cs: Registers::CODE,
            rflags: Registers::FLAGS,
            ss: Registers::DATA,
            ..Registers::default()
        };
        Self { registers, mode: Mode::Kernel, gs_base: 0 }
    }
}

/// `address` with bit 47 repeated above: what a base register takes.
pub const fn sign_extended(address: u64) -> u64 {
    ((address << 16) as i64 >> 16) as u64
}
