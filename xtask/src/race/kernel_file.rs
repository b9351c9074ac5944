//! Kernel files: what is inside a `vmlinuz`, and where a kernel's first instruction is.

use std::fmt;

/// A compression a `vmlinuz` payload may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip
    Gzip,
    /// xz
    Xz,
    /// LZ4, in its legacy frame
    Lz4,
    /// Zstandard
    Zstd,
}

/// Why a kernel file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelFileError {
    /// It lacks the boot header's magic number, or the header is older than version 2.08
    NoBootHeader,
    /// The payload the header names is not inside the file
    Truncated,
    /// The payload starts with these bytes, which no known compression has
    UnknownCompression([u8; 4]),
    /// It is no 64-bit ELF file
    NotElf,
    /// It has no note that names a PVH entry
    NoPvhEntry,
}

impl fmt::Display for KernelFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBootHeader => f.write_str("no x86 boot header of version 2.08 or later"),
            Self::Truncated => f.write_str("the file is truncated"),
            Self::UnknownCompression(start) => {
                write!(f, "a payload that starts with {start:02x?} is unknown")
            }
            Self::NotElf => f.write_str("no 64-bit ELF file"),
            Self::NoPvhEntry => f.write_str("no PVH entry (an ELF note of the owner Xen, of type 18)"),
        }
    }
}

impl std::error::Error for KernelFileError {}

/// The compressed ELF file inside a `vmlinuz` (Linux's `Documentation/arch/x86/boot.rst`).
pub fn payload(vmlinuz: &[u8]) -> Result<(Compression, &[u8]), KernelFileError> {
    const SETUP_SECTORS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const VERSION: usize = 0x206;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24c;
    const SECTOR: usize = 512;

    let word = |at: usize| vmlinuz.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let version = vmlinuz.get(VERSION..VERSION + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    if vmlinuz.get(MAGIC..MAGIC + 4) != Some(b"HdrS") || version < Some(0x208) {
        return Err(KernelFileError::NoBootHeader);
    }
    let setup = match vmlinuz[SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let (Some(offset), Some(length)) = (word(PAYLOAD_OFFSET), word(PAYLOAD_LENGTH)) else {
        return Err(KernelFileError::Truncated);
    };
    let payload = vmlinuz
        .get((setup + 1) * SECTOR + offset as usize..)
        .and_then(|rest| rest.get(..length as usize))
        .ok_or(KernelFileError::Truncated)?;
    let start: [u8; 4] = payload.first_chunk().copied().ok_or(KernelFileError::Truncated)?;
    let compression = match start {
        [0x1f, 0x8b, ..] => return Ok((Compression::Gzip, payload)),
        [0xfd, b'7', b'z', b'X'] => Compression::Xz,
        [0x02, 0x21, 0x4c, 0x18] => Compression::Lz4,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        other => return Err(KernelFileError::UnknownCompression(other)),
    };
    // Where the format itself does not say how long the contents are, Linux's build appends four bytes that do.
    let end = payload.len().checked_sub(4).ok_or(KernelFileError::Truncated)?;
    Ok((compression, &payload[..end]))
}

/// The physical address of a kernel's first instruction when it is started by PVH.
pub fn pvh_entry(elf: &[u8]) -> Result<u32, KernelFileError> {
    use object::Endianness;
    use object::elf::{FileHeader64, PT_NOTE};
    use object::read::elf::{FileHeader, ProgramHeader};

    const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

    let not_elf = |_| KernelFileError::NotElf;
    let header = FileHeader64::<Endianness>::parse(elf).map_err(not_elf)?;
    let endian = header.endian().map_err(not_elf)?;
    let mut entry = None;
    for segment in header.program_headers(endian, elf).map_err(not_elf)? {
        if segment.p_type(endian) != PT_NOTE {
            continue;
        }
        let Some(mut notes) = segment.notes(endian, elf).map_err(not_elf)? else { continue };
        while let Some(note) = notes.next().map_err(not_elf)? {
            let name: &[u8] = note.name();
            if name == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY {
                // Four bytes, or eight of which the upper four are zero.
                entry = note.desc().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
            }
        }
    }
    entry.ok_or(KernelFileError::NoPvhEntry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmlinuz(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[0x1f1] = 1;
        file[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        file[0x248..0x24c].copy_from_slice(&0x10u32.to_le_bytes());
        file[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        file.resize(0x410, 0);
        file.extend_from_slice(payload);
        file.extend_from_slice(b"what follows");
        file
    }

    #[test]
    fn the_payload_is_found_and_its_compression_known() {
        let lz4 = vmlinuz(b"\x02\x21\x4c\x18data\x40\0\0\0");
        assert_eq!(payload(&lz4), Ok((Compression::Lz4, &b"\x02\x21\x4c\x18data"[..])));
        // gzip ends with its own length.
        let gzip = vmlinuz(b"\x1f\x8b\x08\0data");
        assert_eq!(payload(&gzip), Ok((Compression::Gzip, &b"\x1f\x8b\x08\0data"[..])));
        assert_eq!(payload(&vmlinuz(b"abcd")), Err(KernelFileError::UnknownCompression(*b"abcd")));
        for length in 0..lz4.len() - b"what follows".len() {
            assert!(payload(&lz4[..length]).is_err(), "cut off at {length}");
        }
        let mut old = lz4;
        old[0x206] = 7;
        assert_eq!(payload(&old), Err(KernelFileError::NoBootHeader));
    }

    /// An ELF file with one segment of notes.
    fn elf(notes: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[32] = 64; // e_phoff
        file[54] = 56; // e_phentsize
        file[56] = 1; // e_phnum
        file[64] = 4; // PT_NOTE
        file[64 + 8] = 120; // p_offset
        file[64 + 32..64 + 40].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        file[64 + 48] = 4; // p_align
        file.extend_from_slice(notes);
        file
    }

    #[test]
    fn the_pvh_entry_is_read_from_its_note() {
        let other = b"\x04\0\0\0\x04\0\0\0\x05\0\0\0Xen\0\xff\xff\xff\xff";
        let entry = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0\x50\x08\0\x01\0\0\0\0";
        assert_eq!(pvh_entry(&elf(&[&other[..], entry].concat())), Ok(0x0100_0850));
        assert_eq!(pvh_entry(&elf(other)), Err(KernelFileError::NoPvhEntry));
        assert_eq!(pvh_entry(b"HdrS"), Err(KernelFileError::NotElf));
    }
}
