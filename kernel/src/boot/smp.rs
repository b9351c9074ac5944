//! Starting the other CPUs.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{CpuId, CpuSet, SecondaryStart};

use crate::hook::smp;
use crate::mm::KernelStack;
use crate::process::Task;
use crate::sync::interrupts;
use crate::{percpu, sched};

/// Starts all of `cpus` but this one. One that does not start is left off.
pub fn start_others(cpus: CpuSet) {
    for cpu in cpus.without(percpu::cpu_id()).iter() {
        let Some(stack) = KernelStack::allocate() else {
            log::error!("no memory for the stack of CPU {}", cpu.0);
            return;
        };
        let with = SecondaryStart { local: percpu::create(cpu), stack: stack.top() };
        STACK.store(stack.top().0, Ordering::Release);
        // The CPU runs on it for ever.
        core::mem::forget(stack);
        if let Err(error) = smp::start(cpu, with) {
            log::error!("CPU {} did not start: {error:?}", cpu.0);
            continue;
        }
        while !percpu::online().contains(cpu) {
            core::hint::spin_loop();
        }
    }
}

/// Top of the stack of the CPU being started.
static STACK: AtomicU64 = AtomicU64::new(0);

/// First code of a CPU that was started.
pub fn secondary_cpu(cpu: CpuId) -> ! {
    let stack = KernelStack::borrowed(platform::VirtAddr(STACK.load(Ordering::Acquire)));
    sched::install_idle_task(Task::idle(super::start::kernel_process(), stack));
    percpu::set_online(cpu);
    interrupts::enable();
    sched::run_idle()
}
