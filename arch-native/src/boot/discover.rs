//! Discovery of the machine: [`platform::Boot::discover`].

use core::marker::PhantomData;

use platform::{CacheMode, CpuId, CpuSet, Kernel, MAX_CPUS, Unusable};

use crate::cpu::features::{Features, cpuid, has};
use crate::firmware::{self, Description};
use crate::interrupts::io_apic::IoApic;
use crate::interrupts::{lines, local_apic, pic};
use crate::machine::Machine;
use crate::paging::window::PhysicalWindow;
use crate::smp;
use crate::time::Sources;

const REGISTERS_BYTES: u64 = 4096;

/// [`platform::Boot`] of a PC.
#[derive(Debug)]
pub struct PcBoot<K, M>(PhantomData<(K, M)>);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Boot for PcBoot<K, M> {
    #[cold]
    fn discover() -> Result<platform::Machine, Unusable> {
        machine::<K, M>()
    }
}

fn machine<K: Kernel, M: Machine>() -> Result<platform::Machine, Unusable> {
    let description = firmware::describe::<K, M>();
    if description.has_pic {
        pic::silence::<M>();
    }
    local_apic::discover::<K, M>(description.local_apic)?;
    local_apic::enable::<M>(description.nmi)?;
    io_apics::<K, M>(&description);
    let cpus = number_cpus::<M>(&description);
    smp::set_nmi_lines(description.nmi);

    let hpet = description
        .hpet
        .and_then(|at| PhysicalWindow::<K, M>::map(at, REGISTERS_BYTES, CacheMode::Uncacheable).ok());
    M::find_rates(Sources { hpet, pm_timer: description.pm_timer })?;
    M::enable_timer();
    Ok(platform::Machine { cpus: CpuSet::first(cpus), description: who_runs_this::<M>() })
}

fn io_apics<K: Kernel, M: Machine>(description: &Description) {
    for at in description.io_apics.iter().flatten() {
        let Ok(memory) = PhysicalWindow::<K, M>::map(at.address, REGISTERS_BYTES, CacheMode::Uncacheable)
        else {
            continue;
        };
        // SAFETY: just mapped.
        if let Some(io_apic) = unsafe { IoApic::new(memory, at.first) } {
            lines::add_io_apic::<M>(io_apic);
        }
    }
    for isa in description.overrides.iter().flatten() {
        lines::override_isa::<M>(isa.irq, isa.line, isa.signal);
    }
}

/// Gives the boot CPU number 0 and the others the numbers after it; returns how many there are.
fn number_cpus<M: Machine>(description: &Description) -> usize {
    let own = local_apic::own_id::<M>();
    local_apic::set_id(CpuId(0), own);
    let others = description.apic_ids[..description.cpus].iter().filter(|&&id| id != own);
    let mut next = 1;
    for &id in others.take(MAX_CPUS - 1) {
        // Without x2APIC mode an identity has eight bits.
        if id < 0xff || has(Features::X2APIC) {
            local_apic::set_id(CpuId(next), id);
            next += 1;
        }
    }
    next as usize
}

fn who_runs_this<M: Machine>() -> &'static str {
    if !has(Features::HYPERVISOR) {
        return "PC";
    }
    match cpuid::<M>().get_hypervisor_info().map(|info| info.identify()) {
        Some(raw_cpuid::Hypervisor::QEMU) => "QEMU TCG",
        Some(raw_cpuid::Hypervisor::KVM) => "KVM",
        Some(raw_cpuid::Hypervisor::Xen) => "Xen HVM",
        Some(raw_cpuid::Hypervisor::VMware) => "VMware",
        Some(raw_cpuid::Hypervisor::HyperV) => "Hyper-V",
        Some(raw_cpuid::Hypervisor::Bhyve) => "bhyve",
        _ => "unknown hypervisor",
    }
}
