//! An image's ELF file: sections, segments and symbols, checked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};

use crate::evidence::names::Name;

/// Why a file is not an image that can be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not ELF, or cut off
    NotElf(String),
    /// ELF for another machine
    Foreign(String),
    /// An ELF program, but not the kernel
    NotMonoguest,
    /// No symbols
    Stripped,
    /// No record of inlined calls
    NoDebugInformation,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXPECTED: &str = "expected an image that `cargo xtask build` made";
        match self {
            Self::NotElf(why) => write!(f, "not a whole ELF file ({why}): {EXPECTED}"),
            Self::Foreign(what) => write!(f, "{what}, not a 64-bit x86-64 executable: {EXPECTED}"),
            Self::NotMonoguest => {
                write!(f, "no section .note.monoguest or .notes that names its platform: {EXPECTED}")
            }
            Self::Stripped => write!(f, "its symbols were stripped: {EXPECTED}, with its symbols"),
            Self::NoDebugInformation => {
                write!(f, "it has no debug information, which says where hooks were inlined: {EXPECTED}")
            }
        }
    }
}

impl std::error::Error for Unfit {}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It may be executed
    Code,
    /// It may only be read
    ReadOnly,
    /// It may be written
    Data,
    /// The same, and is all zeros at first
    Zeroed,
}

/// A section that takes memory at run time.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name
    pub name: String,
    /// Where it is
    pub range: Range<u64>,
    /// What it is for
    pub purpose: Use,
    /// What it holds; empty if zeroed
    pub bytes: Vec<u8>,
}

/// A loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is
    pub range: Range<u64>,
    /// It may be written
    pub writable: bool,
    /// It may be executed
    pub executable: bool,
}

/// A named piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name
    pub name: Name,
    /// Where it is
    pub range: Range<u64>,
    /// What its section is for
    pub purpose: Use,
}

/// Sizes as binutils' `size` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Code and what may only be read
    pub text: u64,
    /// What may be written and is in the file
    pub data: u64,
    /// What is zeroed
    pub bss: u64,
}

impl Size {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.text + self.data + self.bss
    }

    /// Counts `bytes` more.
    pub fn add(&mut self, purpose: Use, bytes: u64) {
        match purpose {
            Use::Code | Use::ReadOnly => self.text += bytes,
            Use::Data => self.data += bytes,
            Use::Zeroed => self.bss += bytes,
        }
    }
}

