//! Discovery.

use crate::{Machine, Unusable};

/// Discovery of the machine's facts.
#[crate::part(boot)]
pub trait Boot {
    /// Finds CPUs, interrupt controllers, clocks and timers and makes the hooks marked *after discovery* usable on
    /// this CPU. Context: once, on CPU 0, from [`crate::Kernel::boot`] when frames and heap can be allocated, interrupts
    /// disabled. Variation of: `setup_arch` and `time_init`.
    fn discover() -> Result<Machine, Unusable>;
}
