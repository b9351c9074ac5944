//! VMI ROMs: building them, and spoiling them.

mod defect;
mod image;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

pub use defect::{DEFECTS, Defect};

use crate::images::{self, Item};
use crate::qemu::Machine;
use crate::report::Usage;
use crate::workspace::Workspace;

/// The ROMs' package, and the executable in it.
pub const PACKAGE: &str = "vmi-rom";

/// Which of our ROMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// For use: as little as can be between a guest and the machine
    Plain,
    /// For tests: answers, delays and defers as far as it may, and ends a guest that breaks a rule
    Strict,
}

/// The ROM a guest finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// None
    None,
    /// One of ours
    Ours(Manner),
    /// The plain one, with something wrong
    Defective(Defect),
    /// A file
    File(PathBuf),
}

impl Choice {
    /// The ROM of ours that it is made from.
    pub fn built(&self) -> Option<Manner> {
        match self {
            Self::None | Self::File(_) => None,
            Self::Ours(manner) => Some(*manner),
            Self::Defective(_) => Some(Manner::Plain),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => Self::None,
            "plain" => Self::Ours(Manner::Plain),
            "strict" => Self::Ours(Manner::Strict),
            _ => match text.strip_prefix("bad:") {
                None => Self::File(text.into()),
                Some(name) => match DEFECTS.iter().find(|(known, _)| *known == name) {
                    Some((_, defect)) => Self::Defective(*defect),
                    None => {
                        let names: Vec<_> = DEFECTS.iter().map(|(name, _)| *name).collect();
                        return Err(format!("there is no defect `{name}` among {}", names.join(", ")));
                    }
                },
            },
        })
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Strict => "strict",
        })
    }
}

/// A ROM as a virtual machine gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The ROM
    pub file: PathBuf,
    /// Another ROM of so many bytes that lies before it
    pub before: Option<(PathBuf, u64)>,
    /// It cannot be left to firmware, which would refuse it: it is put into memory as it is, at this physical address
    pub at: Option<u64>,
}

/// Bytes of the ROM that lies before the strict one, so that it starts in the middle of a page. Firmware takes ROMs by
/// descending names.
const BEFORE_BYTES: usize = 2048;

/// Makes the ROM of a guest that wants one, in `directory` if it is the guest's own.
pub fn place(
    workspace: &Workspace,
    choice: &Choice,
    machine: &Machine,
    directory: &Path,
) -> Result<Option<Placed>> {
    let placed = match choice {
        Choice::None => return Ok(None),
        Choice::Ours(manner) => {
            let file = build(workspace, *manner)?;
            let before = match manner {
                Manner::Plain => None,
                Manner::Strict => {
                    let path = file.with_file_name("wedge.rom");
                    write(&path, &image::empty(BEFORE_BYTES))?;
                    Some((path, BEFORE_BYTES as u64))
                }
            };
            Placed { file, before, at: None }
        }
        Choice::Defective(defect) => {
            if !machine.leaves_roms_alone() {
                return Err(Usage(
                    "a bad ROM needs --machine microvm: other firmware would refuse it".to_owned(),
                )
                .into());
            }
            let good = build(workspace, Manner::Plain)?;
            let good = fs::read(&good).with_context(|| format!("cannot read {}", good.display()))?;
            let file = directory.join("defective.rom");
            let rom = defect.apply(&good)?;
            write(&file, &rom)?;
            Placed { file, before: None, at: Some(defect.address(&rom)) }
        }
        Choice::File(file) => {
            fs::metadata(file).with_context(|| format!("cannot use the ROM {}", file.display()))?;
            Placed { file: file.clone(), before: None, at: None }
        }
    };
    Ok(Some(placed))
}

/// Where one of our ROMs is kept.
pub fn path(workspace: &Workspace, manner: Manner) -> PathBuf {
    workspace.target.join("images").join(PACKAGE).join(format!("vmi-{manner}.rom"))
}

/// Makes one of our ROMs from what was linked.
pub fn finish(linked: &Path, manner: Manner, rom: &Path) -> Result<()> {
    let elf = fs::read(linked).with_context(|| format!("cannot read {}", linked.display()))?;
    let bytes = image::make(&elf, manner).with_context(|| format!("cannot make the {manner} VMI ROM"))?;
    fs::write(rom, bytes).with_context(|| format!("cannot write {}", rom.display()))
}

/// Builds one of our ROMs, once; gives its path.
pub fn build(workspace: &Workspace, manner: Manner) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<Manner, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(&manner) {
        return Ok(path.clone());
    }
    let path = images::one(workspace, Item::Rom(manner))?.path;
    built.insert(manner, path.clone());
    Ok(path)
}

/// Writes a file that others may be reading, or writing at the same time.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{count}.partial", std::process::id()));
    fs::write(&partial, bytes).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
