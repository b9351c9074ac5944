//! The image as a shared object: what a dynamic linker needs to find the functions by name and version
//! (ELF-64 and the System V ABI; symbol versions as in the Linux Standard Base, "Symbol Versioning").

use platform::PAGE_SIZE;

use super::code::{self, CLOCK_OFFSET, FUNCTIONS, TEXT_OFFSET};

const IMAGE_BYTES: usize = PAGE_SIZE as usize;
/// The image; its other pages are data.
pub(super) type Image = [u8; IMAGE_BYTES];

const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

const SYMBOLS: usize = 1 + 2 * FUNCTIONS;
const BUCKETS: usize = 7;

// Where each part begins, and the sections that name them for tools.
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADERS: usize = HEADER_BYTES;
const PROGRAM_HEADER_BYTES: usize = 56;
const HASH: usize = PROGRAM_HEADERS + 2 * PROGRAM_HEADER_BYTES;
const HASH_BYTES: usize = 4 * (2 + BUCKETS + SYMBOLS);
const SYMBOL_TABLE: usize = (HASH + HASH_BYTES).next_multiple_of(8);
const SYMBOL_BYTES: usize = 24;
const VERSIONS: usize = SYMBOL_TABLE + SYMBOLS * SYMBOL_BYTES;
const VERSIONS_BYTES: usize = 2 * SYMBOLS;
const DEFINITIONS: usize = (VERSIONS + VERSIONS_BYTES).next_multiple_of(8);
const DEFINITION_BYTES: usize = 28;
const DYNAMIC: usize = DEFINITIONS + 2 * DEFINITION_BYTES;
const DYNAMIC_ENTRIES: usize = 10;
const DYNAMIC_BYTES: usize = 16 * DYNAMIC_ENTRIES;
const SECTION_HEADERS: usize = DYNAMIC + DYNAMIC_BYTES;
const SECTION_HEADER_BYTES: usize = 64;
const SECTIONS: usize = 9;
const STRINGS: usize = SECTION_HEADERS + SECTIONS * SECTION_HEADER_BYTES;

const TEXT_SECTION: u16 = 7;
const SECTION_NAMES_SECTION: u16 = 8;

const _: () = assert!(DYNAMIC.is_multiple_of(8) && STRINGS < TEXT_OFFSET);

/// The hash function of DT_HASH and of versions.
pub(super) fn hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let top = hash & 0xf000_0000;
        (hash ^ top >> 24) & !top
    })
}

struct Writer<'a> {
    image: &'a mut Image,
    at: usize,
}

impl Writer<'_> {
    fn at(&mut self, offset: usize) -> &mut Self {
        self.at = offset;
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.image[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: usize) -> &mut Self {
        self.bytes(&(value as u64).to_le_bytes())
    }
}

/// Strings, one behind the other; the first is empty.
struct Strings {
    start: usize,
    end: usize,
}

impl Strings {
    fn new(start: usize) -> Self {
        Self { start, end: start + 1 }
    }

    /// Adds one; returns its offset. The image is zero where it ends.
    fn add(&mut self, writer: &mut Writer<'_>, string: &str) -> u32 {
        let offset = self.end - self.start;
        writer.at(self.end).bytes(string.as_bytes());
        self.end += string.len() + 1;
        offset as u32
    }

    fn bytes(&self) -> usize {
        self.end - self.start
    }
}

/// Writes the image into a page of zeros, with the platform's function to read its clock.
///
/// # Panics
/// If the function is longer than [`code::CLOCK_ROOM`].
pub(super) fn build(image: &mut Image, clock: &[u8]) {
    let text = code::text();
    assert!(TEXT_OFFSET + text.len() <= CLOCK_OFFSET, "the code has outgrown its place");
    assert!(clock.len() <= code::CLOCK_ROOM, "the platform's code is too long");
    let mut writer = Writer { image, at: 0 };
    writer.at(TEXT_OFFSET).bytes(text);
    writer.at(CLOCK_OFFSET).bytes(clock);

    let mut strings = Strings::new(STRINGS);
    write_symbols(&mut writer, &mut strings);
    let soname = strings.add(&mut writer, SONAME);
    let version = strings.add(&mut writer, VERSION);
    write_definitions(&mut writer, soname, version);
    write_dynamic(&mut writer, &strings, soname);
    write_sections(&mut writer, &strings);
    write_headers(&mut writer);
}

fn write_headers(writer: &mut Writer<'_>) {
    const LOAD: u32 = 1;
    const DYNAMIC_SEGMENT: u32 = 2;
    const READ: u32 = 4;
    const EXECUTE: u32 = 1;
    // 64 bits, little-endian, version 1, System V; a shared object for x86-64.
    writer.at(0).bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0").u16(3).u16(62).u32(1);
    writer.u64(TEXT_OFFSET).u64(PROGRAM_HEADERS).u64(SECTION_HEADERS).u32(0);
    writer.u16(HEADER_BYTES as u16).u16(PROGRAM_HEADER_BYTES as u16).u16(2);
    writer.u16(SECTION_HEADER_BYTES as u16).u16(SECTIONS as u16).u16(SECTION_NAMES_SECTION);

    writer.at(PROGRAM_HEADERS).u32(LOAD).u32(READ | EXECUTE).u64(0).u64(0).u64(0);
    writer.u64(IMAGE_BYTES).u64(IMAGE_BYTES).u64(IMAGE_BYTES);
    writer.u32(DYNAMIC_SEGMENT).u32(READ).u64(DYNAMIC).u64(DYNAMIC).u64(DYNAMIC);
    writer.u64(DYNAMIC_BYTES).u64(DYNAMIC_BYTES).u64(8);
}

