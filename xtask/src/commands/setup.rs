//! `cargo xtask setup`: everything any command needs.

use anyhow::Result;

use crate::installer::{self, BASH, BUSYBOX, GCC, LIBC, MUSL, QEMU, Tool};
use crate::report::say;
use crate::toolchain::{self, ImageToolchain};

/// Finds or installs everything the other commands need (each also does so for itself)
///
/// As root, or with CI=true in the environment, Debian packages are installed without asking; otherwise the command
/// that installs them is printed.
#[derive(clap::Args)]
pub struct Args {}

/// What the test suite needs besides the Rust toolchain.
pub const ALL_TOOLS: &[Tool] = &[QEMU, BUSYBOX, BASH, GCC, LIBC, MUSL];

/// Runs the command.
pub fn run(_: Args) -> Result<u8> {
    installer::require(ALL_TOOLS)?;
    for tool in ALL_TOOLS {
        say!("{}: {}", tool.package, tool.require()?.display());
    }
    let image = ImageToolchain::require()?;
    say!("{}", image.describe());
    toolchain::require_lints(&image)?;
    say!("clippy and rustfmt: there");
    say!("ready");
    Ok(0)
}
