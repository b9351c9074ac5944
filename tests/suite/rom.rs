//! The VMI ROMs, under a guest that makes each call and looks at what comes of it (`tests/rom-guest`), and under guests that
//! break a rule.

use crate::rom::{Choice, Manner};
use crate::testing::case::{Case, Files, case};
use crate::variant::Product;

/// Machine, CPU model, ROM. Whatever clock a machine lacks, a ROM must find another.
const MACHINES: [(&str, &str, Manner); 9] = [
    ("pc", "max", Manner::Plain),
    ("pc", "max", Manner::Strict),
    ("q35", "max", Manner::Plain),
    ("q35", "qemu64", Manner::Strict),
    ("pc,hpet=off", "max", Manner::Plain),
    ("pc,hpet=off,acpi=off", "max", Manner::Plain),
    ("microvm", "max", Manner::Plain),
    ("microvm,pit=off,pic=off,rtc=off", "max", Manner::Strict),
    ("microvm,pit=off,pic=off,rtc=off,acpi=off", "max", Manner::Plain),
];

/// Rules that a guest can break, and words of what the strict ROM says then.
const RULES: [(&str, &str); 16] = [
    ("set-cr3-without-tables", "no announced table of level 4"),
    ("set-cr3-before-all-tables", "not all tables"),
    ("apic-before-bind", "before BindCPU"),
    ("link-without-announcing", "not announced"),
    ("announce-twice", "page table already"),
    ("not-zero", "said to be zero"),
    ("release-while-linked", "still leads to the page"),
    ("write-behind-its-back", "behind the ROM's back"),
    ("wrong-level", "level is not the page table's"),
    ("wrong-address", "not what the entry translates"),
    ("interrupt-with-waiting-updates", "while page-table updates wait"),
    ("timer-register", "the register is the hypervisor's"),
    ("alarm-without-vector", "has no vector"),
    ("nested-batches", "a batch is open"),
    ("wait-in-a-batch", "a batch is open"),
    ("user-mode-without-interrupts", "disables interrupts"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (machine, cpu, manner) in MACHINES {
        let name = format!("{manner}-{}-{cpu}", machine.replace([',', '='], "-"));
        let all = guest(&name, manner).machine(machine).cpu(cpu).cpus(2).limit(60);
        cases.push(
            ["relocations", "tables", "updates", "counters", "alarms", "the other CPU", "all is well"]
                .iter()
                .fold(all, |case, done| case.prints(&format!("rom-guest: {done}"))),
        );
    }
    for (rule, words) in RULES {
        cases.push(
            guest(&format!("breaks-{rule}"), Manner::Strict)
                .machine("microvm")
                .append(&format!("break={rule}"))
                .unusable(["VMI guest", words])
                .never_prints("all is well"),
        );
    }
    cases.push(guest("none", Manner::Plain).with_rom(Choice::None).exits(102).prints("no VMI ROM"));
    cases
}

fn guest(name: &str, manner: Manner) -> Case {
    case(format!("rom/{name}"))
        .product(Product::RomGuest)
        .with_rom(Choice::Ours(manner))
        .files(Files::None)
        .never_prints("rom-guest: panic")
}
