//! Writes cpio archives in the "newc" format, the one initramfs images have.

/// File type bits of a mode, as in `stat`.
mod kind {
    pub const CHARACTER_DEVICE: u32 = 0o020_000;
    pub const DIRECTORY: u32 = 0o040_000;
    pub const REGULAR: u32 = 0o100_000;
    pub const SYMLINK: u32 = 0o120_000;
}

/// Contents of at least this many bytes start at a multiple of it, so that a kernel can map them where they are.
const PAGE: usize = 4096;
/// A header's length in bytes.
const HEADER: usize = 110;
/// Linux takes no longer name field, the padding included.
const LONGEST_NAME_FIELD: usize = 4096;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory
    Directory,
    /// A regular file with its contents
    File(Vec<u8>),
    /// A symbolic link with its target
    Symlink(String),
    /// A character device
    CharacterDevice {
        /// Its major number
        major: u32,
        /// Its minor number
        minor: u32,
    },
}

/// An archive being written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    last_inode: u32,
}

impl Writer {
    /// Appends an entry; `name` has no leading slash, `permissions` are the mode's low twelve bits.
    pub fn entry(&mut self, name: &str, node: &Node, permissions: u32) {
        let (kind, data, device): (u32, &[u8], (u32, u32)) = match node {
            Node::Directory => (kind::DIRECTORY, &[], (0, 0)),
            Node::File(data) => (kind::REGULAR, data, (0, 0)),
            Node::Symlink(target) => (kind::SYMLINK, target.as_bytes(), (0, 0)),
            Node::CharacterDevice { major, minor } => (kind::CHARACTER_DEVICE, &[], (*major, *minor)),
        };
        let mut padding = self.page_padding(name, data.len());
        if name.len() + 1 + padding > LONGEST_NAME_FIELD {
            // Too few bytes short of a page for the name field to reach the next one: another entry moves the start.
            self.raw_entry(".", kind::DIRECTORY | 0o755, &[], (0, 0), 0);
            padding = self.page_padding(name, data.len());
        }
        self.raw_entry(name, kind | permissions, data, device, padding);
    }

    /// Ends the archive and returns it.
    pub fn finish(mut self) -> Vec<u8> {
        self.last_inode = 0;
        self.raw_entry("TRAILER!!!", 0, &[], (0, 0), 0);
        self.bytes
    }

    /// How many extra NULs after the name put the data at a page's start.
    fn page_padding(&self, name: &str, data_length: usize) -> usize {
        if data_length < PAGE {
            return 0;
        }
        let unpadded = self.bytes.len() + HEADER + name.len() + 1;
        unpadded.next_multiple_of(PAGE) - unpadded
    }

    fn raw_entry(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32), padding: usize) {
        let length = u32::try_from(data.len()).expect("a cpio entry holds less than 4 GiB");
        let name_field = u32::try_from(name.len() + 1 + padding).expect("names are short");
        let links = if mode & kind::DIRECTORY != 0 { 2 } else { 1 };
        let inode = if mode == 0 { 0 } else { self.last_inode + 1 };
        self.last_inode = inode;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [inode, mode, 0, 0, links, 0, length, 0, 0, device.0, device.1, name_field, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.resize(self.bytes.len() + 1 + padding, 0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn number(archive: &[u8], header: usize, field: usize) -> usize {
        let at = header + 6 + field * 8;
        usize::from_str_radix(std::str::from_utf8(&archive[at..at + 8]).unwrap(), 16).unwrap()
    }

    /// Names and data offsets, read back by the format's own rules.
    fn entries(archive: &[u8]) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701", "at {at}");
            let (size, name_field) = (number(archive, at, 6), number(archive, at, 11));
            assert!(name_field <= LONGEST_NAME_FIELD);
            let name = &archive[at + HEADER..at + HEADER + name_field];
            assert_eq!(name.last(), Some(&0));
            let name = String::from_utf8(name.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap();
            let data = (at + HEADER + name_field).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(data, archive.len());
                return found;
            }
            found.push((name, data, size));
            at = (data + size).next_multiple_of(4);
        }
    }

    #[test]
    fn data_of_a_page_or_more_is_page_aligned() {
        // All starts modulo a page, so that the name field's limit is met too.
        for shift in 0..PAGE / 4 {
            let mut writer = Writer::default();
            writer.entry("first", &Node::File(vec![1; shift * 4]), 0o644);
            writer.entry("usr/bin/program", &Node::File(vec![7; 5000]), 0o755);
            let archive = writer.finish();
            let entries = entries(&archive);
            let (_, data, size) = entries.iter().find(|entry| entry.0 == "usr/bin/program").unwrap();
            assert_eq!(data % PAGE, 0, "shift {shift}");
            assert_eq!(archive[*data..*data + *size], [7; 5000]);
        }
    }

    #[test]
    fn cpio_reads_it_back() {
        let mut writer = Writer::default();
        writer.entry("bin", &Node::Directory, 0o755);
        writer.entry("bin/link", &Node::Symlink("tool".to_owned()), 0o777);
        writer.entry("bin/tool", &Node::File(vec![b'x'; 9001]), 0o755);
        writer.entry("empty", &Node::File(Vec::new()), 0o600);
        let archive = writer.finish();
        assert_eq!(
            entries(&archive).iter().map(|entry| entry.0.as_str()).collect::<Vec<_>>(),
            ["bin", "bin/link", "bin/tool", "empty"]
        );
        let Some(busybox) = crate::installer::BUSYBOX.find() else {
            panic!("busybox-static is not installed: run `cargo xtask setup`")
        };
        let mut child = Command::new(busybox)
            .args(["cpio", "-itv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(listing.contains("-rwxr-xr-x") && listing.contains("9001"), "{listing}");
        assert!(listing.contains("bin/link -> tool"), "{listing}");
        assert_eq!(listing.lines().count(), 4, "{listing}");
    }
}
