//! The guest programs of `tests/programs`: every one there is runs here, on two machines each.

use anyhow::{Context, Result};

use crate::installer::BASH;
use crate::testing::case::{Case, Source, case};
use crate::testing::programs::{Libc, Program, rust_binaries, sources};
use crate::variant::Dispatch::{self, Static, Table};
use crate::workspace::Workspace;

/// Programs that measure and do not test.
const MEASURING: &[&str] = &["bench"];

/// Programs that need longer than the others: name, seconds.
const SLOW: &[(&str, u64)] = &[("soak", 300), ("std", 180), ("wild", 180)];

const LIMIT: u64 = 120;

/// Machine, CPUs, MiB, dispatch. Every program runs on the first and on one of the others, taken in turn.
const MACHINES: [(&str, u16, u32, Dispatch); 5] = [
    ("pc", 2, 128, Static),
    ("q35", 4, 512, Table),
    ("microvm", 1, 64, Static),
    ("pc", 4, 256, Static),
    ("q35", 1, 64, Table),
];

/// The cases.
pub fn cases(workspace: &Workspace) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut turn = 0;
    for name in rust_binaries(workspace)? {
        if MEASURING.contains(&name.as_str()) {
            continue;
        }
        let limit = SLOW.iter().find(|(slow, _)| *slow == name).map_or(LIMIT, |(_, limit)| *limit);
        let other = 1 + turn % (MACHINES.len() - 1);
        turn += 1;
        for machine in [MACHINES[0], MACHINES[other]] {
            cases.push(
                on(machine, "program", &Program::Rust(name.clone()))
                    .prints("passed, 0 failed\n")
                    .limit(limit),
            );
        }
    }
    for source in sources(workspace, "c", &["c"])? {
        let kinds: &[Libc] = if source == "hello.c" {
            &[Libc::Glibc, Libc::GlibcPie, Libc::Musl]
        } else {
            &[Libc::Glibc, Libc::Musl]
        };
        for libc in kinds {
            turn += 1;
            cases.push(on(MACHINES[turn % MACHINES.len()], "c", &Program::C(source.clone(), *libc)));
        }
    }
    for source in sources(workspace, "asm", &["S", "s"])? {
        cases.push(on(MACHINES[0], "c", &Program::Assembly(source)));
    }
    for source in sources(workspace, "scripts", &["sh"])? {
        cases.extend(scripts(workspace, &source)?);
    }
    Ok(cases)
}

/// A program as process 1 of a machine.
fn on((machine, cpus, mib, dispatch): (&str, u16, u32, Dispatch), group: &str, program: &Program) -> Case {
    let path = format!("/test/{}", program.name());
    case(format!("{group}/{}-{machine}-{cpus}cpu", program.name()))
        .machine(machine)
        .cpus(cpus)
        .memory(mib)
        .dispatch(dispatch)
        .with(&path, Source::Program(program.clone()))
        .argv([&path])
        .limit(LIMIT)
}

/// A script under both shells.
fn scripts(workspace: &Workspace, source: &str) -> Result<[Case; 2]> {
    let name = source.strip_suffix(".sh").context("a script's name ends in .sh")?;
    let guest = format!("/test/{source}");
    let host = workspace.root.join("tests/programs/scripts").join(source);
    let bash = BASH.find().unwrap_or_else(|| "/bin/bash-static".into());
    let under = |shell: &str| {
        case(format!("script/{name}-{shell}"))
            .cpus(2)
            .memory(128)
            .with(&guest, Source::Host(host.clone()))
            .with("/bin/bash", Source::Host(bash.clone()))
            .argv([shell, &guest])
            .limit(LIMIT)
    };
    Ok([under("sh"), under("bash")])
}
