//! The end of threads and processes.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::tree::{self, Processes, Tree};
use super::{Pid, Process, Task, current, futex, group};
use crate::errno::{Errno, KResult};
use crate::fs::FileTable;
use crate::mm::UserAddr;
use crate::sync::interrupts;
use crate::{sched, signal, tty};

/// Ends the process with a status as `wait(2)` gives it. Context: a task of the process, interrupts enabled, no lock
/// held.
pub fn exit_group(status: u32) -> ! {
    let process = current().process.clone();
    if !process.exiting.swap(true, Ordering::AcqRel) {
        process.exit_status.store(status, Ordering::Release);
        signal::end_threads(&process, status);
    }
    drop(process);
    exit_thread(status)
}

/// Ends the running thread. The last one takes the process with it, with this status unless another was set. Context:
/// as for [`exit_group`].
pub fn exit_thread(status: u32) -> ! {
    {
        let task = current();
        leave_memory(&task);
        if let Some(gate) = task.vfork.lock().take() {
            gate.release();
        }
        leave_process(&task.shared(), status);
    }
    interrupts::disable();
    sched::exit_current()
}

/// Keeps what the running thread has promised others about the memory it is about to leave: robust futexes, and the
/// word that a joining thread waits for. That memory is still current.
pub fn leave_memory(task: &Task) {
    futex::release_robust_list(task);
    clear_child_tid(task);
}

/// Ends all other threads of the running task's process (for `execve`). Afterwards the running task is the only one and
/// has the process's number. Fails if the process is ending anyway.
pub fn end_other_threads() -> KResult<()> {
    let task = current();
    let process = &task.process;
    if process.live_threads.load(Ordering::Acquire) > 1 {
        if process.ending_others.swap(true, Ordering::AcqRel) || process.exiting.load(Ordering::Relaxed) {
            // Another thread was faster, and this one is to end.
            return Err(Errno::EINTR);
        }
        signal::end_other_threads(process);
        process
            .child_events
            .wait_uninterruptible(|| (process.live_threads.load(Ordering::Acquire) == 1).then_some(()));
        process.ending_others.store(false, Ordering::Release);
    }
    if !task.is_leader() {
        let mut tree = tree::lock();
        tree.remove_task(task.tid());
        task.take_leader_number();
        tree.add_task(&task.shared());
    }
    Ok(())
}

/// The word that a joining thread waits for.
fn clear_child_tid(task: &Task) {
    let word = UserAddr(task.clear_child_tid.swap(0, Ordering::Relaxed));
    let shared = task.space().is_some_and(|space| space.users() > 1);
    if !word.is_null() && shared && word.write(&0u32.to_ne_bytes()).is_ok() {
        // Linux wakes it as a shared futex; both kinds of waiter are found.
        futex::wake_all_at(word, 1);
    }
}

fn leave_process(task: &Arc<Task>, status: u32) {
    let process = &task.process;
    *process.last_name.lock() = task.name();
    {
        let mut tree = tree::lock();
        tree.remove_task(task.tid());
        process.remove_thread(task);
    }
    signal::on_thread_exit(task);
    process.timers.on_thread_exit(task);
    let last = process.live_threads.fetch_sub(1, Ordering::AcqRel) == 1;
    if last && !process.exiting.swap(true, Ordering::AcqRel) {
        process.exit_status.store(status, Ordering::Release);
    }
    if last {
        process.timers.on_exit(process);
    }
    leave_space(task, last);
    if last {
        end_process(process);
    } else {
        // Whoever waits for the other threads to be gone (execve) looks again.
        process.child_events.wake_all();
    }
}

/// The thread stops using the program's memory.
fn leave_space(task: &Task, last: bool) {
    if last {
        task.process.space.lock().take();
    }
    let space = interrupts::without(|| task.replace_space(None));
    if let Some(space) = space {
        space.remove_user();
    }
}

fn end_process(process: &Arc<Process>) {
    let files = core::mem::replace(&mut *process.files.lock(), FileTable::empty());
    drop(files);
    // Whoever drops the process last may not be able to wait for a lock of the file system.
    let fs = core::mem::replace(&mut *process.fs.lock(), crate::boot::start::kernel_process().fs());
    drop(fs);
    tty::on_process_exit(process);
    if process.pid == Pid(1) {
        crate::boot::end::init_ended(process.exit_status.load(Ordering::Acquire));
    }
    let mut orphans_done = Processes::new();
    let mut tree = tree::lock();
    group::on_process_exit(&tree, process);
    adopt_children(&mut tree, process, &mut orphans_done);
    let reaped = become_zombie(&mut tree, process);
    drop(tree);
    drop(reaped);
    drop(orphans_done);
}

/// The nearest ancestor that takes orphans, or process 1.
fn reaper(tree: &Tree, process: &Process) -> Option<Arc<Process>> {
    let mut ancestor = tree.of(process).parent.upgrade();
    while let Some(candidate) = ancestor {
        if candidate.child_subreaper.load(Ordering::Relaxed) && !candidate.exiting.load(Ordering::Relaxed) {
            return Some(candidate);
        }
        ancestor = tree.of(&candidate).parent.upgrade();
    }
    tree.process(Pid(1))
}

fn adopt_children(tree: &mut Tree, process: &Arc<Process>, done: &mut Processes) {
    let mut children = core::mem::take(&mut tree.of_mut(process).children);
    if children.is_empty() {
        return;
    }
    let Some(reaper) = reaper(tree, process) else { return };
    while let Some(child) = children.front().cloned() {
        let rest = children.split_off(1);
        tree.of_mut(&reaper).children.append(&mut children);
        children = rest;
        let related = tree.of_mut(&child);
        related.parent = Arc::downgrade(&reaper);
        related.maker = Pid(0);
        let death_signal = child.parent_death_signal.load(Ordering::Relaxed);
        if let Some(wanted) = signal::Signal::new(death_signal as i32) {
            signal::send_process(&child, signal::SigInfo::kernel(wanted));
        }
        let zombie = tree.of(&child).zombie;
        if zombie && let Some(mut gone) = tell_parent(tree, &child, &reaper) {
            done.append(&mut gone);
        }
    }
}

/// Tells the parent; returns the process if nobody will wait for it.
fn become_zombie(tree: &mut Tree, process: &Arc<Process>) -> Option<Processes> {
    tree.of_mut(process).zombie = true;
    match tree.of(process).parent.upgrade() {
        Some(parent) => tell_parent(tree, process, &parent),
        None => {
            tree.remove_process(process.pid);
            None
        }
    }
}

fn tell_parent(tree: &mut Tree, process: &Arc<Process>, parent: &Arc<Process>) -> Option<Processes> {
    const SIGCHLD: u32 = 17;
    let wanted = process.exit_signal.load(Ordering::Relaxed);
    // A parent that ignores SIGCHLD never waits.
    let unwanted = wanted == SIGCHLD && signal::ignores_children(parent);
    if let Some(signal) = signal::Signal::new(wanted as i32) {
        let info = signal::SigInfo::child_ended(signal, process);
        signal::send_process(parent, info);
    }
    let gone = if unwanted { reap(tree, parent, process) } else { None };
    parent.child_events.wake_all();
    gone
}

/// Takes an ended process out of its parent's children and out of the tree. The caller drops it without the tree's
/// lock.
pub fn reap(tree: &mut Tree, parent: &Process, child: &Arc<Process>) -> Option<Processes> {
    let gone = tree.of_mut(parent).take_child(child)?;
    tree.remove_process(child.pid);
    Some(gone)
}
