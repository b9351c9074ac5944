//! CPU time of processes and threads.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use platform::Nanoseconds;

use super::clocks::CpuTimeKind;
use crate::percpu;
use crate::process::{Process, Task};

/// Between two looks at a clock that cannot be waited for lies at least this.
pub(super) const MIN_LOOK: Nanoseconds = Nanoseconds::MILLISECOND;

/// A clock that goes only while somebody runs.
#[derive(Clone)]
pub(super) enum CpuClock {
    /// All threads of a process.
    Process(Arc<Process>, CpuTimeKind),
    /// One thread.
    Thread(Arc<Task>, CpuTimeKind),
}

impl CpuClock {
    /// What it shows. Context: no run queue or list of threads locked.
    pub(super) fn read(&self) -> Nanoseconds {
        match self {
            Self::Process(process, kind) => ProcessTime::of(process).get(*kind),
            Self::Thread(task, CpuTimeKind::All) => task.runtime(),
            Self::Thread(task, CpuTimeKind::User) => task.process.split(task.runtime()).0,
        }
    }

    /// In how much time it can have advanced by `left` at the soonest (but no less than [`MIN_LOOK`]).
    pub(super) fn soonest(&self, left: Nanoseconds) -> Nanoseconds {
        match self {
            Self::Process(process, _) => soonest(process, left),
            Self::Thread(..) => left.max(MIN_LOOK),
        }
    }
}

/// In how much time a process can have used `left` of CPU time at the soonest (but no less than [`MIN_LOOK`]).
pub(super) fn soonest(process: &Process, left: Nanoseconds) -> Nanoseconds {
    let threads = process.live_threads.load(Ordering::Relaxed).max(1);
    let at_once = u64::from(threads).min(percpu::online().count().max(1) as u64);
    Nanoseconds(left.0 / at_once).max(MIN_LOOK)
}

/// What a process has used up to a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProcessTime {
    /// In user mode.
    pub(super) user: Nanoseconds,
    /// In the kernel.
    pub(super) system: Nanoseconds,
}

impl ProcessTime {
    /// What `process` has used. Context: no run queue or list of threads locked.
    pub(super) fn of(process: &Process) -> Self {
        let usage = process.usage_times();
        Self { user: usage.0, system: usage.1 }
    }

    /// The part that counts.
    pub(super) fn get(self, kind: CpuTimeKind) -> Nanoseconds {
        match kind {
            CpuTimeKind::All => self.user.saturating_add(self.system),
            CpuTimeKind::User => self.user,
        }
    }
}
