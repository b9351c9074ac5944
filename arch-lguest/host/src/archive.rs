//! The one module the host is given: a newc cpio archive with a folder a guest.
//!
//! `0/image` is the first guest's kernel, `0/initramfs`, `0/cmdline` and `0/config` are there if it has them; `1/…` is the
//! second's. `config` has lines `name=value`: `memory` in MiB, `share` of the processor relative to the others'.

/// The most guests.
pub const MOST_GUESTS: usize = 8;

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
}

/// A guest's weight where several want the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(pub u32);

impl Description<'_> {
    const EMPTY: Self =
        Self { image: &[], initramfs: None, command_line: &[], memory_bytes: 64 << 20, share: Share(100) };
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
                _ => {
                    return Err(BadArchive(
                        "a file in the module is not image, initramfs, cmdline or config",
                    ));
                }
            }
        }
        guests.count = seen.iter().take_while(|seen| **seen).count();
        if guests.count == 0 || seen[guests.count..].contains(&true) {
            return Err(BadArchive("the module's guests are not numbered from 0 on"));
        }
        for guest in guests.as_slice() {
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
        } else {
            return Err(BadArchive("a guest's config has a line that is neither memory= nor share="));
        }
    }
    Ok(())
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
            (&[("0/config", &b"disk=1"[..])], "neither"),
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
