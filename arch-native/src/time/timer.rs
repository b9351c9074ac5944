//! The one-shot event.
//!
//! Reaching the hardware is slow, so it is not touched more often than needed: a deadline later than what it is set to
//! is only written down, and the interrupt that then comes early sets the hardware anew. What the kernel sees is never
//! early.

use platform::Nanoseconds;

use super::tsc;
use crate::cpu::local::{self, Word};
use crate::machine::Machine;

const NEVER: u64 = u64::MAX;

/// [`platform::Timer::arm`].
#[inline]
pub fn arm<M: Machine>(deadline: Nanoseconds) {
    local::write(Word::Deadline, deadline.0);
    if deadline.0 < local::read(Word::Programmed) {
        program::<M>(deadline, tsc::now());
    }
}

/// [`platform::Timer::disarm`]: the hardware may still interrupt, but not the kernel.
#[inline]
pub fn disarm() {
    local::write(Word::Deadline, NEVER);
}

/// The hardware interrupted: whether the deadline has passed. If not, the hardware is set anew.
#[inline]
pub fn expired<M: Machine>() -> bool {
    local::write(Word::Programmed, NEVER);
    let deadline = local::read(Word::Deadline);
    if deadline == NEVER {
        return false;
    }
    let now = tsc::now();
    if now.0 < deadline {
        program::<M>(Nanoseconds(deadline), now);
        return false;
    }
    local::write(Word::Deadline, NEVER);
    true
}

#[inline]
fn program<M: Machine>(deadline: Nanoseconds, now: Nanoseconds) {
    local::write(Word::Programmed, deadline.0);
    M::set_timer(deadline.saturating_sub(now));
}
