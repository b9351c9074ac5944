//! Building one thing.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::item::Item;
use crate::evidence::record;
use crate::rom;
use crate::toolchain::{IMAGE_TARGET, ImageToolchain};
use crate::workspace::Workspace;

/// Something that is built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Where it is kept
    pub path: PathBuf,
    /// It was made now, and not before
    pub anew: bool,
    /// How long that took
    pub took: Duration,
}

/// Builds one thing, with cargo's messages on this process's standard error.
pub fn one(workspace: &Workspace, item: Item) -> Result<Built> {
    make(workspace, item, |cargo| {
        let status = cargo.stdout(std::io::stderr()).status().context("cannot run cargo")?;
        if !status.success() {
            bail!("see cargo's messages above");
        }
        Ok(())
    })
}

/// Builds `item` by the command that is given to `run`, and puts it where it is kept.
pub fn make(
    workspace: &Workspace,
    item: Item,
    run: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Built> {
    item.check()?;
    make_now(workspace, item, run).with_context(|| format!("building {item} failed"))
}

fn make_now(
    workspace: &Workspace,
    item: Item,
    run: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Built> {
    let started = Instant::now();
    let toolchain = ImageToolchain::require()?;
    let (path, objects) = (item.path(workspace), item.objects(workspace));
    let directory = path.parent().context("an image path has a directory")?;
    for directory in [directory, &objects] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }

    // Cargo puts every variant at the same path, so nobody else may build between the build and the copy.
    let lock_path = objects.join(".lock");
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;

    let before = SystemTime::now();
    let mut cargo = workspace.cargo("build", &objects);
    cargo.args(["--package", item.package(), "--bin", item.executable()]);
    cargo.args(["--profile", &item.profile().to_string()]);
    if let Some(features) = item.features() {
        cargo.args(["--features", &features]);
    }
    toolchain.apply(workspace, &mut cargo, item.flags())?;
    run(cargo.stdin(Stdio::null()))?;

    let linked = objects.join(IMAGE_TARGET).join(item.profile().directory()).join(item.executable());
    let modified = fs::metadata(&linked).and_then(|metadata| metadata.modified());
    let modified = modified.with_context(|| format!("cannot look at {}", linked.display()))?;
    let partial = directory.join(format!(".{}.partial", item.executable()));
    match item {
        Item::Rom(manner) => rom::finish(&linked, manner, &partial)?,
        _ => {
            fs::copy(&linked, &partial).with_context(|| format!("cannot copy {}", linked.display()))?;
        }
    }
    if item.records_sites() {
        record::fill(&partial).context("cannot record the hook call sites")?;
    }
    fs::rename(&partial, &path).with_context(|| format!("cannot put the image at {}", path.display()))?;
    Ok(Built { path, anew: modified >= before, took: started.elapsed() })
}
