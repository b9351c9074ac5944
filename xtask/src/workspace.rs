//! Where things are: the repository and cargo's target directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The repository this xtask was built from and the directory for everything generated.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The repository's top level
    pub root: PathBuf,
    /// Cargo's target directory, absolute
    pub target: PathBuf,
    /// Where cargo keeps crates, absolute
    pub cargo_home: PathBuf,
}

impl Workspace {
    /// Finds both from what cargo tells a program it runs.
    pub fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask's manifest directory has no parent")?.to_owned();
        let directory = |variable| match env::var_os(variable) {
            Some(path) => env::current_dir()
                .context("cannot find the current directory")
                .map(|here| Some(here.join(path))),
            None => Ok(None),
        };
        let target = directory("CARGO_TARGET_DIR")?.unwrap_or_else(|| root.join("target"));
        let cargo_home = match directory("CARGO_HOME")? {
            Some(home) => home,
            None => directory("HOME")?.context("neither CARGO_HOME nor HOME is set")?.join(".cargo"),
        };
        Ok(Self { root, target, cargo_home })
    }

    /// A cargo command at the repository's top level, with the target directory given.
    pub fn cargo(&self, subcommand: &str, target: &Path) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.cargo_by(Path::new(&cargo), subcommand, target)
    }

    /// The same by a program that takes cargo's arguments, `cargo` or one of its subcommands' own.
    pub fn cargo_by(&self, program: &Path, subcommand: &str, target: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("CARGO_HOME", &self.cargo_home);
        command.arg(subcommand).arg("--target-dir").arg(target);
        // What cargo told this process about xtask's own package is wrong for the child.
        for (name, _) in env::vars_os() {
            let known = name.to_string_lossy();
            if known.starts_with("CARGO_PKG_") || known.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// A directory of this process for files a guest is started from. It stays after the end, so that a printed
    /// QEMU command can be used again; those of processes that are gone are removed here.
    pub fn scratch(&self, purpose: &str) -> Result<PathBuf> {
        let parent = self.target.join(purpose);
        if let Ok(entries) = fs::read_dir(&parent) {
            for entry in entries.flatten() {
                let gone = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok())
                    .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
                if gone {
                    // Another xtask may be removing it at the same time.
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        let directory = parent.join(std::process::id().to_string());
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(directory)
    }
}