/// An image, in memory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Where it was read from
    pub path: PathBuf,
    /// The platform its note names
    pub platform: String,
    /// The contract's version in its note
    pub contract: u32,
    /// Sections that take memory
    pub sections: Vec<Section>,
    /// Loadable segments
    pub segments: Vec<Segment>,
    /// Functions and labels in code, ascending, disjoint
    pub functions: Vec<Symbol>,
    /// Objects outside of code, ascending
    pub objects: Vec<Symbol>,
    /// Sections with relocations that a loader would have to apply
    pub relocations: Vec<String>,
    /// Debug sections by name
    pub debug: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Reads an image from its file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut image = Self::parse(&bytes).with_context(|| format!("{} is no image", path.display()))?;
        image.path = path.to_owned();
        Ok(image)
    }

    /// Takes an ELF file apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unfit> {
        let cut = |error: object::Error| Unfit::NotElf(error.to_string());
        let file = match object::File::parse(bytes).map_err(cut)? {
            object::File::Elf64(file) if file.endianness() == object::Endianness::Little => {
                ElfFile64::<LittleEndian>::parse(file.data()).map_err(cut)?
            }
            other => {
                return Err(Unfit::Foreign(format!("{:?} for {:?}", other.format(), other.architecture())));
            }
        };
        let header = file.elf_header();
        if header.e_machine.get(LittleEndian) != elf::EM_X86_64
            || header.e_type.get(LittleEndian) != elf::ET_EXEC
        {
            let what = format!("an ELF {:?} for {:?}", file.kind(), file.architecture());
            return Err(Unfit::Foreign(what));
        }
        let mut image = Self::default();
        for segment in header.program_headers(LittleEndian, bytes).map_err(cut)? {
            if segment.p_type(LittleEndian) != elf::PT_LOAD {
                continue;
            }
            segment.data(LittleEndian, bytes).map_err(|()| Unfit::NotElf("a segment is cut off".into()))?;
            let (start, flags) = (segment.p_vaddr(LittleEndian), segment.p_flags(LittleEndian));
            let end = start
                .checked_add(segment.p_memsz(LittleEndian))
                .ok_or_else(|| Unfit::NotElf("a segment wraps around the address space".into()))?;
            image.segments.push(Segment {
                range: start..end,
                writable: flags & elf::PF_W != 0,
                executable: flags & elf::PF_X != 0,
            });
        }
        for section in file.sections() {
            image.section(&section).map_err(cut)?;
        }
        image.note()?;
        image.symbols(&file)?;
        if !image.debug.contains_key(".debug_info") {
            return Err(Unfit::NoDebugInformation);
        }
        Ok(image)
    }

    fn section<'data>(&mut self, section: &impl ObjectSection<'data>) -> object::Result<()> {
        let SectionFlags::Elf { sh_flags } = section.flags() else { return Ok(()) };
        let name = section.name()?.to_owned();
        let bytes = section.data()?.to_vec();
        if name.starts_with(".debug_") {
            self.debug.insert(name, bytes);
            return Ok(());
        }
        if name.starts_with(".rel") && section.size() > 0 {
            self.relocations.push(name);
            return Ok(());
        }
        if sh_flags & u64::from(elf::SHF_ALLOC) == 0 || section.size() == 0 {
            return Ok(());
        }
        let writable = sh_flags & u64::from(elf::SHF_WRITE) != 0;
        let purpose = if section.kind() == object::SectionKind::UninitializedData {
            Use::Zeroed
        } else if writable && sh_flags & u64::from(elf::SHF_EXECINSTR) == 0 {
            Use::Data
        } else if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0 {
            Use::Code
        } else {
            Use::ReadOnly
        };
        let range = section.address()..section.address().saturating_add(section.size());
        self.sections.push(Section { name, range, purpose, bytes });
        Ok(())
    }

    /// The note of `platform::ImageNote`: three words of sizes and type, the owner's name, version and platform.
    fn note(&mut self) -> Result<(), Unfit> {
        let found = self.sections.iter().find_map(|section| {
            let at = section.bytes.windows(12).position(|bytes| bytes == platform::NOTE_NAME)?;
            if !section.name.contains("note") {
                return None;
            }
            let description = section.bytes.get(at + 12..at + 32)?;
            let version = u32::from_le_bytes(description[..4].try_into().ok()?);
            let name = String::from_utf8_lossy(&description[4..]).trim_end_matches('\0').to_owned();
            Some((name, version))
        });
        (self.platform, self.contract) = found.ok_or(Unfit::NotMonoguest)?;
        Ok(())
    }

    fn symbols(&mut self, file: &ElfFile64<'_, LittleEndian>) -> Result<(), Unfit> {
        let mut functions = Vec::new();
        let mut objects = Vec::new();
        let mut any = false;
        for symbol in file.symbols() {
            let Some(section) = self.section_at(symbol.address()) else { continue };
            let name = symbol.name().map_err(|error| Unfit::NotElf(error.to_string()))?;
            if name.is_empty() || matches!(symbol.kind(), SymbolKind::Section | SymbolKind::File) {
                continue;
            }
            any = true;
            let range = symbol.address()..symbol.address().saturating_add(symbol.size());
            let entry = (range, name, symbol.is_global(), section.purpose);
            if section.purpose == Use::Code { functions.push(entry) } else { objects.push(entry) }
        }
        if !any {
            return Err(Unfit::Stripped);
        }
        // Of several names of one place, the one with a size is kept, then a local one: linker scripts define global
        // ones without a size.
        functions.sort_by_key(|(range, name, global, _)| {
            (range.start, range.end == range.start, *global, (*name).to_owned())
        });
        functions.dedup_by_key(|(range, ..)| range.start);
        let starts: Vec<u64> = functions.iter().map(|(range, ..)| range.start).collect();
        for (index, (range, name, _, purpose)) in functions.into_iter().enumerate() {
            let limit = self.section_at(range.start).map_or(range.start, |section| section.range.end);
            let next = starts.get(index + 1).copied().unwrap_or(limit).min(limit);
            // A label of assembly has no size: it goes on to the next.
            let end = if range.end == range.start { next } else { range.end.min(next) };
            self.functions.push(Symbol { name: Name::new(name), range: range.start..end, purpose });
        }
        objects.sort_by_key(|(range, name, ..)| (range.start, range.end, (*name).to_owned()));
        objects.retain(|(range, ..)| range.end > range.start);
        objects.dedup_by_key(|(range, ..)| range.start);
        self.objects.extend(objects.into_iter().map(|(range, name, _, purpose)| Symbol {
            name: Name::new(name),
            range,
            purpose,
        }));
        Ok(())
    }

    /// The section that has `address`.
    pub fn section_at(&self, address: u64) -> Option<&Section> {
        self.sections.iter().find(|section| section.range.contains(&address))
    }

    /// The function that has `address`.
    pub fn function_at(&self, address: u64) -> Option<&Symbol> {
        let after = self.functions.partition_point(|function| function.range.start <= address);
        self.functions[..after].last().filter(|function| function.range.contains(&address))
    }

    /// The object that has `address`.
    pub fn object_at(&self, address: u64) -> Option<&Symbol> {
        let after = self.objects.partition_point(|object| object.range.start <= address);
        self.objects[..after].last().filter(|object| object.range.contains(&address))
    }

    /// What the file has at `range`, if it is in one section and not zeroed.
    pub fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        let section = self.section_at(range.start)?;
        let start = usize::try_from(range.start - section.range.start).ok()?;
        section.bytes.get(start..start + usize::try_from(range.end - range.start).ok()?)
    }

    /// The word at `address`.
    pub fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(&(address..address.checked_add(8)?))?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    /// The whole image's size.
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        for section in &self.sections {
            size.add(section.purpose, section.range.end - section.range.start);
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::{Object as Written, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    fn refusal(bytes: &[u8]) -> String {
        Image::parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_image_is_refused_with_a_reason() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(refusal(&this).contains("not a 64-bit x86-64 executable"), "{}", refusal(&this));
        assert!(refusal(b"").contains("not a whole ELF file"));
        assert!(refusal(b"\x7fELF").contains("not a whole ELF file"));
        for length in [16, 40, 63, 64, 100, this.len() / 2] {
            assert!(Image::parse(&this[..length]).is_err(), "{length}");
        }
        let arm = Written::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little).write().unwrap();
        assert!(refusal(&arm).contains("Aarch64"), "{}", refusal(&arm));
        for text in [&this[..], &arm, b""].map(refusal) {
            assert!(text.contains("expected an image that `cargo xtask build` made"), "{text}");
        }
    }

    /// A small executable: an object file that says it is one.
    fn executable(note: bool, symbol: bool, debug: bool) -> Vec<u8> {
        let mut file = Written::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = file.section_id(object::write::StandardSection::Text);
        file.append_section_data(text, &[0xc3], 1);
        if note {
            let section =
                file.add_section(Vec::new(), b".note.monoguest".to_vec(), SectionKind::ReadOnlyData);
            let mut bytes = vec![10, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0];
            bytes.extend_from_slice(&platform::NOTE_NAME);
            bytes.extend_from_slice(&7u32.to_le_bytes());
            bytes.extend_from_slice(b"native\0\0\0\0\0\0\0\0\0\0");
            file.append_section_data(section, &bytes, 4);
        }
        if symbol {
            file.add_symbol(object::write::Symbol {
                name: b"f".to_vec(),
                value: 0,
                size: 1,
                kind: SymbolKind::Text,
                scope: object::SymbolScope::Compilation,
                weak: false,
                section: SymbolSection::Section(text),
                flags: object::SymbolFlags::None,
            });
        }
        if debug {
            let section = file.add_section(Vec::new(), b".debug_info".to_vec(), SectionKind::Debug);
            file.append_section_data(section, &[0], 1);
        }
        let mut bytes = file.write().unwrap();
        bytes[16] = 2;
        bytes
    }

    #[test]
    fn an_image_has_a_note_symbols_and_debug_information() {
        let image = Image::parse(&executable(true, true, true)).unwrap();
        assert_eq!((image.platform.as_str(), image.contract), ("native", 7));
        assert_eq!(image.functions.len(), 1);
        for (bytes, reason) in [
            (executable(false, true, true), Unfit::NotMonoguest),
            (executable(true, false, true), Unfit::Stripped),
            (executable(true, true, false), Unfit::NoDebugInformation),
        ] {
            assert_eq!(Image::parse(&bytes).unwrap_err(), reason);
        }
    }
}
