//! Which task runs where.
//!
//! Each CPU has a run queue. A task has a time slice; as long as some of it is left, the task goes to the front part of
//! the queue whenever it becomes ready, and to the back part with a new slice once it is used up. So every ready task
//! gets one slice a round, and one that sleeps often is not kept waiting behind those that never do. There is no
//! periodic tick: a CPU arms its timer for the end of a slice only while another task waits.

mod affinity;
mod context;
mod idle;
mod policy;
mod queue;
mod slice;
mod switch;
mod wake;

pub use affinity::set_affinity;
pub use context::{Context, KernelEntry};
pub use idle::{idle_cpus, run_idle};
pub use policy::{Policy, Remembered};
pub use queue::RunQueue;
pub use slice::{Nice, slice_expired};
pub use switch::{block, exit_current, finish_first_switch, install_idle_task, resched_if_needed, yield_now};
pub use wake::{enqueue_new, on_reschedule_message, wake, wake_stopped};

pub use switch::start_program;

use core::sync::atomic::{AtomicBool, AtomicI8, AtomicU8, AtomicU32, AtomicU64};

use platform::{CpuId, CpuSet, Nanoseconds};

/// Why a task is not ready to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BlockedState {
    /// Waits; a signal ends the wait.
    Interruptible = 1,
    /// Waits; nothing but its condition ends the wait.
    Uninterruptible = 2,
    /// Stopped by a signal; only SIGCONT and SIGKILL end that.
    Stopped = 3,
    /// Has ended and will not run again.
    Dead = 4,
    /// Waits; its condition or the end of its process ends the wait.
    Killable = 5,
}

/// [`SchedState::state`] of a task that runs or is ready to.
pub(crate) const RUNNABLE: u8 = 0;

/// The scheduler's part of a task.
pub struct SchedState {
    /// [`RUNNABLE`] or a [`BlockedState`]. Changed to a blocked state by the task itself; changed back under the lock
    /// of the run queue of `cpu`.
    pub(crate) state: AtomicU8,
    /// The CPU it runs on, waits for or ran on last.
    pub(crate) cpu: AtomicU32,
    /// CPUs it may run on, as bits of a [`CpuSet`].
    affinity: AtomicU64,
    /// [`Nice`] value.
    nice: AtomicI8,
    /// What is left of its slice, in nanoseconds.
    slice_left: AtomicU64,
    /// When it was last put on a CPU, in nanoseconds.
    started: AtomicU64,
    /// Time it has run, in nanoseconds, up to `started`.
    runtime: AtomicU64,
    /// Times it gave way of its own accord, and not.
    pub(crate) voluntary_switches: AtomicU64,
    pub(crate) involuntary_switches: AtomicU64,
    /// Whether this is a CPU's idle task, which is never queued.
    pub(crate) idle: AtomicBool,
    /// What is kept for those who ask.
    pub remembered: Remembered,
}

impl SchedState {
    /// The state of a task not started yet: blocked, so that only [`enqueue_new`] makes it run.
    pub fn new(nice: Nice, affinity: CpuSet) -> Self {
        Self {
            state: AtomicU8::new(BlockedState::Uninterruptible as u8),
            cpu: AtomicU32::new(crate::percpu::cpu_id().0),
            affinity: AtomicU64::new(affinity.bits()),
            nice: AtomicI8::new(nice.get()),
            slice_left: AtomicU64::new(nice.slice().0),
            started: AtomicU64::new(0),
            runtime: AtomicU64::new(0),
            voluntary_switches: AtomicU64::new(0),
            involuntary_switches: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            remembered: Remembered::new(),
        }
    }

    /// The state of a new child or thread of a task with this one.
    pub fn for_child(&self) -> Self {
        let reset = self.remembered.reset_on_fork();
        let nice = if reset { self.nice().max(Nice::default()) } else { self.nice() };
        Self { remembered: self.remembered.for_child(), ..Self::new(nice, self.affinity()) }
    }

    /// The CPU it runs on, waits for or ran on last.
    pub fn cpu(&self) -> CpuId {
        CpuId(self.cpu.load(core::sync::atomic::Ordering::Relaxed))
    }

    /// CPUs it may run on.
    pub fn affinity(&self) -> CpuSet {
        CpuSet::from_bits(self.affinity.load(core::sync::atomic::Ordering::Relaxed))
    }

    /// Whether it may run on `cpu`. One that may run on no CPU that is online may run anywhere.
    #[inline(always)]
    pub fn may_run_on(&self, cpu: CpuId) -> bool {
        let affinity = self.affinity();
        affinity.contains(cpu) || affinity.and(crate::percpu::online()).is_empty()
    }

    /// Sets the CPUs it may run on; takes effect when it is next queued.
    fn set_affinity(&self, cpus: CpuSet) {
        self.affinity.store(cpus.bits(), core::sync::atomic::Ordering::Relaxed);
    }

    /// Its nice value.
    pub fn nice(&self) -> Nice {
        Nice::clamped(self.nice.load(core::sync::atomic::Ordering::Relaxed).into())
    }

    /// Sets its nice value; takes effect with its next slice.
    pub fn set_nice(&self, nice: Nice) {
        self.nice.store(nice.get(), core::sync::atomic::Ordering::Relaxed);
    }

    /// Whether it runs or is ready to.
    pub fn is_runnable(&self) -> bool {
        self.state.load(core::sync::atomic::Ordering::Relaxed) == RUNNABLE
    }

    /// Why it does not run, if it does not.
    pub fn blocked_state(&self) -> Option<BlockedState> {
        match self.state.load(core::sync::atomic::Ordering::Relaxed) {
            1 => Some(BlockedState::Interruptible),
            2 => Some(BlockedState::Uninterruptible),
            3 => Some(BlockedState::Stopped),
            4 => Some(BlockedState::Dead),
            5 => Some(BlockedState::Killable),
            _ => None,
        }
    }

    /// Time it has run until it was last put on a CPU.
    pub fn runtime_until_switch(&self) -> Nanoseconds {
        Nanoseconds(self.runtime.load(core::sync::atomic::Ordering::Relaxed))
    }
}
