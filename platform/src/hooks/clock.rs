//! Time, at the level of Linux's generic time of day.

use crate::{Nanoseconds, PhysFrame};

/// A way for user mode to read the clock without entering the kernel. The backend owns the format of the data page and
/// brings the code that reads it.
#[derive(Clone, Copy, Debug)]
pub struct UserClock {
    /// A frame to be mapped read-only into every program.
    pub data: PhysFrame,
    /// Position-independent code of a leaf function in the System V ABI that user mode may execute: takes the address
    /// at which `data` is mapped (RDI), returns what [`Clock::now`] would, in nanoseconds (RAX). Uses no stack beyond
    /// its return address.
    pub code: &'static [u8],
}

/// Time. After discovery, but for [`Clock::now`].
#[crate::part(clock)]
pub trait Clock {
    /// Time since the platform first ran. Never goes back, on one CPU or from one to another, and goes on while the CPU
    /// waits. Variation of: a clock source's `read`. Before discovery it may stand still at zero.
    fn now() -> Nanoseconds;

    /// Time since 1970-01-01 00:00 UTC at the moment [`Clock::now`] was zero; zero if the machine does not know.
    /// Variation of: `read_persistent_clock64`.
    fn wall_clock_at_boot() -> Nanoseconds;

    /// Time since the boot for which this CPU was ready to run and whatever is below ran something else. Variation of:
    /// `paravirt_steal_clock`. Zero where nobody tells. Context: interrupts disabled.
    fn stolen() -> Nanoseconds;

    /// How user mode may read the clock, if it may. Variation of: the vDSO's clock mode.
    fn user_clock() -> Option<UserClock>;
}
