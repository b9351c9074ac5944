//! The compiler for the kernel image: a target whose library is precompiled, or the library's source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::installer;
use crate::report::say;
use crate::workspace::Workspace;

/// The built-in target kernel images are made for: soft float, no red zone.
pub const IMAGE_TARGET: &str = "x86_64-unknown-none";

/// How this machine compiles for [`IMAGE_TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageToolchain {
    /// The target's library is there, precompiled
    Precompiled,
    /// `core` and `alloc` are built from source
    FromSource {
        /// The compiler the source belongs to; `None` is the one cargo would use anyway
        rustc: Option<PathBuf>,
        /// A linker to name, where the compiler brings none
        linker: Option<&'static str>,
    },
}

impl ImageToolchain {
    /// Finds a way, installing what is missing.
    pub fn require() -> Result<Self> {
        let sysroot = sysroot(Path::new("rustc"))?;
        if let Some(found) = Self::present(&sysroot, None)? {
            return Ok(found);
        }
        if installer::in_path("rustup").is_some() {
            say!("the target {IMAGE_TARGET} is missing: rustup target add {IMAGE_TARGET}");
            if rustup(&["target", "add", IMAGE_TARGET])? && has_target(&sysroot) {
                return Ok(Self::Precompiled);
            }
            say!(
                "rustup could not add the target: trying the library's source (rustup component add rust-src)"
            );
            if rustup(&["component", "add", "rust-src"])?
                && let Some(found) = Self::present(&sysroot, None)?
            {
                return Ok(found);
            }
            say!(
                "rustup could not add it either: trying Debian's compiler, which has its source in a package"
            );
        }
        if !Path::new(DEBIAN_RUSTC).exists() || !has_source(&sysroot_of_debian()?) {
            installer::install(&["rustc-web", "rust-web-src"]).with_context(|| {
                format!(
                    "no way to compile for {IMAGE_TARGET}: `rustup target add {IMAGE_TARGET}` is the simplest"
                )
            })?;
        }
        match Self::present(&sysroot_of_debian()?, Some(Path::new(DEBIAN_RUSTC)))? {
            Some(found) => Ok(found),
            None => bail!(
                "Debian's rustc-web and rust-web-src are installed, but the library's source is not found"
            ),
        }
    }

    /// The way there is without installing anything, if there is one.
    fn present(sysroot: &Path, rustc: Option<&Path>) -> Result<Option<Self>> {
        if has_target(sysroot) {
            return Ok(Some(Self::Precompiled));
        }
        if has_source(sysroot) {
            let rustc = rustc.map(Path::to_owned);
            return Ok(Some(Self::FromSource { rustc, linker: linker(sysroot)? }));
        }
        if rustc.is_none() && Path::new(DEBIAN_RUSTC).exists() {
            let debian = sysroot_of_debian()?;
            if debian != sysroot {
                return Self::present(&debian, Some(Path::new(DEBIAN_RUSTC)));
            }
        }
        Ok(None)
    }

    /// Adds to a cargo command of this workspace what this toolchain needs to compile for [`IMAGE_TARGET`], and `more` flags
    /// of the compiler.
    pub fn apply(&self, workspace: &Workspace, cargo: &mut Command, more: &[&str]) -> Result<()> {
        cargo.args(["--target", IMAGE_TARGET]);
        // A panic names its place: where this machine keeps the crates is nothing that an image should depend on.
        let mut flags = vec![
            "--remap-path-scope=macro".to_owned(),
            renamed(&workspace.cargo_home.join("registry/src"), "registry"),
        ];
        flags.extend(more.iter().map(ToString::to_string));
        if let Self::FromSource { rustc, linker } = self {
            cargo.arg("-Zbuild-std=core,alloc").env("RUSTC_BOOTSTRAP", "1");
            let compiler = rustc.as_deref().unwrap_or(Path::new("rustc"));
            flags.push(renamed(&sysroot(compiler)?.join(SOURCE), "rust"));
            if let Some(rustc) = rustc {
                cargo.env("RUSTC", rustc);
            }
            if let Some(linker) = linker {
                let flavor = if linker.contains("lld") { "ld.lld" } else { "ld" };
                cargo.arg("--config").arg(format!("target.{IMAGE_TARGET}.linker=\"{linker}\""));
                flags.push(format!("-Clinker-flavor={flavor}"));
            }
        }
        cargo.arg("--config").arg(format!("target.{IMAGE_TARGET}.rustflags={flags:?}"));
        Ok(())
    }

