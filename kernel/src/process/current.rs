//! The running task.

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use super::Task;
use crate::percpu;

/// The running task. Stays right for as long as the code that holds it runs, on whatever CPU.
pub struct Current(*const Task, PhantomData<*const ()>);

/// The running task.
#[inline(always)]
pub fn current() -> Current {
    Current(percpu::current_task(), PhantomData)
}

impl Deref for Current {
    type Target = Task;

    #[inline(always)]
    fn deref(&self) -> &Task {
        // SAFETY: the run queue owns the running task until it has been switched away from for the last time, and this
        // value cannot leave the task (it is not `Send` and is never stored).
        unsafe { &*self.0 }
    }
}

impl Current {
    /// A counted reference to the running task.
    pub fn shared(&self) -> Arc<Task> {
        // SAFETY: tasks are only made inside an `Arc`, and the run queue holds one count meanwhile.
        let owned = ManuallyDrop::new(unsafe { Arc::from_raw(self.0) });
        Arc::clone(&owned)
    }

    /// Whether a signal wants to be delivered to the running task.
    #[inline]
    pub fn signal_pending() -> bool {
        current().has_signal_work()
    }
}
