//! The guest programs of `tests/programs`: every one there is runs here, on two machines each.

use anyhow::{Context, Result};

use crate::installer::BASH;
use crate::testing::case::{Case, Source, case};
use crate::testing::programs::{Libc, Program, rust_binaries, sources};
use crate::variant::Dispatch::{self, Static, Table};
use crate::workspace::Workspace;

/// Programs that are no tests, or not by themselves: one measures, one wants disks (`devices.rs`), one starts others, one is
/// what the runner's own test runs, one uses up the memory of a machine of its own (`memory.rs`), one wants a network
/// (`network.rs`), one floods it (`lguest.rs`), one has a rival in another guest (`isolation.rs`).
const NO_TESTS: &[&str] = &["bench", "block", "flood", "hoard", "inet", "on-tty", "outcomes", "rival"];

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
        if NO_TESTS.contains(&name.as_str()) {
            continue;
        }
        let limit = SLOW.iter().find(|(slow, _)| *slow == name).map_or(LIMIT, |(_, limit)| *limit);
        // Threads want several CPUs, and more of them on the second machine.
        let other = if name == "threads" { 1 } else { 1 + turn % (MACHINES.len() - 1) };
        turn += 1;
        for machine in [MACHINES[0], MACHINES[other]] {
            let case = on(machine, "program", &Program::Rust(name.clone())).limit(limit);
            // The load wants some room; how long it lasts is enough for each part to come round many times. Not a frame may be
            // missing at the end.
            let case = if name == "soak" {
                case.memory(256).argv(["/test/soak", "--slack", "0", "fork", "300", "mixed", "5"])
            } else {
                case
            };
            cases.push(case.prints("passed, 0 failed\n"));
        }
    }
    for source in sources(workspace, "c", &["c"])? {
        for libc in [Libc::Glibc, Libc::GlibcPie, Libc::Musl] {
            turn += 1;
            let case = on(MACHINES[turn % MACHINES.len()], "c", &Program::C(source.clone(), libc));
            cases.push(match source.as_str() {
                "hello.c" => counting_arguments(case),
                _ => case.prints("passed, 0 failed\n"),
            });
        }
    }
    for source in sources(workspace, "nostdlib", &["S"])? {
        let case = on(MACHINES[0], "c", &Program::Assembly(source.clone()));
        cases.push(if source == "hello.S" { counting_arguments(case) } else { case });
    }
    for source in sources(workspace, "scripts", &["sh"])? {
        // What the others read in is none itself.
        if source != "lib.sh" {
            cases.extend(scripts(workspace, &source)?);
        }
    }
    Ok(cases)
}

/// The program says hello and exits with the number of its arguments.
fn counting_arguments(mut case: Case) -> Case {
    case.argv.extend(["one".to_owned(), "two three".to_owned()]);
    case.prints("hello").exits(3)
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
    let directory = workspace.root.join("tests/programs/scripts");
    let bash = BASH.find().unwrap_or_else(|| "/bin/bash-static".into());
    let under = |shell: &str| {
        let case = case(format!("script/{name}-{shell}"))
            .cpus(2)
            .memory(128)
            .with(&guest, Source::Host(directory.join(source)))
            .with("/test/lib.sh", Source::Host(directory.join("lib.sh")))
            .with("/bin/bash", Source::Host(bash.clone()))
            .prints(&format!("ok {source}\n"))
            .limit(LIMIT);
        // Only this one wants a controlling terminal.
        if name == "jobcontrol" {
            let terminal = "/test/on-tty";
            let program = Program::Rust("on-tty".to_owned());
            let shell = format!("/bin/{shell}");
            case.with(terminal, Source::Program(program)).argv([terminal, &shell, &guest])
        } else {
            case.argv([shell, &guest])
        }
    };
    Ok([under("sh"), under("bash")])
}
