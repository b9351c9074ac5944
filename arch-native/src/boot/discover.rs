//! Discovery of the machine: [`platform::Boot::discover`].

use core::marker::PhantomData;

use platform::{CacheMode, CpuId, CpuSet, Kernel, MAX_CPUS, Machine, Unusable};

use crate::cpu::features::{Features, cpuid, has};
use crate::firmware::{self, Description};
use crate::interrupts::io_apic::IoApic;
use crate::interrupts::{lines, local_apic, pic};
use crate::paging::window::PhysicalWindow;
use crate::smp;
use crate::time::calibrate::{self, Sources};
use crate::time::{timer, tsc};

const REGISTERS_BYTES: u64 = 4096;

/// [`platform::Boot`] of a bare PC.
#[derive(Debug)]
pub struct NativeBoot<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Boot for NativeBoot<K> {
    #[cold]
    fn discover() -> Result<Machine, Unusable> {
        machine::<K>()
    }
}

fn machine<K: Kernel>() -> Result<Machine, Unusable> {
    let description = firmware::describe::<K>();
    if description.has_pic {
        pic::silence();
    }
    local_apic::discover::<K>(description.local_apic)?;
    local_apic::enable(description.nmi);
    io_apics::<K>(&description);
    let cpus = number_cpus(&description);
    smp::set_nmi_lines(description.nmi);

    let hpet = description
        .hpet
        .and_then(|at| PhysicalWindow::<K>::map(at, REGISTERS_BYTES, CacheMode::Uncacheable).ok());
    let rates = calibrate::run(Sources { hpet, pm_timer: description.pm_timer })?;
    tsc::set_rate(rates.tsc);
    if timer::has_tsc_deadline() {
        timer::use_tsc_deadline();
    } else {
        timer::set_rate(rates.apic_timer);
    }
    timer::enable();
    Ok(Machine { cpus: CpuSet::first(cpus), description: who_runs_this() })
}

fn io_apics<K: Kernel>(description: &Description) {
    for at in description.io_apics.iter().flatten() {
        let Ok(memory) = PhysicalWindow::<K>::map(at.address, REGISTERS_BYTES, CacheMode::Uncacheable) else {
            continue;
        };
        // SAFETY: just mapped.
        if let Some(io_apic) = unsafe { IoApic::new(memory, at.first) } {
            lines::add_io_apic(io_apic);
        }
    }
    for isa in description.overrides.iter().flatten() {
        lines::override_isa(isa.irq, isa.line, isa.signal);
    }
}

/// Gives the boot CPU number 0 and the others the numbers after it; returns how many there are.
fn number_cpus(description: &Description) -> usize {
    let own = local_apic::own_id();
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

fn who_runs_this() -> &'static str {
    if !has(Features::HYPERVISOR) {
        return "PC";
    }
    match cpuid().get_hypervisor_info().map(|info| info.identify()) {
        Some(raw_cpuid::Hypervisor::QEMU) => "QEMU TCG",
        Some(raw_cpuid::Hypervisor::KVM) => "KVM",
        Some(raw_cpuid::Hypervisor::Xen) => "Xen HVM",
        Some(raw_cpuid::Hypervisor::VMware) => "VMware",
        Some(raw_cpuid::Hypervisor::HyperV) => "Hyper-V",
        Some(raw_cpuid::Hypervisor::Bhyve) => "bhyve",
        _ => "unknown hypervisor",
    }
}
