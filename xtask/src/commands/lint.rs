//! `cargo xtask lint`: the format and the linter, as CI wants them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::lguest;
use crate::report::say;
use crate::toolchain::{self, ImageToolchain};
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};
use crate::workspace::Workspace;

/// Checks the format, and runs clippy over the workspace and over the image in each dispatch mode
#[derive(clap::Args)]
pub struct Args {}

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// Runs the command.
pub fn run(_: Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let toolchain = ImageToolchain::require()?;
    toolchain::require_lints(&toolchain)?;

    let mut format = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    format.current_dir(&workspace.root).args(["fmt", "--all", "--check"]);
    check("cargo fmt", &mut format)?;

    let mut host = workspace.cargo("clippy", &workspace.target);
    check("clippy, on the workspace", host.args(["--workspace", "--all-targets"]).args(DENY_WARNINGS))?;

    let native = Dispatch::value_variants().iter().map(|&mode| (Product::Monoguest, Backend::Native, mode));
    let others = [
        (Product::Conformance, Backend::Native, Dispatch::Static),
        (Product::Planted, Backend::Native, Dispatch::Static),
        (Product::Planted, Backend::Lguest, Dispatch::Static),
        (Product::RomGuest, Backend::Native, Dispatch::Static),
        (Product::Monoguest, Backend::Vmi, Dispatch::Static),
        (Product::Monoguest, Backend::Lguest, Dispatch::Static),
    ];
    for (product, backend, dispatch) in native.chain(others) {
        let variant = Variant { backend, dispatch, profile: Profile::Dev };
        let mut image = image_clippy(&workspace, &toolchain, product.package(), product.executable())?;
        image.args(["--features", &(variant.cargo_features() + product.features())]);
        check(&format!("clippy, on {} for {variant}", product.image()), image.args(DENY_WARNINGS))?;
    }
    for features in [&[][..], &["--features", "strict"]] {
        let mut rom = image_clippy(&workspace, &toolchain, "vmi-rom", "vmi-rom")?;
        let what = format!("clippy, on the VMI ROM {}", features.join(" "));
        check(what.trim_end(), rom.args(features).args(DENY_WARNINGS))?;
    }
    for package in [lguest::PACKAGE, Product::Hostile.package()] {
        let mut image = image_clippy(&workspace, &toolchain, package, package)?;
        check(&format!("clippy, on {package}"), image.args(DENY_WARNINGS))?;
    }
    Ok(0)
}

/// Clippy on an executable for the machine without an operating system.
fn image_clippy(
    workspace: &Workspace,
    toolchain: &ImageToolchain,
    package: &str,
    executable: &str,
) -> Result<Command> {
    let mut clippy = match toolchain.clippy() {
        Some(program) => workspace.cargo_by(Path::new(program), "clippy", &workspace.target),
        None => workspace.cargo("clippy", &workspace.target),
    };
    clippy.args(["--package", package, "--bin", executable]);
    toolchain.apply(workspace, &mut clippy, &[])?;
    Ok(clippy)
}

fn check(what: &str, command: &mut Command) -> Result<()> {
    say!("{what}");
    let program = command.get_program().to_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run {}", AsRef::<OsStr>::as_ref(&program).to_string_lossy()))?;
    if !status.success() {
        bail!("{what}: failed, see the messages above");
    }
    Ok(())
}
