//! `cargo xtask build`: one image.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::report::Usage;
use crate::toolchain::{IMAGE_TARGET, ImageToolchain};
use crate::variant::{Backend, Variant};
use crate::workspace::Workspace;

/// Builds an image; its path is the last line on standard output
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    variant: Variant,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let image = image(&Workspace::find()?, args.variant)?;
    println!("{}", image.display());
    Ok(0)
}

/// Builds one variant and keeps it where no other variant's image goes.
pub fn image(workspace: &Workspace, variant: Variant) -> Result<PathBuf> {
    if variant.backend == Backend::Vmi {
        let name = variant.backend_name();
        return Err(
            Usage(format!("the backend `{name}` is not built yet: use --features native or lguest")).into()
        );
    }
    let toolchain = ImageToolchain::require()?;
    let image = variant.image_path(workspace);
    let directory = image.parent().context("an image path has a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;

    // Cargo puts every variant at the same path, so nobody else may build between the build and the copy.
    let lock_path = workspace.target.join("images/.lock");
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;

    let mut cargo = workspace.cargo("build", &workspace.target);
    cargo.args(["--package", "kernel", "--bin", "monoguest", "--profile", &variant.profile_name()]);
    cargo.args(["--features", &variant.cargo_features()]);
    toolchain.apply(&mut cargo);
    let status = cargo
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run cargo to build the kernel")?;
    if !status.success() {
        bail!("building the image {variant} failed: see cargo's messages above");
    }

    let built = workspace.target.join(IMAGE_TARGET).join(variant.profile_directory()).join("monoguest");
    let partial = directory.join(".monoguest.partial");
    fs::copy(&built, &partial).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&partial, &image).with_context(|| format!("cannot put the image at {}", image.display()))?;
    Ok(image)
}
