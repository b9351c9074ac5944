//! A guest's image: an ELF file that says it is for this host.

use lguest_abi::KERNEL_HALF;
use platform::{CONTRACT_VERSION, NOTE_NAME, NOTE_TYPE, VirtAddr};

use crate::memory::{GuestMemory, GuestPhys};

/// The platform an image must be for.
const PLATFORM: &[u8; 16] = b"lguest\0\0\0\0\0\0\0\0\0\0";
/// Images start here: the first MiB is for the facts of the boot.
pub const LOWEST: u64 = 1 << 20;

/// Why an image cannot be run: one line for the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadImage(pub &'static str);

/// An image that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    headers: usize,
    header_count: usize,
    /// The first instruction.
    pub entry: VirtAddr,
    /// One past the last byte in guest-physical memory.
    pub end: GuestPhys,
}

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

impl<'a> Image<'a> {
    /// Checks all of an ELF file that will be used.
    pub fn check(bytes: &'a [u8]) -> Result<Self, BadImage> {
        if bytes.len() < HEADER_BYTES {
            return Err(BadImage("the image is cut off within its ELF header"));
        }
        if bytes[..4] != *b"\x7fELF" {
            return Err(BadImage("the image is no ELF file"));
        }
        let executable = [(16, 2), (18, 62), (54, PROGRAM_HEADER_BYTES as u16)];
        if bytes[4] != 2 || bytes[5] != 1 || executable.iter().any(|&(at, value)| u16_at(bytes, at) != value)
        {
            return Err(BadImage("the image is no 64-bit x86 executable"));
        }
        let headers = u64_at(bytes, 32);
        let header_count = usize::from(u16_at(bytes, 56));
        let headers = usize::try_from(headers).ok().filter(|&start| {
            let end = start.checked_add(header_count * PROGRAM_HEADER_BYTES);
            end.is_some_and(|end| end <= bytes.len())
        });
        let headers = headers.ok_or(BadImage("the image is cut off within its program headers"))?;
        let entry = VirtAddr(u64_at(bytes, 24));
        let mut image = Self { bytes, headers, header_count, entry, end: GuestPhys(0) };
        for segment in image.segments() {
            if image.content(&segment).is_none() {
                return Err(BadImage("the image is cut off within a segment"));
            }
            if segment.kind != PT_LOAD || segment.memory_bytes == 0 {
                continue;
            }
            let end = segment.physical.checked_add(segment.memory_bytes);
            match end {
                Some(end) if segment.physical >= LOWEST && segment.file_bytes <= segment.memory_bytes => {
                    image.end = image.end.max(GuestPhys(end));
                }
                _ => return Err(BadImage("a segment of the image lies where none can")),
            }
        }
        if image.end.0 == 0 {
            return Err(BadImage("the image has nothing to load"));
        }
        image.check_note()?;
        if entry.0 < KERNEL_HALF {
            return Err(BadImage("the image's entry point is not in the kernel half"));
        }
        Ok(image)
    }