    /// The linter to run in place of cargo's own, where the compiler is another than cargo's.
    pub fn clippy(&self) -> Option<&'static str> {
        self.uses_debian_rustc().then_some(DEBIAN_CLIPPY)
    }

    fn uses_debian_rustc(&self) -> bool {
        matches!(self, Self::FromSource { rustc: Some(_), .. })
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Precompiled => format!("target {IMAGE_TARGET}, precompiled"),
            Self::FromSource { rustc, linker } => format!(
                "target {IMAGE_TARGET}, core and alloc built from source by {}, linked by {}",
                rustc.as_deref().unwrap_or(Path::new("rustc")).display(),
                linker.unwrap_or("rust-lld"),
            ),
        }
    }
}

/// Debian's compiler that matches the source in `rust-web-src`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The linter that matches it.
const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

fn sysroot_of_debian() -> Result<PathBuf> {
    if Path::new(DEBIAN_RUSTC).exists() {
        sysroot(Path::new(DEBIAN_RUSTC))
    } else {
        Ok(PathBuf::from("/usr"))
    }
}

/// The directory the compiler's libraries are in.
pub fn sysroot(rustc: &Path) -> Result<PathBuf> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    if !output.status.success() {
        bail!("`{} --print sysroot` failed: see its message above", rustc.display());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
}

fn has_target(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib").join(IMAGE_TARGET).join("lib");
    fs::read_dir(library).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// The library's source in a sysroot.
const SOURCE: &str = "lib/rustlib/src/rust";

fn has_source(sysroot: &Path) -> bool {
    sysroot.join(SOURCE).join("library/core/src/lib.rs").exists()
}

/// The compiler's option for another name of a directory.
fn renamed(directory: &Path, name: &str) -> String {
    format!("--remap-path-prefix={}={name}", directory.display())
}

/// A linker to name: none where the compiler has its own, else GNU ld or Debian's lld.
fn linker(sysroot: &Path) -> Result<Option<&'static str>> {
    let own = fs::read_dir(sysroot.join("lib/rustlib"))
        .is_ok_and(|hosts| hosts.flatten().any(|host| host.path().join("bin/rust-lld").exists()));
    if own {
        return Ok(None);
    }
    if let Some(found) = ["ld", "ld.lld"].into_iter().find(|name| installer::in_path(name).is_some()) {
        return Ok(Some(found));
    }
    installer::install(&["binutils"])?;
    Ok(Some("ld"))
}

fn rustup(arguments: &[&str]) -> Result<bool> {
    // `cargo run` names the toolchain in RUSTUP_TOOLCHAIN, so rustup changes the one that is in use.
    let status = Command::new("rustup")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run rustup")?;
    Ok(status.success())
}

/// Makes sure that `cargo clippy` and `cargo fmt` work, for the image too.
pub fn require_lints(image: &ImageToolchain) -> Result<()> {
    let bin = sysroot(Path::new("rustc"))?.join("bin");
    let rustup = installer::in_path("rustup").is_some();
    for (program, component, package) in
        [("cargo-clippy", "clippy", "rust-web-clippy"), ("rustfmt", "rustfmt", "rustfmt-web")]
    {
        // A compiler that is not rustup's has its companions wherever PATH finds them.
        if bin.join(program).exists() || (!rustup && installer::in_path(program).is_some()) {
            continue;
        }
        if !rustup {
            installer::install(&[package])?;
            continue;
        }
        say!("{component} is missing: rustup component add {component}");
        if !self::rustup(&["component", "add", component])? {
            bail!("rustup could not add {component}: see its message above");
        }
    }
    if image.uses_debian_rustc() && !Path::new(DEBIAN_CLIPPY).exists() {
        installer::install(&["rust-web-clippy"])?;
    }
    Ok(())
}
