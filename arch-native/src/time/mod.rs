//! Clock and timer.

#[cfg(feature = "pc")]
pub(crate) mod apic_timer;
#[cfg(feature = "pc")]
pub(crate) mod calibrate;
#[cfg(feature = "pc")]
mod hooks;
#[cfg(feature = "pc")]
pub(crate) mod rtc;
pub mod scale;
#[cfg(feature = "pc")]
pub(crate) mod timer;
pub mod tsc;
pub mod user_clock;

/// What the machine may have to measure its counters with.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sources {
    /// The HPET's registers, mapped.
    pub hpet: Option<platform::VirtAddr>,
    /// The power management timer's port, and whether it counts 32 bits, not 24.
    pub pm_timer: Option<(u16, bool)>,
}

#[cfg(feature = "pc")]
pub use hooks::{PcClock, PcTimer};