    fn segments(&self) -> impl Iterator<Item = Segment> + use<'a> {
        let (bytes, headers) = (self.bytes, self.headers);
        (0..self.header_count).map(move |n| {
            let header = &bytes[headers + n * PROGRAM_HEADER_BYTES..][..PROGRAM_HEADER_BYTES];
            Segment {
                kind: u32_at(header, 0),
                offset: u64_at(header, 8),
                physical: u64_at(header, 24),
                file_bytes: u64_at(header, 32),
                memory_bytes: u64_at(header, 40),
            }
        })
    }

    fn content(&self, segment: &Segment) -> Option<&'a [u8]> {
        let start = usize::try_from(segment.offset).ok()?;
        let end = start.checked_add(usize::try_from(segment.file_bytes).ok()?)?;
        self.bytes.get(start..end)
    }

    fn check_note(&self) -> Result<(), BadImage> {
        let notes = self.segments().filter(|segment| segment.kind == PT_NOTE);
        for mut left in notes.filter_map(|segment| self.content(&segment)) {
            while left.len() >= 12 {
                let (name, description) = (u32_at(left, 0) as usize, u32_at(left, 4) as usize);
                let kind = u32_at(left, 8);
                let description_at = 12 + name.next_multiple_of(4);
                let end = description_at + description;
                if end > left.len() {
                    return Err(BadImage("a note of the image is cut off"));
                }
                let ours = kind == NOTE_TYPE && left[12..12 + name] == NOTE_NAME[..10];
                if ours && name == 10 && description == 20 {
                    let note = &left[description_at..end];
                    if note[4..] != *PLATFORM {
                        return Err(BadImage("the image was built for another platform than lguest"));
                    }
                    if u32_at(note, 0) != CONTRACT_VERSION {
                        return Err(BadImage("the image follows another version of the contract"));
                    }
                    return Ok(());
                }
                left = left.get(end.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        Err(BadImage("the image does not say for which platform it was built"))
    }

    /// Copies the segments to where they belong in zeroed memory.
    pub fn load(&self, memory: &GuestMemory) -> Result<(), BadImage> {
        for segment in self.segments().filter(|segment| segment.kind == PT_LOAD && segment.memory_bytes != 0)
        {
            let content = self.content(&segment).unwrap_or_default();
            let to = GuestPhys(segment.physical);
            if memory.check(to, segment.memory_bytes).is_err() || memory.copy_in(to, content).is_err() {
                return Err(BadImage("the guest has too little memory for its image"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub mod testing {
    //! Images on the build machine.

    /// An image for `platform` with one segment of `content` at `physical`.
    pub fn image(platform: &str, contract: u32, physical: u64, content: &[u8]) -> Vec<u8> {
        let note_at = 64 + 2 * 56;
        let content_at = note_at + 44;
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 2;
        file[18] = 62;
        file[24..32].copy_from_slice(&(0xffff_ffff_8000_0000 + physical).to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 2;
        for (kind, at, physical, bytes) in [(1u32, content_at, physical, content.len()), (4, note_at, 0, 44)]
        {
            file.extend(kind.to_le_bytes());
            file.extend([0; 4]);
            for value in [at as u64, 0, physical, bytes as u64, bytes as u64, 1] {
                file.extend(value.to_le_bytes());
            }
        }
        file.extend(10u32.to_le_bytes());
        file.extend(20u32.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(b"Monoguest\0\0\0");
        file.extend(contract.to_le_bytes());
        let mut name = platform.as_bytes().to_vec();
        name.resize(16, 0);
        file.extend(name);
        file.extend(content);
        file
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::image;
    use super::*;
    use crate::memory::testing::memory;

    #[test]
    fn a_good_image_is_loaded_where_it_says() {
        let file = image("lguest", CONTRACT_VERSION, LOWEST, b"instructions");
        let image = Image::check(&file).unwrap();
        assert_eq!(image.end, GuestPhys(LOWEST + 12));
        let memory = memory(257, 0);
        image.load(&memory).unwrap();
        let mut back = [0; 12];
        memory.copy_out(GuestPhys(LOWEST), &mut back).unwrap();
        assert_eq!(&back, b"instructions");
        assert_eq!(
            image.load(&crate::memory::testing::memory(256, 0)),
            Err(BadImage("the guest has too little memory for its image"))
        );
    }

    #[test]
    fn images_for_others_are_refused() {
        for (file, reason) in [
            (image("native", CONTRACT_VERSION, LOWEST, b"x"), "another platform"),
            (image("lguest", CONTRACT_VERSION + 1, LOWEST, b"x"), "another version"),
            (image("lguest", CONTRACT_VERSION, LOWEST - 1, b"x"), "where none can"),
            (b"#!/bin/sh\n".repeat(20), "no ELF file"),
        ] {
            let BadImage(said) = Image::check(&file).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn no_prefix_of_an_image_is_taken_for_one() {
        let file = image("lguest", CONTRACT_VERSION, LOWEST, &[0x90; 300]);
        for bytes in 0..file.len() {
            assert!(Image::check(&file[..bytes]).is_err(), "{bytes} of {}", file.len());
        }
    }

    proptest! {
        #[test]
        fn damage_is_survived(at in 0usize..240, value: u8, more in 0usize..240, other: u8) {
            let mut file = image("lguest", CONTRACT_VERSION, LOWEST, &[0x90; 20]);
            file[at] = value;
            file[more] = other;
            if let Ok(image) = Image::check(&file) {
                let _ = image.load(&memory(300, 0));
            }
        }
    }
}
