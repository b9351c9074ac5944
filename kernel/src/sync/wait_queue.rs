//! Tasks that wait for a condition.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use platform::Nanoseconds;

use super::IrqLock;
use crate::errno::Errno;
use crate::process::{Current, Task, current};
use crate::sched::{self, BlockedState};
use crate::time;

/// Something to be told when a [`WaitQueue`] is woken, beside tasks: an epoll set.
pub trait Wake: Send + Sync {
    /// Called with the queue's lock held and interrupts disabled: short, and wakes other queues only if those never
    /// wake this one.
    fn wake(&self);
}

/// One entry of a [`WaitQueue`].
#[derive(Clone)]
pub enum Waiter {
    /// A task, made runnable.
    Task(Arc<Task>),
    /// Anything else, told.
    Watcher(Arc<dyn Wake>),
}

impl Waiter {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Task(a), Self::Task(b)) => Arc::ptr_eq(a, b),
            (Self::Watcher(a), Self::Watcher(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Waiting ended because a signal came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted;

impl From<Interrupted> for Errno {
    /// The system call restarts if the signal's handler allows it.
    fn from(_: Interrupted) -> Self {
        Self::ERESTARTSYS
    }
}

/// Tasks and watchers that wait for some condition to hold. Whoever makes it hold wakes them; each looks again for
/// itself.
pub struct WaitQueue(IrqLock<VecDeque<Waiter>>);

impl WaitQueue {
    /// A queue nobody waits in.
    pub const fn new() -> Self {
        Self(IrqLock::new(VecDeque::new()))
    }

    /// Wakes the task that has waited longest, and tells every watcher. Returns whether there was such a task. A woken
    /// entry leaves the queue. A task that gives up just then hands the wake-up on to the next one; one that finds what
    /// it waited for, and more, wakes the next itself.
    pub fn wake_one(&self) -> bool {
        let mut queue = self.0.lock();
        let mut index = 0;
        while index < queue.len() {
            match &queue[index] {
                Waiter::Watcher(watcher) => {
                    watcher.wake();
                    index += 1;
                }
                Waiter::Task(_) => {
                    if let Some(Waiter::Task(task)) = queue.remove(index) {
                        drop(queue);
                        sched::wake(&task);
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Wakes every task and tells every watcher. Returns how many tasks were woken.
    pub fn wake_all(&self) -> usize {
        let mut queue = self.0.lock();
        if queue.is_empty() {
            return 0;
        }
        let mut woken = 0;
        queue.retain(|waiter| match waiter {
            Waiter::Task(task) => {
                sched::wake(task);
                woken += 1;
                false
            }
            Waiter::Watcher(watcher) => {
                watcher.wake();
                true
            }
        });
        woken
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Adds an entry; it stays until woken (tasks) or removed.
    pub fn add(&self, waiter: Waiter) {
        self.0.lock().push_back(waiter);
    }

    /// Removes an entry; whether it was still there.
    pub fn remove(&self, waiter: &Waiter) -> bool {
        let mut queue = self.0.lock();
        match queue.iter().position(|other| other.is(waiter)) {
            Some(index) => queue.remove(index).is_some(),
            None => false,
        }
    }

    /// Announces that `task`, the running one, is about to wait, and makes sure that it is in the queue.
    ///
    /// In this order: whoever takes the entry out finds a task that waits, so that it looks at its condition again before
    /// it sleeps, and is back in the queue then. The other way round, a wake-up could take the entry and do nothing more,
    /// and the task would sleep, if somebody else was quicker to use what it was woken for, where nobody finds it.
    fn prepare(&self, task: &Task, waiter: &Waiter, state: BlockedState) {
        task.prepare_to_block(state);
        let mut queue = self.0.lock();
        if !queue.iter().any(|other| other.is(waiter)) {
            queue.push_back(waiter.clone());
        }
    }

    /// Sleeps until `condition` yields a value, or a signal comes.
    pub fn wait<T>(&self, condition: impl FnMut() -> Option<T>) -> Result<T, Interrupted> {
        match self.wait_until(None, condition) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => unreachable!("no deadline was given"),
            Err(interrupted) => Err(interrupted),
        }
    }

    /// As [`Self::wait`], but no later than `deadline`: then it returns none (after one last look).
    pub fn wait_until<T>(
        &self,
        deadline: Option<Nanoseconds>,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, Interrupted> {
        if let Some(value) = condition() {
            return Ok(Some(value));
        }
        let task = current().shared();
        let waiter = Waiter::Task(task.clone());
        let timeout = deadline.map(|at| time::wake_at(&task, at));
        let result = loop {
            self.prepare(&task, &waiter, BlockedState::Interruptible);
            if let Some(value) = condition() {
                break Ok(Some(value));
            }
            if deadline.is_some_and(|at| time::now() >= at) {
                break Ok(None);
            }
            if Current::signal_pending() {
                break Err(Interrupted);
            }
            sched::block();
        };
        task.cancel_block();
        let woken = !self.remove(&waiter);
        if woken && !matches!(result, Ok(Some(_))) {
            // What this wake-up was for is still there, and may be for others.
            self.wake_one();
        }
        drop(timeout);
        result
    }

    /// Sleeps until `condition` yields a value, whatever signals come. For waits known to be short.
    pub fn wait_uninterruptible<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        if let Some(value) = condition() {
            return value;
        }
        let task = current().shared();
        let waiter = Waiter::Task(task.clone());
        loop {
            self.prepare(&task, &waiter, BlockedState::Uninterruptible);
            if let Some(value) = condition() {
                task.cancel_block();
                self.remove(&waiter);
                return value;
            }
            sched::block();
        }
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}
