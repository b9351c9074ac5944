//! How long a task runs before another gets its turn.

use core::sync::atomic::Ordering;

use platform::Nanoseconds;

use crate::percpu::this_cpu;
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
        let since = if running { time::now().0.saturating_sub(self.started.load(Ordering::Relaxed)) } else { 0 };
        Nanoseconds(before + since)
    }
}

/// When the running task's slice ends, if another task waits for this CPU. Context: interrupts disabled.
pub fn slice_deadline() -> Option<Nanoseconds> {
    let run_queue = this_cpu().run_queue.lock();
    let current = run_queue.current()?;
    if run_queue.is_empty() || current.sched.idle.load(Ordering::Relaxed) {
        return None;
    }
    Some(current.sched.slice_end())
}

/// The timer of this CPU has fired: if the running task's slice is over, it gives way at the next return to user mode.
/// Context: interrupts disabled.
pub fn slice_expired(now: Nanoseconds) {
    if slice_deadline().is_some_and(|end| end <= now) {
        this_cpu().need_resched.store(true, Ordering::Relaxed);
    }
}

/// Another task has begun to wait for this CPU, or none does any more: arms the timer accordingly. Context: interrupts
/// disabled.
pub fn reprogram_slice() {
    time::reprogram();
}

/// Whether `task` is some CPU's idle task.
pub(super) fn is_idle(task: &Task) -> bool {
    task.sched.idle.load(Ordering::Relaxed)
}
