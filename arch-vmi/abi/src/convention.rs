//! Which registers a call takes and leaves.

/// How a call passes its arguments and what it may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Convention {
    /// The System V ABI: arguments in RDI, RSI, RDX, RCX, R8; result in RAX; RBX, RBP, RSP and R12 to R15 are kept.
    SystemV,
    /// As above, but R8 to R11 are kept too.
    PageTable,
    /// Arguments and result as above, but nothing else changes save the status flags.
    FlagsOnly,
    /// Arguments and results are those of the instruction the call is named for; beside them the status flags change.
    NativeRegisters,
    /// Jumped to; does not return.
    Jump,
}
