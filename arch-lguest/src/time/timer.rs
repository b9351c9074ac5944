//! The one-shot event: virtual interrupt 0.
//!
//! As on a PC, a deadline later than what is set already is only written down: the interrupt that comes early sets the
//! event anew, and the kernel does not see it.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use platform::Nanoseconds;

use super::now;
use crate::host;

const NEVER: u64 = u64::MAX;

/// The deadline the kernel set; [`NEVER`] for none.
static DEADLINE: AtomicU64 = AtomicU64::new(NEVER);
/// When the host will interrupt next; [`NEVER`] for never.
static PROGRAMMED: AtomicU64 = AtomicU64::new(NEVER);

/// [`platform::Timer::arm`].
#[inline]
pub fn arm(deadline: Nanoseconds) {
    DEADLINE.store(deadline.0, Relaxed);
    if deadline.0 < PROGRAMMED.load(Relaxed) {
        program(deadline);
    }
}

/// [`platform::Timer::disarm`]: the host may still interrupt, but not the kernel.
#[inline]
pub fn disarm() {
    DEADLINE.store(NEVER, Relaxed);
}

/// The host interrupted: whether the deadline has passed. If not, the event is set anew.
#[inline]
pub fn expired() -> bool {
    PROGRAMMED.store(NEVER, Relaxed);
    let deadline = DEADLINE.load(Relaxed);
    if deadline == NEVER {
        return false;
    }
    if now().0 < deadline {
        program(Nanoseconds(deadline));
        return false;
    }
    DEADLINE.store(NEVER, Relaxed);
    true
}

fn program(deadline: Nanoseconds) {
    PROGRAMMED.store(deadline.0, Relaxed);
    host::set_clock_event(deadline);
}
