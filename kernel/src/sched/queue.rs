//! The tasks that wait for one CPU.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicPtr, Ordering};

use intrusive_collections::{LinkedList, intrusive_adapter};
use platform::CpuId;

use crate::mm::AddressSpace;
use crate::process::Task;

intrusive_adapter!(ByRunLink = Arc<Task>: Task { run_link => intrusive_collections::LinkedListAtomicLink });

/// Tasks in the order of their turns. They are linked by what they have themselves, so that a task that becomes ready never
/// needs memory.
type Waiting = LinkedList<ByRunLink>;

/// One CPU's tasks.
pub struct RunQueue {
    /// Ready, with some of their slice left: these run first.
    fresh: Waiting,
    /// Ready, with a new slice.
    spent: Waiting,
    /// How many are in both.
    waiting: usize,
    /// The running task.
    current: Option<Arc<Task>>,
    /// Runs when nothing else does.
    idle: Option<Arc<Task>>,
    /// The task that ran before, until the switch away from it is complete.
    pub(super) previous: Option<Arc<Task>>,
    /// That task is still ready but may not run here any more: it goes elsewhere when the switch is complete.
    pub(super) previous_moves: bool,
    /// The address space that is active on this CPU; a task without one of its own runs in whatever was active before.
    pub(super) active_space: Option<Arc<AddressSpace>>,
    /// The task whose extended registers this CPU holds. Compared only, never followed.
    pub(super) extended_owner: AtomicPtr<Task>,
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl RunQueue {
    /// A queue with no task at all.
    pub const fn new() -> Self {
        Self {
            fresh: Waiting::new(ByRunLink::NEW),
            spent: Waiting::new(ByRunLink::NEW),
            waiting: 0,
            current: None,
            idle: None,
            previous: None,
            previous_moves: false,
            active_space: None,
            extended_owner: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The running task.
    pub fn current(&self) -> Option<&Arc<Task>> {
        self.current.as_ref()
    }

    /// Whether no task waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many tasks wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Time the CPU has had nothing to do.
    pub fn idle_time(&self) -> platform::Nanoseconds {
        self.idle.as_ref().map_or(platform::Nanoseconds::ZERO, |idle| idle.sched.runtime(self.runs(idle)))
    }

    pub(super) fn set_idle(&mut self, idle: Arc<Task>) {
        self.current = Some(idle.clone());
        self.idle = Some(idle);
    }

    pub(super) fn idle_task(&self) -> Option<&Arc<Task>> {
        self.idle.as_ref()
    }

    pub(super) fn replace_current(&mut self, next: Arc<Task>) -> Option<Arc<Task>> {
        self.current.replace(next)
    }

    /// Queues a task that has some of its slice left.
    #[inline(always)]
    pub(super) fn push_fresh(&mut self, task: Arc<Task>) {
        self.fresh.push_back(task);
        self.waiting += 1;
    }

    /// Queues a task that has just been given a new slice.
    pub(super) fn push_spent(&mut self, task: Arc<Task>) {
        self.spent.push_back(task);
        self.waiting += 1;
    }

    /// The next to run.
    pub(super) fn pop(&mut self) -> Option<Arc<Task>> {
        let next = self.fresh.pop_front().or_else(|| self.spent.pop_front())?;
        self.waiting -= 1;
        Some(next)
    }

    /// Takes a task that may run on `cpu` and waits here: the one that would wait longest.
    pub(super) fn steal_for(&mut self, cpu: CpuId) -> Option<Arc<Task>> {
        self.take_last(|task| task.sched.affinity().contains(cpu))
    }

    /// Takes out a task that waits here.
    pub(super) fn remove(&mut self, task: &Task) -> Option<Arc<Task>> {
        self.take_last(|other| core::ptr::eq(other, task))
    }

    /// Takes out the one that would wait longest of those that are as `wanted`.
    fn take_last(&mut self, wanted: impl Fn(&Task) -> bool) -> Option<Arc<Task>> {
        for queue in [&mut self.spent, &mut self.fresh] {
            let mut place = queue.back_mut();
            while let Some(task) = place.get() {
                if wanted(task) {
                    self.waiting -= 1;
                    return place.remove();
                }
                place.move_prev();
            }
        }
        None
    }

    /// Whether `task` is the one that runs.
    pub(super) fn runs(&self, task: &Task) -> bool {
        self.current.as_ref().is_some_and(|current| core::ptr::eq(Arc::as_ptr(current), task))
    }

    pub(super) fn set_extended_owner(&self, task: *const Task) {
        self.extended_owner.store(task.cast_mut(), Ordering::Relaxed);
    }

    pub(super) fn extended_owner(&self) -> *const Task {
        self.extended_owner.load(Ordering::Relaxed)
    }
}
