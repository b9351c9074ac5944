//! Time: the unit, and the queue of what is to happen when.

pub mod queue;

/// A time on the monotonic clock, or a span of it, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Nanoseconds(pub u64);
