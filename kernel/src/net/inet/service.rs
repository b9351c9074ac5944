//! The one stack there is, and the task that serves it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use platform::Nanoseconds;

use super::stack::Stack;
use crate::boot::start::kernel_process;
use crate::devices::network::Network;
use crate::errno::{Errno, KResult};
use crate::hook::cpu;
use crate::process::{Pid, Task};
use crate::sync::{Mutex, Once, WaitQueue};
use crate::{random, sched, time};

static STACK: Once<Mutex<Stack<Network>>> = Once::new();

/// Something has come from the device, or a deadline is nearer than the task knows.
static WORK: AtomicBool = AtomicBool::new(false);
static WORKER: WaitQueue = WaitQueue::new();
/// Until when the task sleeps if nothing happens.
static ASLEEP_UNTIL: AtomicU64 = AtomicU64::new(u64::MAX);

/// Has the device looked at. Context: any.
pub fn wake() {
    WORK.store(true, Ordering::Release);
    WORKER.wake_all();
}

/// Starts the stack and its task. Once, at boot.
///
/// # Errors
/// ENOMEM.
pub fn start(device: Option<Network>) -> KResult<()> {
    STACK.call_once(|| Mutex::new(Stack::new(device, time::now(), random::u64())));
    let task = Task::kernel(Pid(0), kernel_process(), "net", serve, 0)?;
    sched::enqueue_new(&task);
    Ok(())
}

/// Does `work` with the stack, and all that it brings about on this machine. Context: a task that may sleep.
///
/// # Errors
/// EAFNOSUPPORT before [`start`], and those of `work`.
pub fn with<R>(work: impl FnOnce(&mut Stack<Network>) -> KResult<R>) -> KResult<R> {
    let mut stack = STACK.get().ok_or(Errno::EAFNOSUPPORT)?.lock();
    stack.begin(time::now());
    let result = work(&mut stack);
    stack.settle();
    let deadline = stack.deadline().map_or(u64::MAX, |deadline| deadline.0);
    drop(stack);
    if deadline < ASLEEP_UNTIL.load(Ordering::Acquire) {
        wake();
    }
    result
}

/// Woken when an address has been given.
static LEASED: WaitQueue = WaitQueue::new();
static HAS_LEASE: AtomicBool = AtomicBool::new(false);

/// Waits until an address has been given, but no longer than `patience`; says whether it has.
pub fn wait_for_lease(patience: Nanoseconds) -> bool {
    let deadline = time::now().saturating_add(patience);
    let leased = || HAS_LEASE.load(Ordering::Acquire).then_some(());
    matches!(LEASED.wait_until(Some(deadline), leased), Ok(Some(())))
}

extern "C" fn serve(_: usize) -> ! {
    cpu::irq_enable();
    loop {
        let deadline = serve_once();
        // No signal is for this task.
        let _ = WORKER.wait_until(deadline, || WORK.swap(false, Ordering::Acquire).then_some(()));
    }
}

/// Does what there is to do; returns when there will be more though nobody calls.
fn serve_once() -> Option<Nanoseconds> {
    let lock = STACK.get()?;
    loop {
        let mut stack = lock.lock();
        stack.begin(time::now());
        let more = stack.receive();
        stack.run();
        let deadline = stack.deadline();
        let leased = stack.dhcp.as_ref().is_some_and(|dhcp| dhcp.lease.is_some());
        if leased != HAS_LEASE.swap(leased, Ordering::AcqRel) {
            LEASED.wake_all();
        }
        // With the lock held: whoever has it next finds out whether to wake the task.
        ASLEEP_UNTIL.store(deadline.map_or(u64::MAX, |deadline| deadline.0), Ordering::Release);
        drop(stack);
        if !more {
            return deadline;
        }
        sched::yield_now();
    }
}
