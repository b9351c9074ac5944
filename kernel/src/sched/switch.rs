//! Giving the CPU to another task.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use platform::{CpuId, ExtendedState, IrqState, UserBases};

use super::queue::RunQueue;
use super::slice::is_idle;
use super::wake::enqueue_new;
use super::{BlockedState, RUNNABLE};
use crate::hook::cpu;
use crate::mm::AddressSpace;
use crate::mm::extended;
use crate::percpu::{self, PerCpu, this_cpu};
use crate::process::{Task, current};
use crate::sync::interrupts;
use crate::time;

/// Gives way until something wakes this task. It has called [`Task::prepare_to_block`] before and checked its condition
/// since: a wake-up in between makes this return at once.
pub fn block() {
    switch(true);
}

/// Lets other ready tasks run first.
#[inline(always)]
pub fn yield_now() {
    switch(false);
}

/// Gives way if this CPU has been asked to. Context: a task, interrupts enabled or disabled.
#[inline]
pub fn resched_if_needed() {
    if this_cpu().need_resched.load(Ordering::Relaxed) {
        switch(false);
    }
}

/// Makes the code that runs now this CPU's idle task. Once a CPU, before anything is scheduled on it.
pub fn install_idle_task(task: Arc<Task>) {
    let this = this_cpu();
    task.sched.idle.store(true, Ordering::Relaxed);
    task.sched.state.store(RUNNABLE, Ordering::Relaxed);
    task.sched.cpu.store(percpu::cpu_id().0, Ordering::Relaxed);
    this.current.store(Arc::as_ptr(&task).cast_mut(), Ordering::Relaxed);
    this.run_queue.lock().set_idle(task);
}

