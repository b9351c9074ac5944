//! How long a task runs before another gets its turn.

use core::sync::atomic::Ordering;

use platform::Nanoseconds;

use super::RunQueue;
use crate::percpu::{self, this_cpu};
use crate::process::Task;
use crate::time;

/// How generous a task is to others: -20 (least) to 19 (most), as in `nice(2)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Nice(i8);

/// Slice of a task with nice value 0.
const BASE_SLICE: Nanoseconds = Nanoseconds(4_000_000);
/// No slice is shorter.
const MIN_SLICE: Nanoseconds = Nanoseconds(250_000);

/// Slices by nice value, from -20 on: each step is a factor of 1.25, so that one step moves about a tenth of the CPU
/// between two busy tasks.
const SLICES: [Nanoseconds; 40] = {
    let mut slices = [BASE_SLICE; 40];
    let mut i = 19;
    while i > 0 {
        slices[i] = Nanoseconds(slices[i + 1].0 * 5 / 4);
        i -= 1;
    }
    slices[0] = Nanoseconds(slices[1].0 * 5 / 4);
    let mut i = 21;
    while i < 40 {
        let shorter = slices[i - 1].0 * 4 / 5;
        slices[i] = Nanoseconds(if shorter < MIN_SLICE.0 { MIN_SLICE.0 } else { shorter });
        i += 1;
    }
    slices
};

impl Nice {
    /// The nearest allowed value.
    pub fn clamped(value: i32) -> Self {
        Self(value.clamp(-20, 19) as i8)
    }

    /// -20 to 19.
    pub fn get(self) -> i8 {
        self.0
    }

    /// How long a task of this value runs in a round.
    pub fn slice(self) -> Nanoseconds {
        SLICES[(self.0 + 20) as usize]
    }
}

impl super::SchedState {
    /// The task is put on a CPU.
    pub(super) fn start(&self, now: Nanoseconds) {
        self.started.store(now.0, Ordering::Relaxed);
    }

    /// The task leaves its CPU, or its use of it is looked at: charges what it ran. Returns whether its slice is used
    /// up; if so, it has a new one.
    pub(super) fn charge(&self, now: Nanoseconds) -> bool {
        let ran = now.0.saturating_sub(self.started.load(Ordering::Relaxed));
        self.started.store(now.0, Ordering::Relaxed);
        self.runtime.store(self.runtime.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
        let left = self.slice_left.load(Ordering::Relaxed);
        if ran < left {
            self.slice_left.store(left - ran, Ordering::Relaxed);
            false
        } else {
            self.slice_left.store(self.nice().slice().0, Ordering::Relaxed);
            true
        }
    }

    /// When its slice ends if it runs on.
    fn slice_end(&self) -> Nanoseconds {
        Nanoseconds(self.started.load(Ordering::Relaxed) + self.slice_left.load(Ordering::Relaxed))
    }

    /// Time it has run, including now if it runs.
    pub fn runtime(&self, running: bool) -> Nanoseconds {
        let before = self.runtime.load(Ordering::Relaxed);
        let since =
            if running { time::now().0.saturating_sub(self.started.load(Ordering::Relaxed)) } else { 0 };
        Nanoseconds(before + since)
    }
}

impl RunQueue {
    /// When the running task's slice ends, if another task waits for its CPU.
    #[inline(always)]
    pub fn slice_end(&self) -> Option<Nanoseconds> {
        let current = self.current()?;
        (!self.is_empty() && !is_idle(current)).then(|| current.sched.slice_end())
    }
}

/// If the running task's slice is over at `now`, it gives way at the next return to user mode; otherwise tells when it
/// will be, if another task waits. `run_queue` is this CPU's, locked.
pub fn slice_expired(run_queue: &RunQueue, now: Nanoseconds) -> Option<Nanoseconds> {
    let need_resched = &this_cpu().need_resched;
    let end = run_queue.slice_end()?;
    if end <= now {
        need_resched.store(true, Ordering::Relaxed);
    }
    // Whoever runs next has a slice of its own.
    (!need_resched.load(Ordering::Relaxed)).then_some(end)
}

impl Task {
    /// Time it has run, up to now. Context: no run queue locked.
    pub fn runtime(&self) -> Nanoseconds {
        if core::ptr::eq(percpu::current_task(), self) {
            return self.sched.runtime(true);
        }
        loop {
            let home = self.sched.cpu();
            let Some(per_cpu) = percpu::of(home) else { return self.sched.runtime(false) };
            // What a switch changes is read as a whole.
            let queue = per_cpu.run_queue.lock();
            if self.sched.cpu() == home {
                return self.sched.runtime(queue.runs(self));
            }
        }
    }
}

/// Whether `task` is some CPU's idle task.
pub(super) fn is_idle(task: &Task) -> bool {
    task.sched.idle.load(Ordering::Relaxed)
}
