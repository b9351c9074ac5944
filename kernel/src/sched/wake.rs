//! Making tasks ready.

use alloc::sync::Arc;
use core::sync::atomic::{Ordering, fence};

use platform::{CpuId, CpuSet, Message};

use super::idle::idle_cpus;
use super::queue::RunQueue;
use super::slice::is_idle;
use super::{BlockedState, RUNNABLE};
use crate::hook::smp;
use crate::percpu::{self, PerCpu, cpu_id};
use crate::process::Task;
use crate::sync::IrqGuard;
use crate::time;

/// Makes `task` ready if it waits; does nothing if it does not. What the caller wrote before is seen by the task when
/// it runs. Any context.
pub fn wake(task: &Arc<Task>) {
    const WAITS: [u8; 3] = [
        BlockedState::Interruptible as u8,
        BlockedState::Uninterruptible as u8,
        BlockedState::Killable as u8,
    ];
    wake_from(task, |state| WAITS.contains(&state));
}

/// As [`wake`], for a signal: only waits that signals end, and with `stopped` also a stopped task and one that only the
/// end of its process interrupts, which looks for itself whether that has come.
pub fn wake_stopped(task: &Arc<Task>, stopped: bool) {
    const DEEPER: [u8; 2] = [BlockedState::Stopped as u8, BlockedState::Killable as u8];
    wake_from(task, |state| {
        state == BlockedState::Interruptible as u8 || (stopped && DEEPER.contains(&state))
    });
}

fn wake_from(task: &Arc<Task>, wanted: impl Fn(u8) -> bool) {
    // Pairs with the one in `Task::prepare_to_block`: either the task sees what was written before, or we see it wait.
    fence(Ordering::SeqCst);
    if !wanted(task.sched.state.load(Ordering::Relaxed)) {
        return;
    }
    loop {
        let home = task.sched.cpu();
        let Some(per_cpu) = percpu::of(home) else { return };
        let queue = per_cpu.run_queue.lock();
        if task.sched.cpu() != home {
            continue;
        }
        let state = task.sched.state.load(Ordering::Relaxed);
        if !wanted(state) {
            return;
        }
        // Not a plain store: a task that has not given way yet changes its state without the lock, and may have ended.
        let made_ready =
            task.sched.state.compare_exchange(state, RUNNABLE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !made_ready {
            continue;
        }
        if queue.runs(task) {
            // It has not got round to giving way.
            return;
        }
        let target = choose_cpu(task, home);
        if target == home {
            enqueue(queue, per_cpu, home, task.clone());
        } else {
            drop(queue);
            place(task, target);
        }
        return;
    }
}

/// Makes a task ready that is queued nowhere: one that never ran, or that has to move.
pub fn enqueue_new(task: &Arc<Task>) {
    let target = choose_cpu(task, cpu_id());
    task.sched.state.store(RUNNABLE, Ordering::Release);
    place(task, target);
}

/// Queues a ready task that is queued nowhere on `target`, or elsewhere if it may not run there any more.
fn place(task: &Arc<Task>, mut target: CpuId) {
    loop {
        let Some(per_cpu) = percpu::of(target) else { panic!("CPU {} is not there", target.0) };
        task.sched.cpu.store(target.0, Ordering::Relaxed);
        let queue = per_cpu.run_queue.lock();
        // Whoever changes the affinity from now on finds the task in this queue.
        if task.sched.may_run_on(target) {
            enqueue(queue, per_cpu, target, task.clone());
            return;
        }
        drop(queue);
        target = choose_cpu(task, target);
    }
}

/// The CPU to run on: where the task ran last if that has nothing to do, else any that has nothing to do, else where it
/// ran last, as far as the task may run there.
fn choose_cpu(task: &Task, home: CpuId) -> CpuId {
    let mut allowed = task.sched.affinity().and(percpu::online());
    if allowed.is_empty() {
        allowed = percpu::online();
    }
    let idle = idle_cpus().and(allowed);
    if idle.contains(home) {
        home
    } else if let Some(cpu) = idle.iter().next() {
        cpu
    } else if allowed.contains(home) {
        home
    } else {
        allowed.iter().next().unwrap_or(home)
    }
}

fn enqueue(mut queue: IrqGuard<'_, RunQueue>, per_cpu: &PerCpu, cpu: CpuId, task: Arc<Task>) {
    queue.push_fresh(task);
    let idle = queue.current().is_none_or(|current| is_idle(current));
    if idle {
        per_cpu.need_resched.store(true, Ordering::Relaxed);
    }
    if cpu == cpu_id() {
        if !idle {
            time::arm_slice(&queue);
        }
    } else {
        drop(queue);
        ask_to_look(cpu);
    }
}

/// Makes another CPU look at its run queue and [`PerCpu::need_resched`].
pub(super) fn ask_to_look(cpu: CpuId) {
    smp::send(CpuSet::one(cpu), Message::Reschedule);
}

/// Another CPU has queued a task here. Context: the interrupt, interrupts disabled.
pub fn on_reschedule_message() {
    let queue = percpu::this_cpu().run_queue.lock();
    if !queue.is_empty() && queue.current().is_some_and(|current| !is_idle(current)) {
        time::arm_slice(&queue);
    }
}

impl Task {
    /// Announces that this, the running task, is about to wait: from now on a wake-up is not lost. It then looks at
    /// its condition once more, and either blocks ([`super::block`]) or calls [`Task::cancel_block`].
    pub fn prepare_to_block(&self, state: BlockedState) {
        self.sched.state.store(state as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes [`Task::prepare_to_block`] back.
    pub fn cancel_block(&self) {
        self.sched.state.store(RUNNABLE, Ordering::Relaxed);
    }
}
