//! Other CPUs: other threads.

use core::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use platform::{CpuId, CpuLocal, CpuSet, Kernel, Message, SecondaryStart, Smp, StartError, VirtAddr};

use crate::pending::message_bit;
use crate::state::{CPUS, Status, WAKE, become_cpu, discovered, facts, here, violation, world};
use crate::{cpu, crash, stack};

/// Starts threads and sets message bits.
#[derive(Debug)]
pub struct SimSmp<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Smp for SimSmp<K> {
    fn start(cpu: CpuId, with: SecondaryStart) -> Result<(), StartError> {
        let caller = here("Smp::start");
        if caller.id != CpuId(0) {
            violation(format!("Smp::start was called on CPU {}", caller.id.0));
        }
        let started = discovered("Smp::start").started;
        if cpu.index() >= facts().cpus {
            return Err(StartError::NoSuchCpu);
        }
        if facts().refused_cpus.contains(cpu) {
            return Err(StartError::NoAnswer);
        }
        if started.contains(cpu) {
            violation(format!("Smp::start: CPU {} has started already", cpu.0));
        }
        if with.local.cpu != cpu {
            violation(format!("Smp::start of CPU {} with the data of CPU {}", cpu.0, with.local.cpu.0));
        }
        check_stack(with.stack);
        {
            let mut world = world();
            world.started = world.started.with(cpu);
            world.status[cpu.index()] = Status::Running;
        }
        let local = with.local as *mut CpuLocal as usize;
        let run = move || run_secondary(cpu, local as *mut CpuLocal, with.stack);
        match std::thread::Builder::new().name(format!("cpu{}", cpu.0)).spawn(run) {
            Ok(_) => Ok(()),
            Err(error) => panic!("no thread for CPU {}: {error}", cpu.0),
        }
    }

    fn send(cpus: CpuSet, message: Message) {
        let caller = here("Smp::send");
        let world = discovered("Smp::send");
        if cpus.contains(caller.id) {
            drop(world);
            violation(format!("Smp::send: CPU {} sends {message:?} to itself", caller.id.0));
        }
        // What is sent to a CPU that has not started is lost, as on hardware.
        for cpu in cpus.and(world.started).iter() {
            CPUS[cpu.index()].messages.fetch_or(message_bit(message), SeqCst);
        }
        WAKE.notify_all();
    }
}

fn check_stack(stack: VirtAddr) {
    if !stack.0.is_multiple_of(16) || stack.0 == 0 {
        violation(format!("Smp::start: {stack:?} is no top of a stack"));
    }
}

fn run_secondary(id: CpuId, local: *mut CpuLocal, stack: VirtAddr) {
    let cpu = become_cpu(id);
    crash::use_signal_stack();
    cpu::adopt_local(cpu, local);
    // SAFETY: the kernel gave this stack away for the new CPU, and the function never returns.
    unsafe { stack::start(stack.0, secondary_main, u64::from(id.0)) }
}

extern "sysv64" fn secondary_main(id: u64) -> ! {
    (facts().entries.secondary)(CpuId(id as u32))
}
