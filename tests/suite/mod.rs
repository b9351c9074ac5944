//! The suite: every case that runs in a guest, as tables. `cargo xtask test --list` shows the names.
//!
//! A file here is a group of cases; `xtask` compiles them in and runs each in a guest of its own.

mod arguments;
mod backends;
mod conformance;
mod console;
mod devices;
mod dispatch;
mod drives;
mod elf;
mod elf_files;
mod ends;
mod initramfs;
mod isolation;
mod lguest;
mod machines;
mod memory;
mod network;
mod planted;
mod programs;
mod rom;
mod shell;
mod vmi;

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::testing::case::Case;
use crate::workspace::Workspace;

pub use backends::Extent;

/// The cases, in the order they run: what everything stands on comes first. `extent` is about backends other than native.
pub fn cases(workspace: &Workspace, extent: Extent) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    cases.extend(conformance::cases());
    cases.extend(planted::cases());
    cases.extend(lguest::cases(extent));
    cases.extend(isolation::cases(workspace)?);
    cases.extend(drives::cases());
    cases.extend(devices::cases());
    cases.extend(network::cases(workspace));
    cases.extend(ends::cases());
    cases.extend(arguments::cases());
    cases.extend(initramfs::cases());
    cases.extend(elf_files::cases());
    cases.extend(rom::cases());
    cases.extend(vmi::cases());
    cases.extend(machines::cases());
    cases.extend(memory::cases());
    cases.extend(shell::cases());
    cases.extend(console::cases());
    cases.extend(programs::cases(workspace)?);
    let elsewhere = [backends::under_vmi(&cases, extent), backends::under_lguest(&cases, extent)];
    cases.extend(elsewhere.into_iter().flatten());
    cases.extend(dispatch::cases());
    let mut names = BTreeSet::new();
    if let Some(twice) = cases.iter().find(|case| !names.insert(case.name.as_str())) {
        bail!("the suite has two cases named {}", twice.name);
    }
    Ok(cases)
}

/// Before a script that uses /proc and /dev: mounts what the kernel has not mounted itself.
const MOUNTS: &str =
    "[ -e /proc/self ] || mount -t proc proc /proc\n[ -e /dev/zero ] || mount -t devtmpfs dev /dev\n";

/// A script that stops with a failure at its first failing command. `not` stands before a command that must fail:
/// the shell's own `!` would hide that it does not.
fn script(body: &str) -> String {
    format!("set -e\nnot() {{ if \"$@\"; then echo \"no failure: $*\"; return 1; fi; }}\n{MOUNTS}{body}")
}
