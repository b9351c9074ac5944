//! The one module the host is given: a newc cpio archive with a folder a guest.
//!
//! `0/image` is the first guest's kernel, `0/initramfs`, `0/cmdline` and `0/config` are there if it has them; `1/…` is the
//! second's. `config` has lines `name=value`: `memory` in MiB, `share` of the processor relative to the others', `disk` once for
//! each disk (`module` for the file `disk0`, `disk1`, … of its place in the list, `drive:N` for the machine's N-th drive, either with
//! `,ro` behind it), `network` (`guests` or `user`).

use crate::devices::port::SECTOR;

/// The most guests.
pub const MOST_GUESTS: usize = 8;

/// The most disks of a guest.
pub const MOST_DISKS: usize = 4;

/// Why the module cannot be used: one line for the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadArchive(pub &'static str);

/// One guest, as the archive has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description<'a> {
    /// ELF file.
    pub image: &'a [u8],
    /// Initramfs, if there is one.
    pub initramfs: Option<&'a [u8]>,
    /// Command line.
    pub command_line: &'a [u8],
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Its part of the processor's time, relative to those of the others.
    pub share: Share,
    /// Disks.
    pub disks: [Option<Disk<'a>>; MOST_DISKS],
    /// What it can reach.
    pub network: Network,
}

/// A disk of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk<'a> {
    /// Where its sectors are.
    pub source: DiskSource<'a>,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// Where a disk's sectors are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskSource<'a> {
    /// Here; changes are lost at the end.
    Module(&'a [u8]),
    /// On a drive of the machine, by its number.
    Drive(usize),
}

/// What a guest's network reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// It has none.
    None,
    /// The other guests.
    Guests,
    /// And what the machine's own card reaches.
    User,
}

/// A guest's weight where several want the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(pub u32);

impl<'a> Description<'a> {
    const EMPTY: Self = Self {
        image: &[],
        initramfs: None,
        command_line: &[],
        memory_bytes: 64 << 20,
        share: Share(100),
        disks: [None; MOST_DISKS],
        network: Network::None,
    };

    /// Gives the disks that are in the module their content.
    fn add_disks(&mut self, files: [Option<&'a [u8]>; MOST_DISKS]) -> Result<(), BadArchive> {
        for (disk, file) in self.disks.iter_mut().zip(files) {
            match (disk.as_mut().map(|disk| &mut disk.source), file) {
                (Some(DiskSource::Module(content)), Some(file)) => *content = file,
                (None | Some(DiskSource::Drive(_)), None) => {}
                _ => return Err(BadArchive("a guest's disks are not those of its config")),
            }
            if matches!(file, Some(file) if file.is_empty() || !(file.len() as u64).is_multiple_of(SECTOR)) {
                return Err(BadArchive("a disk in the module is not of whole sectors"));
            }
        }
        Ok(())
    }
}

/// The guests of an archive, in order.
#[derive(Clone, Copy, Debug)]
pub struct Guests<'a> {
    guests: [Description<'a>; MOST_GUESTS],
    count: usize,
}

impl<'a> Guests<'a> {
    /// Reads an archive.
    pub fn parse(archive: &'a [u8]) -> Result<Self, BadArchive> {
        let mut guests = Self { guests: [Description::EMPTY; MOST_GUESTS], count: 0 };
        let mut seen = [false; MOST_GUESTS];
        let mut files = [[None; MOST_DISKS]; MOST_GUESTS];
        let mut left = archive;
        loop {
            let Entry { name, content, rest } = next_entry(left)?;
            left = rest;
            if name == b"TRAILER!!!" {
                break;
            }
            let [number, b'/', file @ ..] = name else {
                // The folders themselves may be there.
                if content.is_empty() && name.len() <= 1 {
                    continue;
                }
                return Err(BadArchive("a name in the module is not of the form GUEST/FILE"));
            };
            let index = usize::from(number.wrapping_sub(b'0'));
            let Some(guest) = guests.guests.get_mut(index) else {
                return Err(BadArchive("a name in the module is not of the form GUEST/FILE"));
            };
            seen[index] = true;
            match file {
                b"image" => guest.image = content,
                b"initramfs" => guest.initramfs = Some(content),
                b"cmdline" => guest.command_line = trim(content),
                b"config" => configure(guest, content)?,
                [b'd', b'i', b's', b'k', digit @ b'0'..=b'3'] => {
                    files[index][usize::from(digit - b'0')] = Some(content);
                }
                _ => {
                    return Err(BadArchive(
                        "a file in the module is not image, initramfs, cmdline, config or a disk",
                    ));
                }
            }
        }
        guests.count = seen.iter().take_while(|seen| **seen).count();
        if guests.count == 0 || seen[guests.count..].contains(&true) {
            return Err(BadArchive("the module's guests are not numbered from 0 on"));
        }
        for (guest, files) in guests.guests[..guests.count].iter_mut().zip(files) {
            guest.add_disks(files)?;
            if guest.image.is_empty() {
                return Err(BadArchive("a guest in the module has no image"));
            }
            if guest.command_line.len() as u64 > lguest_abi::MOST_COMMAND_LINE {
                return Err(BadArchive("a guest's command line is too long"));
            }
        }
        Ok(guests)
    }

