//! `cargo xtask`: builds Monoguest, boots it under QEMU and runs its tests.
//!
//! Standard output carries what was asked for (an image's path, a guest's console); everything xtask itself has to
//! say goes to standard error. A failure of xtask exits with 1, a wrong use of it with 2.

mod audit;
mod bench;
mod chart;
mod commands;
mod cpio;
mod elf;
mod evidence;
mod guest;
mod images;
mod initramfs;
mod installer;
mod lguest;
mod limits;
mod page;
mod process;
mod qemu;
mod race;
mod report;
mod rom;
mod size_report;
mod status;
#[path = "../../tests/suite/mod.rs"]
mod suite;
mod terminal;
mod testing;
mod toolchain;
mod variant;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{boot, build, debug, lint, setup, test};

/// Builds, boots and tests Monoguest. Each command installs what it is missing.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Build(build::Args),
    Boot(Box<boot::Args>),
    Test(test::Args),
    Race(commands::race::Args),
    Bench(commands::bench::Args),
    Debug(Box<debug::Args>),
    Lint(lint::Args),
    SizeReport(commands::size_report::Args),
    Audit(commands::audit::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(args),
        Command::Build(args) => build::run(args),
        Command::Boot(args) => boot::run(*args),
        Command::Test(args) => test::run(args),
        Command::Race(args) => commands::race::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Debug(args) => debug::run(*args),
        Command::Lint(args) => lint::run(args),
        Command::SizeReport(args) => commands::size_report::run(args),
        Command::Audit(args) => commands::audit::run(args),
    };
    result.map(ExitCode::from).unwrap_or_else(|error| {
        report::error(&error);
        let usage = error.downcast_ref::<report::Usage>().is_some();
        ExitCode::from(if usage { 2 } else { 1 })
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_can_be_parsed() {
        Cli::command().debug_assert();
    }
}
