//! Running a function on other CPUs.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use platform::{CpuSet, Message};

use super::{cpu_id, of, this_cpu};
use crate::hook::smp;
use crate::sync::IrqLock;
use crate::sync::interrupts;

/// A function to be run, and how many CPUs have still to run it.
#[derive(Clone)]
pub struct QueuedCall {
    function: fn(usize),
    argument: usize,
    left: Arc<AtomicUsize>,
}

/// The calls queued for one CPU.
pub type CallQueue = IrqLock<VecDeque<QueuedCall>>;

/// Runs `function(argument)` on each of `cpus`, this one among them if it is in the set, and returns when all have.
/// The function runs with interrupts disabled. Context: interrupts enabled, no lock held that is taken with interrupts
/// disabled.
pub fn run_on(cpus: CpuSet, function: fn(usize), argument: usize) {
    let state = interrupts::save();
    let me = cpu_id();
    let others = cpus.and(super::online()).without(me);
    let left = Arc::new(AtomicUsize::new(others.count()));
    let call = QueuedCall { function, argument, left: left.clone() };
    for other in others.iter().filter_map(of) {
        other.calls.lock().push_back(call.clone());
    }
    if !others.is_empty() {
        smp::send(others, Message::Call);
    }
    if cpus.contains(me) {
        function(argument);
    }
    interrupts::restore(state);
    while left.load(Ordering::Acquire) != 0 {
        core::hint::spin_loop();
    }
}

/// Runs what is queued for this CPU. Context: the interrupt, interrupts disabled.
pub fn run_queued() {
    loop {
        let Some(call) = this_cpu().calls.lock().pop_front() else { return };
        (call.function)(call.argument);
        call.left.fetch_sub(1, Ordering::Release);
    }
}
