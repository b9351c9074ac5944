//! The file tree a guest starts with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cpio::{Node, Writer};

/// Where a program named without a slash is looked for, in this order.
const PATH: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];

/// Where the argument vector of process 1 is kept, with a NUL after each argument.
pub const ARGV_FILE: &str = "/.argv";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const PROFILE: &str = "export PATH=/bin:/sbin:/usr/bin:/usr/sbin\nexport PS1='\\w \\$ '\nexport HOME=/root\ncd /root 2>/dev/null\n";

/// A tree of files, by path without the leading slash.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    entries: BTreeMap<String, (Node, u32)>,
}

impl Initramfs {
    /// A tree with the standard directories and device nodes.
    pub fn minimal() -> Self {
        let mut tree = Self::default();
        for directory in
            ["bin", "dev", "etc", "mnt", "proc", "run", "sbin", "sys", "usr/bin", "usr/sbin", "var"]
        {
            tree.directory(directory, 0o755);
        }
        tree.directory("root", 0o700);
        tree.directory("tmp", 0o1777);
        tree.entries.insert("dev/console".into(), (Node::CharacterDevice { major: 5, minor: 1 }, 0o600));
        tree.entries.insert("dev/null".into(), (Node::CharacterDevice { major: 1, minor: 3 }, 0o666));
        tree
    }

    /// The default user space: `busybox` with a link for each of its applets.
    pub fn with_busybox(busybox: &Path) -> Result<Self> {
        let mut tree = Self::minimal();
        tree.host_file(busybox, "bin/busybox")?;
        for applet in applets(busybox)? {
            let ups = applet.matches('/').count();
            let target = match ups {
                1 if applet.starts_with("bin/") => "busybox".to_owned(),
                _ => format!("{}bin/busybox", "../".repeat(ups)),
            };
            tree.symlink(&applet, &target);
        }
        for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("profile", PROFILE)] {
            tree.file(&format!("etc/{name}"), text.as_bytes().to_vec(), 0o644);
        }
        Ok(tree)
    }

    /// Adds a directory and those above it.
    pub fn directory(&mut self, path: &str, permissions: u32) {
        let path = path.trim_start_matches('/');
        self.parents(path);
        self.entries.insert(path.to_owned(), (Node::Directory, permissions));
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, contents: Vec<u8>, permissions: u32) {
        let path = path.trim_start_matches('/');
        self.parents(path);
        self.entries.insert(path.to_owned(), (Node::File(contents), permissions));
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        let path = path.trim_start_matches('/');
        self.parents(path);
        self.entries.entry(path.to_owned()).or_insert_with(|| (Node::Symlink(target.to_owned()), 0o777));
    }

    /// Adds a copy of a file of this machine, executable.
    pub fn host_file(&mut self, from: &Path, path: &str) -> Result<()> {
        let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, contents, 0o755);
        Ok(())
    }

    /// Adds a program of this machine at `/<its name>` and returns that path.
    pub fn program(&mut self, from: &Path) -> Result<String> {
        let name = from
            .file_name()
            .and_then(OsStr::to_str)
            .with_context(|| format!("{} does not end in a file name that is UTF-8", from.display()))?;
        self.host_file(from, name)?;
        Ok(format!("/{name}"))
    }

    /// The path of a program as process 1 needs it: a name without a slash is looked up as a shell would.
    pub fn resolve(&self, program: &str) -> Result<String> {
        if program.contains('/') {
            return Ok(program.to_owned());
        }
        if program.is_empty() {
            bail!("the first argument after `--` is the program to run: it cannot be empty");
        }
        let found = PATH
            .iter()
            .map(|directory| format!("{directory}/{program}"))
            .chain([program.to_owned()])
            .find(|path| self.entries.get(path).is_some_and(|(node, _)| *node != Node::Directory));
        match found {
            Some(path) => Ok(format!("/{path}")),
            None => bail!(
                "there is no program `{program}` in the guest (looked in /{} and /): add it with --program FILE",
                PATH.join(", /")
            ),
        }
    }

    /// Packs the argument vector of process 1.
    pub fn set_argv(&mut self, argv: &[String]) -> Result<()> {
        self.file(ARGV_FILE, encode_argv(argv)?, 0o444);
        Ok(())
    }

    /// The tree as a cpio archive.
    pub fn pack(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        for (path, (node, permissions)) in &self.entries {
            writer.entry(path, node, *permissions);
        }
        writer.finish()
    }

    fn parents(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/') {
            self.entries.entry(path[..slash].to_owned()).or_insert((Node::Directory, 0o755));
        }
    }
}

/// An argument vector with a NUL after each argument: any other byte survives, and so do empty arguments.
fn encode_argv(argv: &[String]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for argument in argv {
        if argument.contains('\0') {
            bail!("an argument cannot contain a NUL");
        }
        bytes.extend_from_slice(argument.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}

/// The paths of busybox's applets, without the leading slash.
fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox)
        .arg("--list-full")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", busybox.display()))?;
    let list = String::from_utf8(output.stdout).context("busybox's applet list is not text")?;
    if !output.status.success() || !list.lines().any(|applet| applet == "bin/sh") {
        bail!("`{} --list-full` did not list its applets: is it busybox-static?", busybox.display());
    }
    Ok(list.lines().map(|line| line.trim_start_matches('/').to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argv_keeps_blanks_quotes_newlines_and_empty_arguments() {
        let argv = ["/bin/sh", "-c", "echo \"a  b\"\n'c'", "", "é"].map(str::to_owned);
        assert_eq!(encode_argv(&argv).unwrap(), "/bin/sh\0-c\0echo \"a  b\"\n'c'\0\0é\0".as_bytes());
        assert!(encode_argv(&["a\0b".to_owned()]).is_err());
        assert!(encode_argv(&[]).unwrap().is_empty());
    }

    #[test]
    fn names_are_looked_up_as_a_shell_would() {
        let mut tree = Initramfs::minimal();
        tree.file("/sbin/tool", vec![], 0o755);
        tree.symlink("/usr/bin/tool", "../../sbin/tool");
        tree.file("mine", vec![], 0o755);
        assert_eq!(tree.resolve("tool").unwrap(), "/sbin/tool");
        assert_eq!(tree.resolve("mine").unwrap(), "/mine");
        assert_eq!(tree.resolve("./any").unwrap(), "./any");
        // A directory is no program.
        assert!(tree.resolve("bin").is_err());
        assert!(tree.resolve("absent").unwrap_err().to_string().contains("--program"));
        assert!(tree.resolve("").is_err());
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut tree = Initramfs::minimal();
        tree.file("/a/b/c", vec![], 0o644);
        let paths: Vec<_> = tree.entries.keys().cloned().collect();
        let at = |path: &str| paths.iter().position(|p| p == path).unwrap();
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/c"));
        assert!(matches!(tree.entries["dev/console"].0, Node::CharacterDevice { major: 5, minor: 1 }));
    }
}
