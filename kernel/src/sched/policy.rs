//! What `sched_setscheduler(2)` and its like set, as far as this scheduler only remembers it.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};

/// A scheduling policy, by Linux's numbers (include/uapi/linux/sched.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Policy {
    /// SCHED_OTHER.
    Other = 0,
    /// SCHED_FIFO.
    Fifo = 1,
    /// SCHED_RR.
    RoundRobin = 2,
    /// SCHED_BATCH.
    Batch = 3,
    /// SCHED_IDLE.
    Idle = 5,
}

impl Policy {
    /// The policy of a number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Other,
            1 => Self::Fifo,
            2 => Self::RoundRobin,
            3 => Self::Batch,
            5 => Self::Idle,
            _ => return None,
        })
    }

    /// The priorities a task of this policy may have.
    pub fn priorities(self) -> core::ops::RangeInclusive<u8> {
        match self {
            Self::Fifo | Self::RoundRobin => 1..=99,
            Self::Other | Self::Batch | Self::Idle => 0..=0,
        }
    }
}

/// Settings of a task that are kept for those who ask: all policies are scheduled alike, there is no I/O scheduler, and
/// timers have no slack.
pub struct Remembered {
    policy: AtomicU8,
    priority: AtomicU8,
    reset_on_fork: AtomicBool,
    io_priority: AtomicU16,
    timer_slack: AtomicU64,
}

/// `IOPRIO_CLASS_BE`, level 4.
const DEFAULT_IO_PRIORITY: u16 = 2 << 13 | 4;
/// What Linux gives process 1, in nanoseconds.
pub const DEFAULT_TIMER_SLACK: u64 = 50_000;

impl Remembered {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            policy: AtomicU8::new(Policy::Other as u8),
            priority: AtomicU8::new(0),
            reset_on_fork: AtomicBool::new(false),
            io_priority: AtomicU16::new(DEFAULT_IO_PRIORITY),
            timer_slack: AtomicU64::new(DEFAULT_TIMER_SLACK),
        }
    }

    /// What a child of the task starts with.
    pub fn for_child(&self) -> Self {
        let child = Self::new();
        if !self.reset_on_fork() {
            child.set_policy(self.policy(), self.priority(), false);
        }
        child.set_io_priority(self.io_priority());
        child.set_timer_slack(self.timer_slack());
        child
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        Policy::from_number(self.policy.load(Ordering::Relaxed).into()).unwrap_or(Policy::Other)
    }

    /// The real-time priority; 0 unless the policy is one of real time.
    pub fn priority(&self) -> u8 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Whether children start with the defaults.
    pub fn reset_on_fork(&self) -> bool {
        self.reset_on_fork.load(Ordering::Relaxed)
    }

    /// Sets what belongs together.
    pub fn set_policy(&self, policy: Policy, priority: u8, reset_on_fork: bool) {
        self.policy.store(policy as u8, Ordering::Relaxed);
        self.priority.store(priority, Ordering::Relaxed);
        self.reset_on_fork.store(reset_on_fork, Ordering::Relaxed);
    }

    /// `ioprio_get(2)`.
    pub fn io_priority(&self) -> u16 {
        self.io_priority.load(Ordering::Relaxed)
    }

    /// `ioprio_set(2)`.
    pub fn set_io_priority(&self, priority: u16) {
        self.io_priority.store(priority, Ordering::Relaxed);
    }

    /// `PR_GET_TIMERSLACK`.
    pub fn timer_slack(&self) -> u64 {
        self.timer_slack.load(Ordering::Relaxed)
    }

    /// `PR_SET_TIMERSLACK`; zero stands for the default.
    pub fn set_timer_slack(&self, slack: u64) {
        let slack = if slack == 0 { DEFAULT_TIMER_SLACK } else { slack };
        self.timer_slack.store(slack, Ordering::Relaxed);
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Self::new()
    }
}
