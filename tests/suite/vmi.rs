//! What only a VMI kernel does, above all with ROMs that it must refuse: one line says why, and nothing of the ROM is
//! executed after the check that failed (the code of these ROMs that must not run any more is an undefined instruction).

use super::script;
use crate::rom::{Choice, DEFECTS, Defect, Manner};
use crate::testing::case::{Case, case};
use crate::variant::Backend;

/// What is said of each defect.
const SAID: [(&str, &str); 25] = [
    ("magic", "no VMI ROM was found"),
    ("checksum", "bad checksum"),
    ("no-length", "too short"),
    ("too-long", "longer than its window"),
    ("past-the-end", "longer than its window"),
    ("version", "version is not supported"),
    ("license", "license is not GPL"),
    ("license-outside", "license is not GPL"),
    ("no-pci-header", "no PCI header"),
    ("pci-header", "no PCI header"),
    ("data-offset", "private memory is misplaced"),
    ("data-bytes", "private memory is misplaced"),
    ("data-beyond-memory", "too little memory"),
    ("cpu-bytes", "private memory is misplaced"),
    ("iret-fault", "private memory is misplaced"),
    ("addresses", "hypervisor overlaps the kernel"),
    ("init-fails", "could not be initialized"),
    ("no-clock", "could not be initialized: no clock"),
    ("relocation-before", "address outside of itself"),
    ("relocation-behind", "address outside of itself"),
    ("relocation-type", "unknown type of relocation"),
    ("nop-for-iret", "type of relocation that the call does not allow"),
    ("none-for-alarm", "type of relocation that the call does not allow"),
    ("jump-for-call", "type of relocation that the call does not allow"),
    ("call-without-stack", "type of relocation that the call does not allow"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = DEFECTS
        .iter()
        .filter(|(_, defect)| *defect != Defect::Unusual)
        .map(|(name, defect)| {
            let said = SAID.iter().find(|(known, _)| known == name).map_or(*name, |(_, said)| said);
            refused(name, Choice::Defective(*defect), said).machine("microvm")
        })
        .collect();
    for machine in ["pc", "q35", "microvm"] {
        cases.push(
            refused(&format!("none-on-{machine}"), Choice::None, "no VMI ROM was found").machine(machine),
        );
    }
    // The strict ROM says that an eighth of all time is stolen, the plain one that nothing is.
    for (manner, stolen) in [(Manner::Strict, "-gt"), (Manner::Plain, "-eq")] {
        let body = format!(
            "sleep 1\nfor cpu in cpu cpu0 cpu1; do set -- $(grep \"^$cpu \" /proc/stat); echo $*; test $9 {stolen} 0; done"
        );
        let case = case(format!("vmi/stolen-time-{manner}")).backend(Backend::Vmi).cpus(2);
        cases.push(case.with_rom(Choice::Ours(manner)).sh(&script(&body)));
    }
    // What may differ from our ROMs makes no difference.
    cases.push(
        case("vmi/rom-unusual")
            .backend(Backend::Vmi)
            .with_rom(Choice::Defective(Defect::Unusual))
            .machine("microvm")
            .sh("exit 7")
            .exits(7),
    );
    // The native kernel has no use for one, and runs.
    cases.push(case("vmi/native-beside-a-rom").with_rom(Choice::Ours(Manner::Plain)).sh("exit 7").exits(7));
    cases
}

fn refused(name: &str, rom: Choice, said: &str) -> Case {
    case(format!("vmi/rom-{name}")).backend(Backend::Vmi).with_rom(rom).sh("exit 0").unusable([said])
}
