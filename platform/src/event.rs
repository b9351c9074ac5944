//! What the platform tells the kernel: exceptions and interrupts.

use crate::VirtAddr;

bitflags::bitflags! {
    /// What an access that faulted was (Intel SDM vol. 3A, 4.7, the page-fault error code).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Access: u32 {
        /// A translation was present: the fault is one of protection.
        const PRESENT = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// Made by user mode (whatever privilege level the kernel itself has).
        const USER = 1 << 2;
        /// A reserved bit was set in a translation: the tables are broken.
        const RESERVED = 1 << 3;
        /// An instruction fetch.
        const EXECUTE = 1 << 4;
    }
}

/// An exception (Intel SDM vol. 3A, table 6-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// #DE
    DivideError,
    /// #DB
    Debug,
    /// #BP, from `int3`
    Breakpoint,
    /// #OF, from `into`
    Overflow,
    /// #BR
    BoundRange,
    /// #UD
    InvalidOpcode,
    /// #NM: extended state is not available
    DeviceNotAvailable,
    /// #DF: the kernel cannot go on
    DoubleFault,
    /// #TS with its error code
    InvalidTss(u32),
    /// #NP with its error code
    SegmentNotPresent(u32),
    /// #SS with its error code
    StackFault(u32),
    /// #GP with its error code
    GeneralProtection(u32),
    /// #PF
    PageFault {
        /// The address accessed.
        address: VirtAddr,
        /// How it was accessed.
        access: Access,
    },
    /// #MF: x87
    FloatingPoint,
    /// #AC
    AlignmentCheck,
    /// #MC: the kernel cannot go on
    MachineCheck,
    /// #XM: SIMD
    SimdFloatingPoint,
    /// NMI
    NonMaskable,
    /// Any other vector below 32
    Other(u8),
}

/// An interrupt line, as the platform counts them: a GSI or message on a PC, an event channel port on Xen, ….
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IrqLine(pub u32);

/// What one CPU says to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Look at your run queue.
    Reschedule,
    /// Run the calls queued for you.
    Call,
    /// Stop for ever (panic, power-off).
    Stop,
}

/// An interrupt, as delivered to [`crate::Kernel::interrupt`]. The platform has already told its interrupt controller
/// that messages and the timer arrived; a line is finished by the kernel with [`crate::Interrupts::end`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// The deadline set with [`crate::Timer::arm`] has passed.
    Timer,
    /// A device's line.
    Line(IrqLine),
    /// From another CPU.
    Message(Message),
    /// Nothing the platform knows a cause for.
    Spurious,
}
