//! One event in the future, at the level of Linux's clockevents.

use crate::Nanoseconds;

/// This CPU's one-shot event. After discovery.
#[crate::part(timer)]
pub trait Timer {
    /// Delivers [`crate::Interrupt::Timer`] on this CPU once, not before [`crate::Clock::now`] has reached `deadline`; at once
    /// if it has. Replaces an earlier deadline. A platform whose event cannot reach that far may deliver early, and
    /// the kernel arms it again. Variation of: `set_next_ktime`. Context: interrupts disabled.
    fn arm(deadline: Nanoseconds);

    /// Forgets the deadline. An event already on its way may still be delivered. Variation of:
    /// `set_state_oneshot_stopped`. Context: interrupts disabled.
    fn disarm();
}
