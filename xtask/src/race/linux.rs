//! Debian's Linux, from its package: fetched once, unpacked to the ELF file inside, and kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::installer::{self, Tool};
use crate::race::kernel_file::{self, Compression};
use crate::report::say;
use crate::workspace::Workspace;

/// The package that depends on the newest kernel for virtual machines.
const LATEST: &str = "linux-image-cloud-amd64";

const DPKG: Tool = Tool::in_path("dpkg", &["dpkg-deb"]);
const TAR: Tool = Tool::in_path("tar", &["tar"]);

/// Linux, ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linux {
    /// The package's version
    pub version: String,
    /// The uncompressed ELF file, with its PVH entry
    pub image: PathBuf,
}

impl Linux {
    /// Finds what was kept, or fetches it.
    pub fn require(workspace: &Workspace) -> Result<Self> {
        let directory = workspace.target.join("linux");
        let (image, version) = (directory.join("vmlinux"), directory.join("version"));
        if !image.exists() || !version.exists() {
            fetch(&directory)
                .context("Debian's Linux, which Monoguest is measured against, is not to be had")?;
        }
        let version =
            fs::read_to_string(&version).with_context(|| format!("cannot read {}", version.display()))?;
        Ok(Self { version: version.trim().to_owned(), image })
    }
}

/// Fetches and unpacks the kernel; `directory` is there afterwards, whole.
fn fetch(directory: &Path) -> Result<()> {
    installer::require(&[DPKG, TAR])?;
    let partial = directory.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let unpacked = unpack_into(&partial).and_then(|()| {
        // A directory that lacks one of its files is of no use to anybody.
        let _ = fs::remove_dir_all(directory);
        fs::rename(&partial, directory)
            .with_context(|| format!("cannot put Linux at {}", directory.display()))
    });
    // After a success there is nothing left to remove.
    let _ = fs::remove_dir_all(&partial);
    unpacked
}

fn unpack_into(directory: &Path) -> Result<()> {
    let package = match latest()? {
        Some(package) => package,
        None => {
            installer::update_lists()?;
            latest()?.with_context(|| {
                format!("apt knows no package that {LATEST} depends on: is this Debian on x86-64?")
            })?
        }
    };
    say!("fetching {package}, to measure against it");
    if !download(&package, directory)? {
        installer::update_lists()?;
        if !download(&package, directory)? {
            bail!("apt-get could not download {package}: see its messages above");
        }
    }
    let archive = only_file(directory, "deb")?;
    let version = text(Command::new("dpkg-deb").arg("--field").arg(&archive).arg("Version"))?;
    let vmlinuz = vmlinuz(&archive)?;
    let image = decompress(&vmlinuz, directory)?;
    kernel_file::pvh_entry(&image).with_context(|| format!("the kernel in {package} cannot be started"))?;
    for (name, bytes) in [("vmlinux", &image[..]), ("version", version.as_bytes())] {
        let path = directory.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

/// The package with the kernel itself, as apt's lists have it.
fn latest() -> Result<Option<String>> {
    let depends = Command::new("apt-cache")
        .args(["depends", "--important", LATEST])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("cannot run apt-cache: Linux comes from Debian's packages")?;
    Ok(dependency(&String::from_utf8_lossy(&depends.stdout)))
}

/// The first kernel among the dependencies `apt-cache depends` lists.
fn dependency(listing: &str) -> Option<String> {
    listing
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .map(str::to_owned)
}

fn download(package: &str, directory: &Path) -> Result<bool> {
    let status = Command::new("apt-get")
        // apt's own user cannot write here, and need not.
        .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run apt-get")?;
    Ok(status.success())
}

fn only_file(directory: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("apt-get left no .{extension} file in {}", directory.display()))
}

/// The compressed kernel in a Debian package.
fn vmlinuz(archive: &Path) -> Result<Vec<u8>> {
    let mut unpacker = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let files = unpacker.stdout.take().context("dpkg-deb's output is a pipe")?;
    let output = Command::new("tar")
        .args(["--extract", "--to-stdout", "--wildcards", "./boot/vmlinuz-*"])
        .stdin(files)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run tar")?;
    let unpacked = unpacker.wait().context("cannot wait for dpkg-deb")?;
    if !output.status.success() || !unpacked.success() {
        bail!("there is no kernel in {}: see the messages above", archive.display());
    }
    Ok(output.stdout)
}

fn decompress(vmlinuz: &[u8], directory: &Path) -> Result<Vec<u8>> {
    let (compression, payload) = kernel_file::payload(vmlinuz).context("the kernel has no known form")?;
    let (program, package) = match compression {
        Compression::Gzip => ("gzip", "gzip"),
        Compression::Xz => ("xz", "xz-utils"),
        Compression::Lz4 => ("lz4", "lz4"),
        Compression::Zstd => ("zstd", "zstd"),
    };
    if installer::in_path(program).is_none() {
        installer::install(&[package])?;
    }
    // Through a file: a pipe on each side would need a thread.
    let packed = directory.join("payload");
    fs::write(&packed, payload).with_context(|| format!("cannot write {}", packed.display()))?;
    let input = File::open(&packed).with_context(|| format!("cannot open {}", packed.display()))?;
    let output = Command::new(program)
        .args(["-d", "-c"])
        .stdin(input)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} could not decompress the kernel: see its message above");
    }
    fs::remove_file(&packed).with_context(|| format!("cannot remove {}", packed.display()))?;
    Ok(output.stdout)
}

fn text(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: see its message above");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_among_the_dependencies() {
        let listing =
            "linux-image-cloud-amd64\n  Depends: other\n  Depends: linux-image-6.1.0-9-cloud-amd64\n";
        assert_eq!(dependency(listing).as_deref(), Some("linux-image-6.1.0-9-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }
}
