//! Programs from Debian packages: found on the machine, or installed from there.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::elf;
use crate::report::say;

/// A file some command needs, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The Debian package
    pub package: &'static str,
    /// Where it is: a name is looked up in PATH, paths are tried in turn
    places: &'static [&'static str],
    /// Only a statically linked program will do
    linked_statically: bool,
}

/// The PC emulator.
pub const QEMU: Tool =
    Tool { package: "qemu-system-x86", places: &["qemu-system-x86_64"], linked_statically: false };
/// The default user space.
pub const BUSYBOX: Tool = Tool {
    package: "busybox-static",
    places: &["/bin/busybox", "/usr/bin/busybox"],
    linked_statically: true,
};
/// A second shell for the test suite.
pub const BASH: Tool = Tool {
    package: "bash-static",
    places: &["/bin/bash-static", "/usr/bin/bash-static"],
    linked_statically: true,
};
/// The C compiler with a static glibc.
pub const GCC: Tool = Tool { package: "gcc", places: &["gcc"], linked_statically: false };
/// glibc's static library and headers.
pub const LIBC: Tool = Tool {
    package: "libc6-dev",
    places: &["/usr/lib/x86_64-linux-gnu/libc.a", "/usr/lib64/libc.a"],
    linked_statically: false,
};
/// The same compiler with musl.
pub const MUSL: Tool = Tool { package: "musl-tools", places: &["musl-gcc"], linked_statically: false };

impl Tool {
    /// A program that is looked up in PATH.
    pub const fn in_path(package: &'static str, program: &'static [&'static str]) -> Self {
        Self { package, places: program, linked_statically: false }
    }

    /// Where it is on this machine, if it is.
    pub fn find(&self) -> Option<PathBuf> {
        let found = |place: &&str| match place.strip_prefix('/') {
            Some(_) => Some(PathBuf::from(place)).filter(|path| path.exists()),
            None => in_path(place),
        };
        // Debian's `busybox` is at the same place as `busybox-static`, and is of no use in a guest.
        let fits = |path: &PathBuf| {
            !self.linked_statically || fs::read(path).is_ok_and(|bytes| !elf::has_interpreter(&bytes))
        };
        self.places.iter().filter_map(found).find(fits)
    }

    /// Where it is on this machine, installed first where it is missing.
    pub fn require(&self) -> Result<PathBuf> {
        require(&[*self])?;
        self.find().with_context(|| {
            format!("the package {} is installed but {} is not there", self.package, self.places.join(" or "))
        })
    }
}

/// Looks a program up in PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Installs those of `tools` that are missing.
pub fn require(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| tool.find().is_none()).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs Debian packages: without asking as root or with `CI=true`, otherwise says how and fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if in_path("apt-get").is_none() {
        bail!(
            "missing: {list} (Debian's names). There is no apt-get here: install them with this system's own tool"
        );
    }
    let root = nix::unistd::geteuid().is_root();
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    if !root && !ci {
        bail!("missing: {list}. Install with: sudo apt-get install -y --no-install-recommends {list}");
    }
    say!("installing {list}");
    let install = || apt(root, &["install", "-y", "--no-install-recommends"], packages);
    if !install()? {
        say!("that failed; fetching the package lists and trying again");
        if !apt(root, &["update"], &[])? || !install()? {
            bail!("apt-get could not install {list}: see its messages above");
        }
    }
    say!("installed {list}");
    Ok(())
}

/// Fetches apt's package lists: without asking as root or with `CI=true`, otherwise says how and fails.
pub fn update_lists() -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    let ci = env::var("CI").is_ok_and(|value| value == "true");
    if !root && !ci {
        bail!("apt's package lists are missing or out of date: sudo apt-get update");
    }
    say!("fetching the package lists");
    if !apt(root, &["update"], &[])? {
        bail!("apt-get could not fetch the package lists: see its messages above");
    }
    Ok(())
}

/// Runs apt-get with its output on standard error; false when it failed.
fn apt(root: bool, arguments: &[&str], packages: &[&str]) -> Result<bool> {
    let mut command = if root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "apt-get"]);
        sudo
    };
    let status = command
        .args(["-o", "DPkg::Lock::Timeout=120", "-q"])
        .args(arguments)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run apt-get")?;
    Ok(status.success())
}
