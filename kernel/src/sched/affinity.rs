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

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, AtomicU32};

    use platform::{CpuId, Nanoseconds};

    use super::*;
    use crate::hook::cpu;
    use crate::{sched, testing, time};

    static STOP: AtomicBool = AtomicBool::new(false);
    /// Where each of two busy tasks has been seen last.
    static SEEN: [AtomicU32; 2] = [const { AtomicU32::new(u32::MAX) }; 2];

    fn busy(which: usize) {
        while !STOP.load(Ordering::Relaxed) {
            SEEN[which].store(percpu::cpu_id().0, Ordering::Relaxed);
            sim::advance(Nanoseconds(50_000));
            let state = cpu::irq_save();
            cpu::irq_restore(state);
            sched::resched_if_needed();
        }
    }

    fn sleep() {
        time::sleep_until(time::now() + Nanoseconds::from_millis(20)).unwrap();
    }

    /// The simulated CPUs run at speeds of their own, so a move is waited for; one that never comes runs into the
    /// machine's limit.
    fn wait_until_seen_on(cpus: [u32; 2]) {
        while [0, 1].map(|which| SEEN[which].load(Ordering::Relaxed)) != cpus {
            sleep();
        }
    }

    #[test]
    fn running_and_waiting_tasks_move_to_where_they_may_run() {
        let name = "sched::affinity::tests::running_and_waiting_tasks_move_to_where_they_may_run";
        testing::run(
            name,
            || sim::Machine::new().cpus(2),
            || {
                let on = |cpu| CpuSet::one(CpuId(cpu));
                set_affinity(&crate::process::current().shared(), on(0));
                let tasks = [testing::spawn(|| busy(0)), testing::spawn(|| busy(1))];
                // Both on one CPU: one of them runs there and the other waits.
                tasks.iter().for_each(|task| set_affinity(task, on(1)));
                wait_until_seen_on([1, 1]);
                tasks.iter().for_each(|task| set_affinity(task, on(0)));
                wait_until_seen_on([0, 0]);
                set_affinity(&tasks[1], on(1));
                wait_until_seen_on([0, 1]);
                STOP.store(true, Ordering::Relaxed);
            },
        );
    }
}
