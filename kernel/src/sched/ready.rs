//! Lists of ready tasks, linked through the tasks themselves: making one ready needs no memory.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ptr;

use crate::process::Task;

/// A task's place in a [`ReadyList`].
pub(crate) struct ReadyLink(UnsafeCell<Option<Arc<Task>>>);

// SAFETY: touched only by the list the task is in, which its run queue's lock guards.
unsafe impl Sync for ReadyLink {}

impl ReadyLink {
    /// In no list.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }
}

/// Ready tasks, first come, first served. A task is in one list at most.
pub(super) struct ReadyList {
    first: Option<Arc<Task>>,
    /// Null if there is none.
    last: *const Task,
    length: usize,
}

// SAFETY: the list owns a reference to each of its tasks, `last` among them.
unsafe impl Send for ReadyList {}

impl ReadyList {
    /// No task.
    pub const fn new() -> Self {
        Self { first: None, last: ptr::null(), length: 0 }
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds a task that is in no list.
    pub fn push(&mut self, task: Arc<Task>) {
        let added = Arc::as_ptr(&task);
        // SAFETY: the last task is in the list, which owns it, and this is the list's holder.
        match unsafe { self.last.as_ref() } {
            // SAFETY: as above.
            Some(last) => unsafe { *last.sched.ready.0.get() = Some(task) },
            None => self.first = Some(task),
        }
        self.last = added;
        self.length += 1;
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Arc<Task>> {
        let task = self.first.take()?;
        self.first = take_next(&task);
        if self.first.is_none() {
            self.last = ptr::null();
        }
        self.length -= 1;
        Some(task)
    }

    /// Takes the last that is `wanted`.
    pub fn take_last(&mut self, wanted: impl Fn(&Task) -> bool) -> Option<Arc<Task>> {
        let mut before_found = None;
        let mut before: *const Task = ptr::null();
        let mut at = self.first.as_ref();
        while let Some(task) = at {
            if wanted(task) {
                before_found = Some(before);
            }
            before = Arc::as_ptr(task);
            // SAFETY: the task is in the list, and this is the list's holder.
            at = unsafe { (*task.sched.ready.0.get()).as_ref() };
        }
        self.take_behind(before_found?)
    }

    /// Takes the task behind one that is in the list, or the first if that is null.
    fn take_behind(&mut self, before: *const Task) -> Option<Arc<Task>> {
        // SAFETY: the caller found it in the list.
        let Some(before) = (unsafe { before.as_ref() }) else { return self.pop() };
        let task = take_next(before)?;
        let next = take_next(&task);
        if next.is_none() {
            self.last = before;
        }
        // SAFETY: it is in the list, and this is the list's holder.
        unsafe { *before.sched.ready.0.get() = next };
        self.length -= 1;
        Some(task)
    }
}

/// What comes behind a task in the list of the caller, who holds it.
fn take_next(task: &Task) -> Option<Arc<Task>> {
    // SAFETY: the callers hold the list the task is in, or has just been taken from.
    unsafe { (*task.sched.ready.0.get()).take() }
}
