//! What the contract promises (`tests/conformance`), on every backend.

use std::time::Duration;

use crate::lguest::Network;
use crate::rom::Choice;
use crate::rom::Manner::{self, Plain, Strict};
use crate::testing::case::{Case, Files, case};
use crate::variant::Backend::{self, Lguest, Native, Vmi};
use crate::variant::Dispatch::{self, Direct, Static, Table};
use crate::variant::Product;

/// Backend, machine, CPUs, CPU model, dispatch.
const MACHINES: [(Backend, &str, u16, &str, Dispatch); 5] = [
    (Native, "pc", 4, "max", Static),
    (Native, "q35", 2, "max", Table),
    (Native, "microvm", 1, "max", Static),
    // No SMAP, no FSGSBASE, no XSAVE.
    (Native, "pc", 2, "qemu64", Static),
    (Native, "pc", 2, "max", Direct),
];

/// The same under VMI, with either ROM.
const VMI_MACHINES: [(Manner, &str, u16, &str, Dispatch); 4] = [
    (Plain, "pc", 4, "max", Static),
    (Strict, "q35", 4, "max", Table),
    (Strict, "microvm", 1, "max", Static),
    (Plain, "pc", 2, "qemu64", Direct),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = MACHINES.iter().map(|&machine| all_of(on(machine, ""))).collect();
    for machine in [MACHINES[0], MACHINES[2]] {
        let passes = |what| on(machine, what).prints("conformance: 1 passed, 0 failed").limit(90);
        cases.push(passes("idle").wait_for("resting").idle(Duration::from_secs(3), 0.1).wait_for("rested"));
        cases.push(passes("input").wait_for("type a").type_in("a").wait_for("type b").type_in("b"));
    }
    for (manner, machine, cpus, cpu, dispatch) in VMI_MACHINES {
        let case = on((Vmi, machine, cpus, cpu, dispatch), "").with_rom(Choice::Ours(manner));
        cases.push(all_of(case));
    }
    for dispatch in [Static, Table] {
        cases.push(all_of(with_devices(on((Lguest, "pc", 1, "max", dispatch), ""))));
    }
    // What `bench hooks` asks for: every hook can be called over and over.
    cases.push(on(MACHINES[1], "").named("costs").append("costs").prints("paging::").prints("costs: done"));
    cases
}

/// A console, a network of its own, a disk in memory, and one that takes its time.
pub fn with_devices(case: Case) -> Case {
    let disk = [0; 64 << 10];
    case.disk(&disk, false).image(&disk, false).network(Network::Guests)
}

/// Every promise is kept: those about devices, or that there are none.
fn all_of(case: Case) -> Case {
    let about_devices = match case.variant.backend.has_devices() {
        true => "ok device touches no memory after a reset (",
        false => "ok devices are none, and known to be none when the image is built (",
    };
    case.prints(about_devices).prints(" passed, 0 failed").never_prints("FAILED").limit(180)
}

/// The whole on a machine, or what has `only` in its name.
fn on((backend, machine, cpus, cpu, dispatch): (Backend, &str, u16, &str, Dispatch), only: &str) -> Case {
    let mut name = format!("conformance/{backend}-{dispatch}-{machine}-{cpus}cpu-{cpu}");
    let mut append = String::new();
    if !only.is_empty() {
        name = format!("{name}-{only}");
        append = format!("only={only}:");
    }
    case(name)
        .product(Product::Conformance)
        .backend(backend)
        .dispatch(dispatch)
        .machine(machine)
        .cpus(cpus)
        .cpu(cpu)
        .files(Files::None)
        .append(&append)
        .never_prints("conformance: panic")
}
