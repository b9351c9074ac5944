//! The dispatch controls that the other groups leave out: a baseline that does not run is no baseline. All of the suite
//! runs in one of them with `cargo xtask test --dispatch MODE`.

use anyhow::{Context, Result};

use super::conformance::with_devices;
use super::script;
use crate::evidence::record;
use crate::rom::Choice;
use crate::rom::Manner::Strict;
use crate::testing::case::{Case, Files, ImageChange, case};
use crate::variant::Backend::{Lguest, Native, Vmi};
use crate::variant::Dispatch::{self, Dyn, Patched};
use crate::variant::{Backend, Product};

/// What the kernel says when every recorded site is direct.
const ALL_PATCHED: &str = " to native instructions, 0 left indirect";

/// Backend, machine, CPUs.
const MACHINES: [(Backend, &str, u16); 3] = [(Native, "q35", 4), (Vmi, "pc", 2), (Lguest, "pc", 1)];

/// Processes, pipes, signals and a timer.
const WORK: &str = "i=0\n\
    while [ $i -lt 8 ]; do ( exit $i ) & i=$((i+1)); done\n\
    wait\n\
    seq 1 2000 | sort -rn | head -n 1 | grep -qx 2000\n\
    ( trap 'exit 7' USR1; kill -USR1 $(exec sh -c 'echo $PPID'); exit 1 ) || [ $? = 7 ]\n\
    sleep 0.02\n\
    dd if=/dev/zero of=/tmp/file bs=64k count=8 2>/dev/null\n\
    [ $(wc -c </tmp/file) = 524288 ]\n\
    echo all done\n";

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (machine, dispatch) in MACHINES.into_iter().flat_map(|machine| [(machine, Patched), (machine, Dyn)]) {
        let case = on(machine, dispatch, "work").sh(&script(WORK)).prints("all done");
        cases.push(if dispatch == Patched { case.append("loglevel=7").prints(ALL_PATCHED) } else { case });
    }
    for machine in [(Native, "pc", 2), (Lguest, "pc", 1)] {
        let case = on(machine, Patched, "conformance").product(Product::Conformance).files(Files::None);
        let case = if machine.0.has_devices() { with_devices(case) } else { case };
        cases.push(case.prints(ALL_PATCHED).prints(" passed, 0 failed").never_prints("FAILED").limit(180));
    }
    // An image whose record lacks sites is refused, and says how many.
    for (name, forget, line) in [
        ("one-site-forgotten", forget_one as ImageChange, " 1 left indirect"),
        ("no-site-recorded", forget_all, "hook call sites: 0 recorded, 0 patched to direct calls"),
    ] {
        let case = on(MACHINES[0], Patched, name).append("loglevel=7").change_image(forget);
        cases.push(case.prints(line).unusable(["hook call sites that were not patched"]));
    }
    cases
}

fn on((backend, machine, cpus): (Backend, &str, u16), dispatch: Dispatch, what: &str) -> Case {
    let case = case(format!("dispatch/{backend}-{dispatch}-{what}"));
    let case = case.backend(backend).about_dispatch(dispatch).machine(machine).cpus(cpus);
    match backend {
        Vmi => case.with_rom(Choice::Ours(Strict)),
        _ => case,
    }
}

fn forget_one(image: &mut [u8]) -> Result<()> {
    let entry = record::section(image)?.get_mut(..4).context("the record is empty")?;
    entry.fill(0);
    Ok(())
}

fn forget_all(image: &mut [u8]) -> Result<()> {
    record::section(image)?.fill(0);
    Ok(())
}
