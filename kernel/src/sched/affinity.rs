//! Restricting a task to some CPUs.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use platform::CpuSet;

use super::wake::{ask_to_look, enqueue_new};
use super::yield_now;
use crate::percpu::{self, current_task};
use crate::process::Task;

/// Sets the CPUs that `task` may run on, at least one of them online, and moves it away from any other: at once if it
/// waits for its turn or is the caller, else as soon as its CPU has taken notice. Context: a task, no lock held.
pub fn set_affinity(task: &Arc<Task>, cpus: CpuSet) {
    task.sched.set_affinity(cpus);
    loop {
        let home = task.sched.cpu();
        let Some(per_cpu) = percpu::of(home) else { return };
        let mut queue = per_cpu.run_queue.lock();
        if task.sched.cpu() != home {
            continue;
        }
        if cpus.contains(home) {
            return;
        }
        if queue.runs(task) {
            drop(queue);
            if core::ptr::eq(current_task(), Arc::as_ptr(task)) {
                // The scheduler does not put it back where it may not run.
                yield_now();
            } else {
                per_cpu.need_resched.store(true, Ordering::Relaxed);
                ask_to_look(home);
            }
        } else if let Some(waiting) = queue.remove(task) {
            drop(queue);
            enqueue_new(&waiting);
        }
        // One that waits for something else chooses a CPU when it is woken.
        return;
    }
}
