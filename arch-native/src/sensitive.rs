//! Sensitive instructions in assembly: the bare instruction, or a site that [`crate::machine::Machine`] patches.
//!
//! A block that uses [`sensitive`] has the operand `recorded = const M::RECORDED as u32`; the assembler chooses. A site
//! is five bytes that fault until they are patched, and a record of it in section `.sensitive_sites`.

/// Which instruction a site stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Instruction {
    /// `swapgs`, on a kernel stack.
    SwapGs = 0,
    /// `swapgs` as the first instruction of a system call, when RSP still is user mode's.
    SwapGsOnEntry = 1,
    /// `iretq`. Nothing follows.
    InterruptReturn = 2,
    /// `sysretq`. Nothing follows.
    SystemReturn = 3,
    /// `rdmsr`
    ReadMsr = 4,
    /// `wrmsr`
    WriteMsr = 5,
    /// `clac`, where the CPU has it.
    UserAccessEnd = 6,
}

/// Bytes of a site.
pub const SITE_BYTES: usize = 5;

/// One record of a site.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Site {
    /// Its first byte.
    pub address: u64,
    /// An [`Instruction`].
    pub instruction: u32,
    reserved: u32,
}

/// Expands to the templates of one instruction.
macro_rules! sensitive {
    ("swapgs") => {
        sensitive!(@ "swapgs", "0")
    };
    ("swapgs on entry") => {
        sensitive!(@ "swapgs", "1")
    };
    ("iretq") => {
        sensitive!(@ "iretq", "2")
    };
    // One that faults if the frame is not one user mode can have: its address is kept.
    ("iretq to user") => {
        concat!(
            ".pushsection .user_returns, \"a\", @progbits\n.quad 8f\n.popsection\n8:\n",
            sensitive!(@ "iretq", "2")
        )
    };
    ("sysretq") => {
        sensitive!(@ "sysretq", "3")
    };
    ("rdmsr") => {
        sensitive!(@ "rdmsr", "4")
    };
    ("wrmsr") => {
        sensitive!(@ "wrmsr", "5")
    };
    ("clac") => {
        sensitive!(@ crate::cpu::smap::smap_site!("clac"), "6")
    };
    (@ $bare:expr, $instruction:literal) => {
        concat!(
            ".if {recorded}\n",
            "9: .byte 0x0f, 0x0b, 0xcc, 0xcc, 0xcc\n",
            ".pushsection .sensitive_sites, \"a\", @progbits\n.quad 9b\n.long ",
            $instruction,
            ", 0\n.popsection\n",
            ".else\n",
            $bare,
            "\n.endif\n"
        )
    };
}
pub(crate) use sensitive;
