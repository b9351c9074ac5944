//! Time: the clocks, the timers of each CPU, sleeping, and the system calls on all of that.
//!
//! There is no periodic tick. Each CPU keeps its timers in a queue and arms the platform's one-shot event for the
//! first of them, or for the end of the running task's slice where another task waits.

pub mod abi;
pub mod queue;

mod adjust;
mod calls;
mod clocks;
mod cpu_time;
mod interval;
mod posix;
mod posix_calls;
mod process_timers;
#[cfg(test)]
mod sim_tests;
mod sleep;
mod source;
mod timers;
mod wall;

pub use calls::SYSTEM_CALLS;
pub use clocks::{ClockId, deadline_after, deadline_at};
pub use process_timers::{ProcessTimers, timer_signal_taken};
pub use sleep::sleep_until;
pub use source::{SourceClock, Start, TimerSource, TimerSpec};
pub use timers::{
    CpuTimers, TimerEvent, TimerGuard, TimerHandle, TimerTarget, arm, arm_slice, armed_count, before_idle,
    on_timer_interrupt, reserve as reserve_timers, shrink as shrink_timers, wake_at,
};
pub use wall::{realtime, realtime_offset, set_realtime};

use platform::Nanoseconds;

use crate::hook::clock;

/// Time since the platform first ran: CLOCK_MONOTONIC. Never goes back. Any context.
#[inline]
pub fn now() -> Nanoseconds {
    clock::now()
}

/// Sets the wall clock by the platform's, and takes the memory for the boot CPU's timers. Once, on that CPU, after discovery.
pub fn init() {
    timers::reserve(crate::percpu::this_cpu());
    wall::init(clock::wall_clock_at_boot());
}