    /// The guests.
    pub fn as_slice(&self) -> &[Description<'a>] {
        &self.guests[..self.count]
    }
}

fn trim(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

fn configure(guest: &mut Description<'_>, text: &[u8]) -> Result<(), BadArchive> {
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        if let Some(mebibytes) = line.strip_prefix(b"memory=") {
            let mebibytes = number(mebibytes).filter(|mebibytes| (1..=1 << 20).contains(mebibytes));
            let mebibytes = mebibytes.ok_or(BadArchive("a guest's memory is not a number of MiB"))?;
            guest.memory_bytes = u64::from(mebibytes) << 20;
        } else if let Some(share) = line.strip_prefix(b"share=") {
            let share = number(share).filter(|share| (1..=10_000).contains(share));
            guest.share = Share(share.ok_or(BadArchive("a guest's share is not from 1 to 10000"))?);
        } else if let Some(disk) = line.strip_prefix(b"disk=") {
            let place = guest.disks.iter_mut().find(|disk| disk.is_none());
            *place.ok_or(BadArchive("a guest has more than four disks"))? = Some(parse_disk(disk)?);
        } else if let Some(network) = line.strip_prefix(b"network=") {
            guest.network = match network {
                b"guests" => Network::Guests,
                b"user" => Network::User,
                _ => return Err(BadArchive("a guest's network is neither guests nor user")),
            };
        } else {
            return Err(BadArchive(
                "a guest's config has a line other than memory=, share=, disk= and network=",
            ));
        }
    }
    Ok(())
}

fn parse_disk(text: &[u8]) -> Result<Disk<'static>, BadArchive> {
    let (text, read_only) = text.strip_suffix(b",ro").map_or((text, false), |text| (text, true));
    let drive = text.strip_prefix(b"drive:").and_then(number);
    let source = match drive {
        Some(drive) => DiskSource::Drive(drive as usize),
        None if text == b"module" => DiskSource::Module(&[]),
        None => return Err(BadArchive("a guest's disk is neither module nor drive:N")),
    };
    Ok(Disk { source, read_only })
}

fn number(digits: &[u8]) -> Option<u32> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

const MAGIC: &[u8; 6] = b"070701";
const HEADER_BYTES: usize = 110;
const CUT_OFF: BadArchive = BadArchive("the module is cut off");

struct Entry<'a> {
    name: &'a [u8],
    content: &'a [u8],
    /// What follows.
    rest: &'a [u8],
}

