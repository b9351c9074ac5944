//! The suite's guest programs: ordinary static Linux programs, compiled here for this machine's own architecture.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::installer::{GCC, LIBC, MUSL};
use crate::report::say;
use crate::workspace::Workspace;

const RUST_TARGET: &str = "x86_64-unknown-linux-gnu";
const RUST_PROFILE: &str = "guest";

/// How a C program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Libc {
    /// glibc
    Glibc,
    /// glibc, position independent
    GlibcPie,
    /// musl
    Musl,
}

/// A program of `tests/programs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// A binary of the package `guest-programs`
    Rust(String),
    /// A source file of `tests/programs/c`, and its library
    C(String, Libc),
    /// A source file of `tests/programs/nostdlib`, which brings its own entry
    Assembly(String),
}

impl Program {
    /// Its name in the suite and in the guest.
    pub fn name(&self) -> String {
        match self {
            Self::Rust(name) => name.clone(),
            Self::Assembly(source) => format!("{}-nostdlib", stem(source)),
            Self::C(source, libc) => {
                let suffix = match libc {
                    Libc::Glibc => "-glibc",
                    Libc::GlibcPie => "-glibc-pie",
                    Libc::Musl => "-musl",
                };
                format!("{}{suffix}", stem(source))
            }
        }
    }

    /// Where it is once it is built.
    pub fn path(&self, workspace: &Workspace) -> PathBuf {
        let directory = workspace.target.join("programs");
        match self {
            Self::Rust(name) => directory.join(RUST_TARGET).join(RUST_PROFILE).join(name),
            Self::C(..) | Self::Assembly(_) => directory.join("c").join(self.name()),
        }
    }
}

fn stem(source: &str) -> &str {
    Path::new(source).file_stem().and_then(OsStr::to_str).unwrap_or(source)
}

/// The names of the package `guest-programs`' binaries, sorted.
pub fn rust_binaries(workspace: &Workspace) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        sources(workspace, "src/bin", &["rs"])?.iter().map(|source| stem(source).to_owned()).collect();
    let directory = workspace.root.join("tests/programs/src/bin");
    if let Ok(entries) = fs::read_dir(directory) {
        let directories = entries.flatten().filter(|entry| entry.path().join("main.rs").exists());
        names.extend(directories.filter_map(|entry| entry.file_name().into_string().ok()));
    }
    names.sort();
    Ok(names)
}

/// The names of the files in a directory of `tests/programs` with one of these extensions, sorted.
pub fn sources(workspace: &Workspace, directory: &str, extensions: &[&str]) -> Result<Vec<String>> {
    let path = workspace.root.join("tests/programs").join(directory);
    let mut found = Vec::new();
    if !path.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", path.display()))?.file_name();
        let extension = Path::new(&name).extension().and_then(OsStr::to_str);
        if extension.is_some_and(|extension| extensions.contains(&extension)) {
            found.push(name.into_string().ok().context("a file name under tests/programs is not UTF-8")?);
        }
    }
    found.sort();
    Ok(found)
}

/// Builds the programs that cases need.
pub fn build(workspace: &Workspace, programs: &BTreeSet<Program>) -> Result<()> {
    if programs.is_empty() {
        return Ok(());
    }
    crate::installer::require(&[GCC, LIBC])?;
    if programs.iter().any(|program| matches!(program, Program::C(_, Libc::Musl))) {
        MUSL.require()?;
    }
    let rust: Vec<&String> = programs
        .iter()
        .filter_map(|program| if let Program::Rust(name) = program { Some(name) } else { None })
        .collect();
    if !rust.is_empty() {
        build_rust(workspace, &rust)?;
    }
    for program in programs {
        let (directory, source, compiler, flags): (_, _, _, &[&str]) = match program {
            Program::Rust(_) => continue,
            Program::C(source, Libc::Glibc) => ("c", source, "gcc", &["-O2", "-static", "-pthread", "-lm"]),
            Program::C(source, Libc::GlibcPie) => {
                ("c", source, "gcc", &["-O2", "-static-pie", "-fPIE", "-pthread", "-lm"])
            }
            Program::C(source, Libc::Musl) => ("c", source, "musl-gcc", &["-O2", "-static", "-pthread"]),
            Program::Assembly(source) => ("nostdlib", source, "gcc", &["-static", "-nostdlib"]),
        };
        let source = workspace.root.join("tests/programs").join(directory).join(source);
        compile(&source, compiler, flags, &program.path(workspace))?;
    }
    Ok(())
}

fn build_rust(workspace: &Workspace, names: &[&String]) -> Result<()> {
    let mut cargo = workspace.cargo("build", &workspace.target.join("programs"));
    cargo.args(["--package", "guest-programs", "--profile", RUST_PROFILE, "--target", RUST_TARGET]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    // Words are separated by 0x1f in this variable, so none is split at a blank.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static").env_remove("RUSTFLAGS");
    let status = cargo
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run cargo for guest programs")?;
    if !status.success() {
        bail!("building the guest programs failed: see cargo's messages above");
    }
    Ok(())
}

/// Compiles a source file unless that was done since it was changed.
fn compile(source: &Path, compiler: &str, flags: &[&str], output: &Path) -> Result<()> {
    // The flags are this program's, so it counts as a source too.
    if is_newer(output, source) && is_newer(output, &env::current_exe().unwrap_or_default()) {
        return Ok(());
    }
    let directory = output.parent().context("a program's path has a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    say!("compiling {} for {}", source.display(), output.display());
    let partial = output.with_extension("partial");
    let status = Command::new(compiler)
        // A library comes after what uses it.
        .arg(source)
        .args(flags)
        .arg("-o")
        .arg(&partial)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run {compiler}"))?;
    if !status.success() {
        bail!("{compiler} could not compile {}: see its messages above", source.display());
    }
    fs::rename(&partial, output).with_context(|| format!("cannot put the program at {}", output.display()))
}

/// True when `product` is there and not older than `source`.
fn is_newer(product: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    matches!((time(product), time(source)), (Some(product), Some(source)) if product >= source)
}
