//! Tasks that wait for a condition.

use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::Nanoseconds;

use super::IrqLock;
use super::wait_list::{Place, WaitList};
use crate::errno::{Errno, KResult};
use crate::process::{Current, current};
use crate::sched::{self, BlockedState};
use crate::time;

/// Something to be told when a [`WaitQueue`] is woken, beside tasks: an epoll set.
pub trait Wake: Send + Sync {
    /// Called with the queue's lock held and interrupts disabled: short, and wakes other queues only if those never
    /// wake this one.
    fn wake(&self);
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
/// itself. To wait needs no memory; to watch does.
pub struct WaitQueue(IrqLock<Waiters>);

struct Waiters {
    tasks: WaitList,
    watchers: Vec<Arc<dyn Wake>>,
}

impl WaitQueue {
    /// A queue nobody waits in.
    pub const fn new() -> Self {
        Self(IrqLock::new(Waiters { tasks: WaitList::new(), watchers: Vec::new() }))
    }

    /// Wakes the task that has waited longest, and tells every watcher. Returns whether there was such a task, which
    /// leaves the queue. A task that gives up just then hands the wake-up on to the next one; one that finds what it waited
    /// for, and more, wakes the next itself.
    pub fn wake_one(&self) -> bool {
        let mut waiters = self.0.lock();
        waiters.watchers.iter().for_each(|watcher| watcher.wake());
        waiters.tasks.wake_first(sched::wake)
    }

    /// Wakes every task, which leaves the queue, and tells every watcher. Returns how many tasks were woken.
    pub fn wake_all(&self) -> usize {
        let mut waiters = self.0.lock();
        waiters.watchers.iter().for_each(|watcher| watcher.wake());
        let mut woken = 0;
        while waiters.tasks.wake_first(sched::wake) {
            woken += 1;
        }
        woken
    }

    /// Whether nobody waits or watches.
    pub fn is_empty(&self) -> bool {
        let waiters = self.0.lock();
        waiters.tasks.is_empty() && waiters.watchers.is_empty()
    }

    /// Has `watcher` told of every wake-up until it is removed.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn watch(&self, watcher: Arc<dyn Wake>) -> KResult<()> {
        let mut waiters = self.0.lock();
        waiters.watchers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        waiters.watchers.push(watcher);
        Ok(())
    }

    /// Has `watcher` no longer told; nothing happens if it is not.
    pub fn unwatch(&self, watcher: &Arc<dyn Wake>) {
        let mut waiters = self.0.lock();
        let index = waiters.watchers.iter().position(|other| Arc::ptr_eq(other, watcher));
        let removed = index.map(|index| waiters.watchers.swap_remove(index));
        drop(waiters);
        drop(removed);
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
        let place = Place::new(current().shared());
        let timeout = deadline.map(|at| time::wake_at(place.task(), at));
        let waiting = Waiting { queue: self, place: &place };
        let result = loop {
            waiting.prepare(BlockedState::Interruptible);
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
        let woken = waiting.leave();
        if woken && !matches!(result, Ok(Some(_))) {
            // What this wake-up was for is still there, and may be for others.
            self.wake_one();
        }
        drop(timeout);
        result
    }

    /// Sleeps until `condition` yields a value, whatever signals come. For waits known to be short.
    pub fn wait_uninterruptible<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        self.wait_in(BlockedState::Uninterruptible, condition)
    }

    /// As [`Self::wait_uninterruptible`], but `condition` is also looked at when the running task has to end, which it
    /// may take for a reason to yield a value.
    pub fn wait_killable<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        self.wait_in(BlockedState::Killable, condition)
    }

    fn wait_in<T>(&self, state: BlockedState, mut condition: impl FnMut() -> Option<T>) -> T {
        if let Some(value) = condition() {
            return value;
        }
        let place = Place::new(current().shared());
        let waiting = Waiting { queue: self, place: &place };
        loop {
            waiting.prepare(state);
            if let Some(value) = condition() {
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

/// The running task's wait in a queue. It ends, and the place is in no queue any more, when this is dropped.
struct Waiting<'a> {
    queue: &'a WaitQueue,
    place: &'a Place,
}

impl Waiting<'_> {
    /// Announces that the task is about to wait, and makes sure that it is in the queue.
    ///
    /// In this order: whoever takes it out finds a task that waits, so that it looks at its condition again before it
    /// sleeps, and is back in the queue then. The other way round, a wake-up could take it out and do nothing more, and
    /// the task would sleep, if somebody else was quicker to use what it was woken for, where nobody finds it.
    fn prepare(&self, state: BlockedState) {
        self.place.task().prepare_to_block(state);
        // SAFETY: the place is for this queue alone, and outlives this value, which takes it out.
        unsafe { self.queue.0.lock().tasks.push(self.place) };
    }

    /// Ends the wait; whether the task has been woken since [`Self::prepare`].
    fn leave(self) -> bool {
        let woken = !self.withdraw();
        core::mem::forget(self);
        woken
    }

    /// Takes the task out of the queue; false if somebody else has.
    fn withdraw(&self) -> bool {
        self.place.task().cancel_block();
        // SAFETY: the place is for this queue alone.
        self.place.is_listed() && unsafe { self.queue.0.lock().tasks.remove(self.place) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}
