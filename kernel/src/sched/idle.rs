//! CPUs with nothing to do.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{CpuId, CpuSet};

use crate::hook::cpu;
use crate::mm::AddressSpace;
use crate::percpu::this_cpu;
use crate::sched::yield_now;
use crate::sync::interrupts;

static IDLE: AtomicU64 = AtomicU64::new(0);

/// CPUs whose idle task runs, as far as known.
pub fn idle_cpus() -> CpuSet {
    CpuSet::from_bits(IDLE.load(Ordering::Relaxed))
}

/// The scheduler has put the idle task, or another, on `cpu`.
pub(super) fn note(cpu: CpuId, idle: bool) {
    let bit = CpuSet::one(cpu).bits();
    let is_noted = IDLE.load(Ordering::Relaxed) & bit != 0;
    match (idle, is_noted) {
        (true, false) => _ = IDLE.fetch_or(bit, Ordering::Relaxed),
        (false, true) => _ = IDLE.fetch_and(!bit, Ordering::Relaxed),
        _ => {}
    }
}

/// The idle task of this CPU: runs what there is to run and waits for interrupts otherwise.
pub fn run_idle() -> ! {
    note(crate::percpu::cpu_id(), true);
    loop {
        yield_now();
        interrupts::disable();
        leave_unused_space();
        crate::time::before_idle();
        // The last look: what another CPU queues later comes with an interrupt, which ends the wait.
        if this_cpu().need_resched.load(Ordering::Relaxed) {
            interrupts::enable();
        } else {
            cpu::wait_for_interrupt();
        }
    }
}

/// Lets go of an address space that is active here though no program runs in it any more. Context: interrupts disabled.
fn leave_unused_space() {
    let unused = {
        let mut run_queue = this_cpu().run_queue.lock();
        let unused = run_queue.active_space.take_if(|space| space.users() == 0);
        if let Some(space) = &unused {
            AddressSpace::deactivate(space);
        }
        unused
    };
    drop(unused);
}
