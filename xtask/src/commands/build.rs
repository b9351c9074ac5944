//! `cargo xtask build`: one image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::evidence::record;
use crate::lguest;
use crate::report::{Usage, say};
use crate::toolchain::{IMAGE_TARGET, ImageToolchain};
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};
use crate::workspace::Workspace;

/// Builds an image; its path is the last line on standard output
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    variant: Variant,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let image = image(&workspace, args.variant)?;
    if args.variant.backend == Backend::Lguest {
        say!(
            "this image runs below {} alone, which `cargo xtask boot --features lguest` starts with it; QEMU by itself finds \
             no PVH note in it, for nothing in it may be privileged",
            lguest::hypervisor_path(&workspace).display()
        );
    }
    println!("{}", image.display());
    Ok(0)
}

/// Builds one variant of the kernel and keeps it where no other variant's image goes.
pub fn image(workspace: &Workspace, variant: Variant) -> Result<PathBuf> {
    product(workspace, Product::Monoguest, variant)
}

/// Builds one variant of what runs above the cut, and for lguest the hypervisor that runs it.
pub fn product(workspace: &Workspace, product: Product, variant: Variant) -> Result<PathBuf> {
    if !variant.can_be_built() {
        bail!(Usage(format!("no image {variant}: dispatch patched takes --profile release")));
    }
    match variant.backend {
        Backend::Native | Backend::Vmi => {}
        Backend::Lguest => {
            hypervisor(workspace)?;
        }
    }
    let image = variant.image_path(workspace, product);
    let features = variant.cargo_features() + product.features();
    // The hostile guest knows no other platform than its own.
    let features = (product != Product::Hostile).then_some(features.as_str());
    let what = Executable {
        package: product.package(),
        name: product.executable(),
        features,
        profile: variant.profile,
        records_sites: variant.dispatch == Dispatch::Patched,
    };
    executable(workspace, &what, &image).with_context(|| format!("no image {variant}"))?;
    Ok(image)
}

/// Builds the lguest hypervisor.
pub fn hypervisor(workspace: &Workspace) -> Result<PathBuf> {
    let image = lguest::hypervisor_path(workspace);
    let what = Executable {
        package: lguest::PACKAGE,
        name: lguest::PACKAGE,
        features: None,
        profile: Profile::Release,
        records_sites: false,
    };
    executable(workspace, &what, &image)?;
    Ok(image)
}

/// A program without an operating system below it.
struct Executable<'a> {
    package: &'a str,
    name: &'a str,
    features: Option<&'a str>,
    profile: Profile,
    /// Whether its hook call sites are patched at boot
    records_sites: bool,
}

/// Builds `what` and puts it at `image`.
fn executable(workspace: &Workspace, what: &Executable<'_>, image: &Path) -> Result<()> {
    let toolchain = ImageToolchain::require()?;
    let directory = image.parent().context("an image path has a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;

    // Cargo puts every variant at the same path, so nobody else may build between the build and the copy.
    let lock_path = workspace.target.join("images/.lock");
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;

    let mut cargo = workspace.cargo("build", &workspace.target);
    cargo.args(["--package", what.package, "--bin", what.name]);
    cargo.args(["--profile", &what.profile.to_string()]);
    if let Some(features) = what.features {
        cargo.args(["--features", features]);
    }
    toolchain.apply(&mut cargo);
    let status = cargo
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run cargo to build {}", what.name))?;
    if !status.success() {
        bail!("building {} failed: see cargo's messages above", what.name);
    }

    let built = workspace.target.join(IMAGE_TARGET).join(what.profile.directory()).join(what.name);
    let partial = directory.join(format!(".{}.partial", what.name));
    fs::copy(&built, &partial).with_context(|| format!("cannot copy {}", built.display()))?;
    if what.records_sites {
        record::fill(&partial).context("cannot record the hook call sites")?;
    }
    fs::rename(&partial, image).with_context(|| format!("cannot put the image at {}", image.display()))?;
    Ok(())
}