/// The entry at the start of `archive`.
fn next_entry(archive: &[u8]) -> Result<Entry<'_>, BadArchive> {
    let header = archive.get(..HEADER_BYTES).ok_or(CUT_OFF)?;
    if header[..6] != *MAGIC {
        return Err(BadArchive("the module is no archive of guests (cpio, newc)"));
    }
    let field = |n: usize| {
        let digits = core::str::from_utf8(&header[6 + 8 * n..][..8]).ok();
        let value = digits.filter(|digits| !digits.starts_with('+'));
        let value = value.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        value.ok_or(BadArchive("a header in the module is damaged"))
    };
    let (content_bytes, name_bytes) = (field(6)?, field(11)?);
    let name_end = HEADER_BYTES + name_bytes;
    let name = archive.get(HEADER_BYTES..name_end).ok_or(CUT_OFF)?;
    // More NULs may follow, so that the content starts where its writer wants it.
    let end = name.iter().position(|&byte| byte == 0).ok_or(BadArchive("a name in the module has no end"))?;
    let name = &name[..end];
    let start = name_end.next_multiple_of(4);
    let content = archive.get(start..start + content_bytes).ok_or(CUT_OFF)?;
    let rest = archive.get((start + content_bytes).next_multiple_of(4)..).unwrap_or_default();
    Ok(Entry { name, content, rest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in entries.iter().chain([&("TRAILER!!!", &[][..])]) {
            archive.extend(b"070701");
            for field in 0..13 {
                let value = match field {
                    6 => content.len(),
                    11 => name.len() + 1,
                    _ => 0,
                };
                archive.extend(format!("{value:08x}").bytes());
            }
            archive.extend(name.bytes());
            archive.push(0);
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(*content);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    #[test]
    fn guests_come_with_what_they_have() {
        let bytes = archive(&[
            ("0/image", b"elf"),
            ("0/config", b"memory=32\nshare=50\n"),
            ("1/cmdline", b"console=ttyS0\n"),
            ("1/initramfs", b""),
            ("1/image", b"fle"),
        ]);
        let guests = Guests::parse(&bytes).unwrap();
        let [first, second] = guests.as_slice() else { panic!("{guests:?}") };
        assert_eq!((first.image, first.initramfs, first.memory_bytes), (&b"elf"[..], None, 32 << 20));
        assert_eq!((second.share, second.initramfs), (Share(100), Some(&b""[..])));
        assert_eq!(second.command_line, b"console=ttyS0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (entries, reason) in [
            (&[][..], "numbered from 0"),
            (&[("1/image", &b"x"[..])], "numbered from 0"),
            (&[("0/cmdline", &b"x"[..])], "no image"),
            (&[("0/kernel", &b"x"[..])], "is not image"),
            (&[("image", &b"x"[..])], "GUEST/FILE"),
            (&[("9/image", &b"x"[..])], "GUEST/FILE"),
            (&[("0/config", &b"memory=0"[..])], "number of MiB"),
            (&[("0/config", &b"share=+"[..])], "1 to 10000"),
            (&[("0/config", &b"speed=1"[..])], "other than"),
            (&[("0/config", &b"disk=1"[..])], "neither module"),
            (&[("0/config", &b"network=all"[..])], "neither guests"),
            (&[("0/image", &b"x"[..]), ("0/config", &b"disk=module"[..])], "those of its config"),
            (&[("0/image", &b"x"[..]), ("0/disk0", &[0; 512])], "those of its config"),
            (&[("0/config", &b"disk=module"[..]), ("0/disk0", &[0; 511])], "whole sectors"),
            (&[("0/config", &b"disk=drive:0\n".repeat(5)[..])], "more than four"),
        ] {
            let bytes = archive(entries);
            let BadArchive(said) = Guests::parse(&bytes).unwrap_err();
            assert!(said.contains(reason), "{said}, not {reason}");
        }
        assert!(Guests::parse(b"").unwrap_err().0.contains("cut off"));
        assert!(Guests::parse(&[b'x'; 200]).unwrap_err().0.contains("no archive"));
    }

    proptest! {
        #[test]
        fn damage_is_survived(at in 0usize..400, value: u8, bytes in 0usize..500) {
            let mut bad = archive(&[("0/image", b"elf"), ("0/config", b"memory=32\n")]);
            let length = bad.len();
            bad[at % length] = value;
            bad.truncate(bytes);
            let _ = Guests::parse(&bad);
        }
    }
}