fn switch(blocking: bool) {
    let this = this_cpu();
    let mut run_queue = this.run_queue.lock_inline();
    let me = percpu::cpu_id();
    this.need_resched.store(false, Ordering::Relaxed);
    let previous = current();
    let now = time::now();
    let previous_is_idle = is_idle(&previous);
    let spent = previous.sched.charge(now);
    let runs_on = previous.sched.is_runnable();
    // A task whose affinity has changed leaves, even for nobody.
    let stays = runs_on && (previous_is_idle || previous.sched.may_run_on(me));

    let next = match run_queue
        .pop()
        .or_else(|| if stays && !previous_is_idle { None } else { steal(&mut run_queue) })
    {
        Some(next) => next,
        None if stays => return,
        None => match run_queue.idle_task() {
            Some(idle) => idle.clone(),
            None => panic!("CPU {} has no idle task", me.0),
        },
    };
    if blocking && !runs_on {
        previous.sched.voluntary_switches.fetch_add(1, Ordering::Relaxed);
    } else {
        previous.sched.involuntary_switches.fetch_add(1, Ordering::Relaxed);
    }
    this.switches.store(this.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    next.sched.cpu.store(me.0, Ordering::Relaxed);
    next.sched.start(now);
    let next_is_idle = is_idle(&next);
    if next_is_idle != previous_is_idle {
        super::idle::note(me, next_is_idle);
    }

    // From here until `finish`, the queue stays locked and interrupts disabled, on whichever stack that happens.
    let next_task: *const Task = Arc::as_ptr(&next);
    let before = run_queue.replace_current(next);
    let Some(before) = before else { panic!("a task ran that was not current") };
    let previous_task: *const Task = Arc::as_ptr(&before);
    if stays && !previous_is_idle {
        if spent { run_queue.push_spent(before) } else { run_queue.push_fresh(before) }
    } else {
        run_queue.previous = Some(before);
        run_queue.previous_moves = runs_on && !stays;
    }
    // SAFETY: the run queue holds both tasks: one as current, the other as ready or previous.
    let (next_task, previous_task) = unsafe { (&*next_task, &*previous_task) };
    cpu::begin_switch();
    let left = switch_user_state(&mut run_queue, me, previous_task, next_task);
    this.current.store((&raw const *next_task).cast_mut(), Ordering::Relaxed);
    cpu::set_kernel_stack(next_task.stack_top());
    cpu::end_switch();
    if let Some(left) = left {
        left.deactivated();
    }
    next_task.process.timers.thread_runs(&next_task.process);
    time::arm_slice(&run_queue);
    let state = run_queue.leak();
    // SAFETY: both contexts are as `switch_to` wants them: interrupts are disabled and the queue is locked.
    unsafe { previous_task.context.switch_to(&next_task.context) };
    finish(state);
}

/// Saves and loads what the kernel itself does not use: address space, segment bases, extended registers. Returns the
/// space that is no longer active once the change is complete.
fn switch_user_state(
    run_queue: &mut RunQueue,
    me: CpuId,
    previous: &Task,
    next: &Task,
) -> Option<Arc<AddressSpace>> {
    if let Some(area) = previous.extended_area()
        && previous.sched.blocked_state() != Some(BlockedState::Dead)
    {
        previous.set_saved_bases(cpu::user_bases());
        if run_queue.extended_owner() == &raw const *previous {
            // SAFETY: the task's own area, of the size the platform asked for.
            unsafe { extended::save(area.state()) };
        }
    }
    let space = next.space()?;
    let left = if run_queue.active_space.as_ref().is_some_and(|active| Arc::ptr_eq(active, space)) {
        None
    } else {
        space.activate(me);
        run_queue.active_space.replace(space.clone())
    };
    cpu::set_user_bases(next.saved_bases());
    if run_queue.extended_owner() != &raw const *next || next.extended_cpu() != Some(me) {
        load_extended(next.extended_state());
        run_queue.set_extended_owner(next);
        next.set_extended_cpu(me);
    }
    left
}

/// The running task leaves its program for another one, in `space`: that becomes the task's and this CPU's, and the
/// registers that the kernel does not use are as a program finds them at its start. Returns the space it leaves, of
/// which it is still counted as a user. Context: a user task.
pub fn start_program(space: Arc<AddressSpace>) -> Option<Arc<AddressSpace>> {
    let mut run_queue = this_cpu().run_queue.lock();
    let task = current();
    space.activate(percpu::cpu_id());
    if let Some(left) = run_queue.active_space.replace(space.clone()) {
        left.deactivated();
    }
    let old = task.replace_space(Some(space));
    let area = task.extended_state();
    // SAFETY: the task's own area, of the size the platform asked for.
    unsafe { extended::reset(area) };
    load_extended(area);
    run_queue.set_extended_owner(&raw const *task);
    task.set_extended_cpu(percpu::cpu_id());
    cpu::set_user_bases(UserBases::default());
    old
}

fn load_extended(area: ExtendedState) {
    // SAFETY: the task's own area, of the size the platform asked for. What it holds was saved by the platform or
    // made by `init_extended`, so it is not refused; a refusal would leave initial registers, which is no harm.
    unsafe { extended::load(area) };
}

/// The second half of a switch, on the new task's stack.
fn finish(state: IrqState) {
    let previous = end_switch();
    interrupts::restore(state);
    previous.let_go();
}

/// As [`finish`], for a task that runs for the first time; interrupts stay disabled.
pub fn finish_first_switch() {
    end_switch().let_go();
}

/// The task switched away from, if the queue does not hold it.
struct Previous {
    task: Option<Arc<Task>>,
    moves: bool,
}

impl Previous {
    #[inline(always)]
    fn let_go(self) {
        if let Some(task) = self.task
            && self.moves
        {
            enqueue_new(&task);
        }
    }
}

/// Unlocks the queue that `switch` has locked.
#[inline(always)]
fn end_switch() -> Previous {
    let this: &'static PerCpu = this_cpu();
    // SAFETY: `switch` locked this CPU's queue and leaked the guard; this is the same CPU, and its continuation, so it
    // stands in for the lock's holder.
    unsafe {
        let queue = &mut *this.run_queue.data_ptr();
        let previous =
            Previous { task: queue.previous.take(), moves: core::mem::take(&mut queue.previous_moves) };
        this.run_queue.force_unlock();
        previous
    }
}

/// This CPU has nothing to do: takes a task that waits for another.
fn steal(own: &mut RunQueue) -> Option<Arc<Task>> {
    let me = percpu::cpu_id();
    debug_assert!(own.is_empty());
    for other in percpu::online().without(me).iter() {
        let Some(other) = percpu::of(other) else { continue };
        // The other queue may be locked by someone who waits for ours: never wait for it.
        if let Some(mut queue) = other.run_queue.try_lock()
            && let Some(task) = queue.steal_for(me)
        {
            task.sched.cpu.store(me.0, Ordering::Relaxed);
            return Some(task);
        }
    }
    None
}

/// # Panics
/// If the task that ends is still to be run.
pub fn exit_current() -> ! {
    current().sched.state.store(BlockedState::Dead as u8, Ordering::Relaxed);
    switch(true);
    unreachable!("a dead task was run")
}
