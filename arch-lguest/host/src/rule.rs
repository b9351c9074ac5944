//! The rules a guest must keep (`ABI.md`, "Rules"), and how one is broken.

use core::fmt;

/// A rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// LGUEST_INIT is the first hypercall.
    InitFirst,
    /// LGUEST_INIT comes once.
    InitOnce,
    /// A hypercall's number is one of the interface's.
    UnknownHypercall,
    /// A pointer with its length lies in memory.
    AddressOutsideMemory,
    /// Roots, the shared page and ranges are of whole pages, ascending, within one half.
    UnalignedAddress,
    /// Any other argument is in its range.
    BadArgument,
    /// The ring holds only calls that return nothing.
    NotInRing,
    /// Table entries that are used have no reserved bit and no large page.
    ReservedBits,
    /// Table entries that are used lead into memory.
    FrameOutsideMemory,
    /// Nothing of the guest's lies in the host's addresses.
    HostRange,
    /// Entry points lie in the kernel half.
    BadEntryPoint,
    /// Kernel mode goes on at a canonical address.
    BadReturn,
    /// A stack that the host is to use is mapped and writable.
    StackUnmapped,
    /// There is no exception before LGUEST_INIT.
    EarlyFault,
    /// The loaded root is not released.
    ReleasedRoot,
    /// What is notified is a device or queue that works, set up as the interface says.
    BadDevice,
    /// Queues lead to buffers in memory, of the kind their device wants.
    BadQueue,
}

impl Rule {
    /// Its name in `ABI.md`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InitFirst => "init-first",
            Self::InitOnce => "init-once",
            Self::UnknownHypercall => "unknown-hypercall",
            Self::AddressOutsideMemory => "address-outside-memory",
            Self::UnalignedAddress => "unaligned-address",
            Self::BadArgument => "bad-argument",
            Self::NotInRing => "not-in-ring",
            Self::ReservedBits => "reserved-bits",
            Self::FrameOutsideMemory => "frame-outside-memory",
            Self::HostRange => "host-range",
            Self::BadEntryPoint => "bad-entry-point",
            Self::BadReturn => "bad-return",
            Self::StackUnmapped => "stack-unmapped",
            Self::EarlyFault => "early-fault",
            Self::ReleasedRoot => "released-root",
            Self::BadDevice => "bad-device",
            Self::BadQueue => "bad-queue",
        }
    }

    /// The rule, broken by `value`.
    pub const fn broken_by(self, value: u64) -> Broken {
        Broken { rule: self, value }
    }
}

/// A rule that a guest has broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// The number, address or entry that broke it.
    pub value: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.rule.name(), self.value)
    }
}