/// Symbols, their hash table and their versions.
fn write_symbols(writer: &mut Writer<'_>, strings: &mut Strings) {
    const GLOBAL_FUNCTION: u8 = 1 << 4 | 2;
    const WEAK_FUNCTION: u8 = 2 << 4 | 2;
    /// Index of [`VERSION`] among the definitions.
    const VERSION_INDEX: u16 = 2;

    let functions = code::functions();
    let mut buckets = [0u32; BUCKETS];
    let mut chains = [0u32; SYMBOLS];
    let mut symbol = 1;
    for (index, function) in functions.iter().enumerate() {
        let end = functions.get(index + 1).map_or(code::text().len(), |next| next.offset);
        for (name, kind) in [(function.name, GLOBAL_FUNCTION), (function.alias, WEAK_FUNCTION)] {
            let name_at = strings.add(writer, name);
            writer.at(SYMBOL_TABLE + symbol * SYMBOL_BYTES).u32(name_at).bytes(&[kind, 0]).u16(TEXT_SECTION);
            writer.u64(TEXT_OFFSET + function.offset).u64(end - function.offset);
            writer.at(VERSIONS + 2 * symbol).u16(VERSION_INDEX);
            let bucket = &mut buckets[hash(name) as usize % BUCKETS];
            chains[symbol] = core::mem::replace(bucket, symbol as u32);
            symbol += 1;
        }
    }
    writer.at(HASH).u32(BUCKETS as u32).u32(SYMBOLS as u32);
    for word in buckets.into_iter().chain(chains) {
        writer.u32(word);
    }
}

/// The version of the object itself, and the one of its functions.
fn write_definitions(writer: &mut Writer<'_>, soname: u32, version: u32) {
    const BASE: u16 = 1;
    const TO_NAMES: u32 = 20;
    writer.at(DEFINITIONS);
    writer.u16(1).u16(BASE).u16(1).u16(1).u32(hash(SONAME)).u32(TO_NAMES).u32(DEFINITION_BYTES as u32);
    writer.u32(soname).u32(0);
    writer.u16(1).u16(0).u16(2).u16(1).u32(hash(VERSION)).u32(TO_NAMES).u32(0);
    writer.u32(version).u32(0);
}

fn write_dynamic(writer: &mut Writer<'_>, strings: &Strings, soname: u32) {
    let entries: [(usize, usize); DYNAMIC_ENTRIES] = [
        (14, soname as usize),      // DT_SONAME
        (4, HASH),                  // DT_HASH
        (5, strings.start),         // DT_STRTAB
        (6, SYMBOL_TABLE),          // DT_SYMTAB
        (10, strings.bytes()),      // DT_STRSZ
        (11, SYMBOL_BYTES),         // DT_SYMENT
        (0x6fff_fff0, VERSIONS),    // DT_VERSYM
        (0x6fff_fffc, DEFINITIONS), // DT_VERDEF
        (0x6fff_fffd, 2),           // DT_VERDEFNUM
        (0, 0),                     // DT_NULL
    ];
    writer.at(DYNAMIC);
    for (tag, value) in entries {
        writer.u64(tag).u64(value);
    }
}

struct Section {
    name: &'static str,
    kind: u32,
    flags: usize,
    at: usize,
    bytes: usize,
    link: u32,
    info: u32,
    entry_bytes: usize,
}

fn write_sections(writer: &mut Writer<'_>, strings: &Strings) {
    const ALLOCATED: usize = 2;
    const EXECUTABLE: usize = 4;
    const SYMBOLS_SECTION: u32 = 2;
    const STRINGS_SECTION: u32 = 6;
    let section = |name, kind, at, bytes, link, info, entry_bytes| Section {
        name,
        kind,
        flags: ALLOCATED,
        at,
        bytes,
        link,
        info,
        entry_bytes,
    };
    let sections = [
        section(".hash", 5, HASH, HASH_BYTES, SYMBOLS_SECTION, 0, 4),
        section(".dynsym", 11, SYMBOL_TABLE, SYMBOLS * SYMBOL_BYTES, STRINGS_SECTION, 1, SYMBOL_BYTES),
        section(".gnu.version", 0x6fff_ffff, VERSIONS, VERSIONS_BYTES, SYMBOLS_SECTION, 0, 2),
        section(".gnu.version_d", 0x6fff_fffd, DEFINITIONS, 2 * DEFINITION_BYTES, STRINGS_SECTION, 2, 0),
        section(".dynamic", 6, DYNAMIC, DYNAMIC_BYTES, STRINGS_SECTION, 0, 16),
        section(".dynstr", 3, strings.start, strings.bytes(), 0, 0, 0),
        Section {
            flags: ALLOCATED | EXECUTABLE,
            ..section(".text", 1, TEXT_OFFSET, IMAGE_BYTES - TEXT_OFFSET, 0, 0, 0)
        },
    ];
    let mut names = Strings::new(strings.end);
    for (index, section) in sections.iter().enumerate() {
        let name = names.add(writer, section.name);
        writer.at(SECTION_HEADERS + (index + 1) * SECTION_HEADER_BYTES).u32(name).u32(section.kind);
        writer.u64(section.flags).u64(section.at).u64(section.at).u64(section.bytes);
        writer.u32(section.link).u32(section.info).u64(8).u64(section.entry_bytes);
    }
    let name = names.add(writer, ".shstrtab");
    writer.at(SECTION_HEADERS + usize::from(SECTION_NAMES_SECTION) * SECTION_HEADER_BYTES).u32(name).u32(3);
    writer.u64(0).u64(0).u64(names.start).u64(names.bytes()).u32(0).u32(0).u64(1).u64(0);
    assert!(names.end <= TEXT_OFFSET, "the names have outgrown their place");
}
