//! The wall clock: what must be added to the monotonic clock to get the time since 1970.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::Nanoseconds;

use super::now;
use crate::errno::{Errno, KResult};
use crate::sync::WaitQueue;

/// CLOCK_REALTIME less CLOCK_MONOTONIC. One word, so it is always whole.
static OFFSET: AtomicU64 = AtomicU64::new(0);

/// How often the clock has been set.
static SETS: AtomicU64 = AtomicU64::new(0);

/// Those whose deadlines are on the wall clock: woken when it is set.
pub(super) static CLOCK_WAS_SET: WaitQueue = WaitQueue::new();

/// Sets the clock by the platform's.
pub(super) fn init(at_boot: Nanoseconds) {
    publish(at_boot);
}

fn publish(offset: Nanoseconds) {
    OFFSET.store(offset.0, Ordering::Relaxed);
    crate::vdso::set_realtime_offset(offset);
}

/// What to add to [`now`] for the time since 1970-01-01 00:00 UTC.
#[inline]
pub fn realtime_offset() -> Nanoseconds {
    Nanoseconds(OFFSET.load(Ordering::Relaxed))
}

/// The time since 1970-01-01 00:00 UTC: CLOCK_REALTIME.
#[inline]
pub fn realtime() -> Nanoseconds {
    now().saturating_add(realtime_offset())
}

/// The monotonic time at which the wall clock, as it goes now, shows `at`; zero if that was before the start.
pub(super) fn monotonic_of(at: Nanoseconds) -> Nanoseconds {
    if at == Nanoseconds::MAX { at } else { at.saturating_sub(realtime_offset()) }
}

/// How often the wall clock has been set.
pub(super) fn sets() -> u64 {
    SETS.load(Ordering::Acquire)
}

/// Sets the wall clock. Context: a task, no lock held.
///
/// # Errors
/// EINVAL for a time at which the machine would have started before 1970.
pub fn set_realtime(to: Nanoseconds) -> KResult<()> {
    let offset = to.0.checked_sub(now().0).ok_or(Errno::EINVAL)?;
    publish(Nanoseconds(offset));
    SETS.fetch_add(1, Ordering::Release);
    CLOCK_WAS_SET.wake_all();
    Ok(())
}
