//! Reads a static x86-64 ELF program and works out what goes where in memory.
//!
//! Nothing here touches an address space: the result is a [`LoadPlan`] that is safe to carry out, because every number in
//! it has been checked against the file and against the addresses a program may use.

use alloc::vec::Vec;

pub use super::elf_error::ElfError;
use super::{ProgramFile, ReadError};
use platform::{PAGE_SIZE, Protection};

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// All program headers together fit in 64 KiB, as Linux has it.
const MAX_PROGRAM_HEADERS: u16 = (65536 / PROGRAM_HEADER_BYTES) as u16;
/// Program headers read at once.
const HEADERS_AT_ONCE: usize = 8;
/// The longest path of a dynamic linker, with its NUL.
const MAX_INTERPRETER: u64 = 4096;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const MACHINE_X86_64: u16 = 62;

const SEGMENT_LOAD: u32 = 1;
const SEGMENT_INTERPRETER: u32 = 3;
const SEGMENT_GNU_STACK: u32 = 0x6474_e551;

const FLAG_EXECUTE: u32 = 1;
const FLAG_WRITE: u32 = 2;
const FLAG_READ: u32 = 4;

/// The addresses that a program may use: `bottom..top`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserLimits {
    /// The lowest address for a segment at a fixed place.
    pub bottom: u64,
    /// The first address that is not the user's.
    pub top: u64,
}

/// A part of the program in memory. Addresses and sizes are in bytes and need not be whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it starts (before any bias).
    pub vaddr: u64,
    /// Its size in memory; what the file does not fill is zero.
    pub memory_size: u64,
    /// How much of it comes from the file.
    pub file_size: u64,
    /// Where in the file that starts; equal to `vaddr` within a page if `file_size` is not 0.
    pub file_offset: u64,
    /// How the program may use it.
    pub protection: Protection,
    /// Which program header it is from.
    pub index: u16,
}

impl Segment {
    /// Start of its first page.
    pub const fn page_start(&self) -> u64 {
        self.vaddr & !(PAGE_SIZE - 1)
    }

    /// End of its last page.
    pub const fn page_end(&self) -> u64 {
        self.end().next_multiple_of(PAGE_SIZE)
    }

    /// Its end.
    pub const fn end(&self) -> u64 {
        self.vaddr + self.memory_size
    }
}

/// How to put a program into memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadPlan {
    /// Where it starts to run (before any bias).
    pub entry: u64,
    /// Its parts by rising address, at least one. Neighbours may share a page only where mapping the one at the higher
    /// address over the other gives what both ask for.
    pub segments: Vec<Segment>,
    /// Where its program headers are in memory (`AT_PHDR`, before any bias); `None` if they are in no segment.
    pub program_headers: Option<u64>,
    /// How many program headers it has (`AT_PHNUM`).
    pub program_header_count: u16,
    /// Whether it wants to execute code on its stack.
    pub executable_stack: bool,
    /// What a bias must be a multiple of: a power of two, at least a page.
    pub alignment: u64,
    /// Whether it can, and must, be placed by adding a bias to every address (static-PIE).
    pub needs_bias: bool,
}

impl LoadPlan {
    /// Bytes in a program header (`AT_PHENT`).
    pub const PROGRAM_HEADER_SIZE: u16 = PROGRAM_HEADER_BYTES as u16;

    /// Reads the headers of `file` and checks them.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn read(file: &(impl ProgramFile + ?Sized), limits: UserLimits) -> Result<Self, ElfError> {
        let header = Header::read(file)?;
        let mut plan = Self {
            entry: header.entry,
            segments: Vec::new(),
            program_headers: None,
            program_header_count: header.count,
            executable_stack: false,
            alignment: PAGE_SIZE,
            needs_bias: header.needs_bias,
        };
        let table = header.table;
        for_each_program_header(file, &header, |index, program_header| {
            match program_header.kind {
                SEGMENT_LOAD => plan.add(program_header, index, file.size(), table)?,
                SEGMENT_INTERPRETER => return Err(interpreter(file, program_header)),
                SEGMENT_GNU_STACK => plan.executable_stack = program_header.flags & FLAG_EXECUTE != 0,
                _ => {}
            }
            Ok(())
        })?;
        plan.check_layout(limits)?;
        Ok(plan)
    }

    /// The addresses from the first page to the end of the last (before any bias), in bytes.
    pub fn span(&self) -> (u64, u64) {
        let first = self.segments.first().map_or(0, Segment::page_start);
        let last = self.segments.last().map_or(0, Segment::page_end);
        (first, last)
    }

    fn add(&mut self, header: &ProgramHeader, index: u16, size: u64, table: u64) -> Result<(), ElfError> {
        if header.file_size > header.memory_size {
            return Err(ElfError::FileLargerThanMemory { index });
        }
        if header.memory_size == 0 {
            return Ok(());
        }
        let end = header.vaddr.checked_add(header.memory_size);
        end.and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(ElfError::AddressWraps { index })?;
        if header.file_size > 0 {
            let file_end = header.offset.checked_add(header.file_size);
            if file_end.is_none_or(|end| end > size) {
                return Err(ElfError::TruncatedSegment { index });
            }
            if header.vaddr % PAGE_SIZE != header.offset % PAGE_SIZE {
                return Err(ElfError::Misaligned { index });
            }
            if (header.offset..header.offset + header.file_size).contains(&table)
                && self.program_headers.is_none()
            {
                self.program_headers = Some(header.vaddr + (table - header.offset));
            }
        }
        if header.alignment.is_power_of_two() {
            self.alignment = self.alignment.max(header.alignment);
        }
        self.segments.try_reserve(1).map_err(|_| ElfError::OutOfMemory)?;
        let segment = Segment {
            vaddr: header.vaddr,
            memory_size: header.memory_size,
            file_size: header.file_size,
            file_offset: header.offset,
            protection: protection(header.flags),
            index,
        };
        // By address, which nearly always makes it the last.
        let place = self.segments.partition_point(|other| other.vaddr <= segment.vaddr);
        self.segments.insert(place, segment);
        Ok(())
    }

    fn check_layout(&mut self, limits: UserLimits) -> Result<(), ElfError> {
        let (first, last) = match self.segments.as_slice() {
            [] => return Err(ElfError::NoSegments),
            [first, .., last] => (*first, *last),
            [only] => (*only, *only),
        };
        for pair in self.segments.windows(2) {
            if !may_follow(&pair[0], &pair[1]) {
                return Err(ElfError::Overlap { index: pair[1].index });
            }
        }
        let (start, end) = (first.page_start(), last.page_end());
        let room = limits.top.saturating_sub(limits.bottom);
        if self.needs_bias {
            if end - start > room {
                return Err(ElfError::OutsideUserSpace { index: last.index });
            }
            // The bias moves the first page to wherever it is put; the entry moves along.
            if self.entry.wrapping_sub(start) >= room {
                return Err(ElfError::BadEntry(self.entry));
            }
        } else {
            if start < limits.bottom {
                return Err(ElfError::OutsideUserSpace { index: first.index });
            }
            if end > limits.top {
                return Err(ElfError::OutsideUserSpace { index: last.index });
            }
            if self.entry >= limits.top {
                return Err(ElfError::BadEntry(self.entry));
            }
        }
        Ok(())
    }
}

/// Whether `high`, which starts at or above `low`, can be mapped after it without taking any of its bytes: they share
/// no page, or one that holds the same page of the file for both.
fn may_follow(low: &Segment, high: &Segment) -> bool {
    if low.end() > high.vaddr {
        return false;
    }
    if low.page_end() <= high.page_start() {
        return true;
    }
    let same_page = low.vaddr.wrapping_sub(low.file_offset) == high.vaddr.wrapping_sub(high.file_offset);
    let low_is_all_file = low.file_size == low.memory_size;
    high.file_size > 0 && same_page && low_is_all_file
}

fn protection(flags: u32) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, flags & FLAG_READ != 0);
    protection.set(Protection::WRITE, flags & FLAG_WRITE != 0);
    protection.set(Protection::EXECUTE, flags & FLAG_EXECUTE != 0);
    protection
}

/// What the ELF header says.
struct Header {
    entry: u64,
    /// Where the program headers are in the file.
    table: u64,
    count: u16,
    needs_bias: bool,
}

impl Header {
    fn read(file: &(impl ProgramFile + ?Sized)) -> Result<Self, ElfError> {
        let mut bytes = [0; HEADER_BYTES];
        let available = file.size().min(HEADER_BYTES as u64) as usize;
        file.read_exact_at(0, &mut bytes[..available]).map_err(|ReadError| ElfError::Unreadable)?;
        if available < 4 || !bytes.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        if available < HEADER_BYTES {
            return Err(ElfError::TruncatedHeader);
        }
        if bytes[4] != CLASS_64 {
            return Err(ElfError::WrongClass(bytes[4]));
        }
        if bytes[5] != LITTLE_ENDIAN {
            return Err(ElfError::WrongByteOrder(bytes[5]));
        }
        let version = if bytes[6] == 1 { u32_at(&bytes, 20) } else { u32::from(bytes[6]) };
        if version != 1 {
            return Err(ElfError::WrongVersion(version));
        }
        let (kind, machine) = (u16_at(&bytes, 16), u16_at(&bytes, 18));
        if machine != MACHINE_X86_64 {
            return Err(ElfError::WrongMachine(machine));
        }
        if kind != TYPE_EXECUTABLE && kind != TYPE_SHARED {
            return Err(ElfError::WrongType(kind));
        }
        let (size, count) = (u16_at(&bytes, 54), u16_at(&bytes, 56));
        if count == 0 {
            return Err(ElfError::NoProgramHeaders);
        }
        if usize::from(size) != PROGRAM_HEADER_BYTES {
            return Err(ElfError::WrongHeaderSize(size));
        }
        if count > MAX_PROGRAM_HEADERS {
            return Err(ElfError::TooManyProgramHeaders(count));
        }
        let table = u64_at(&bytes, 32);
        let table_end = table.checked_add(u64::from(count) * PROGRAM_HEADER_BYTES as u64);
        if table_end.is_none_or(|end| end > file.size()) {
            return Err(ElfError::TruncatedProgramHeaders);
        }
        Ok(Self { entry: u64_at(&bytes, 24), table, count, needs_bias: kind == TYPE_SHARED })
    }
}

struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

impl ProgramHeader {
    fn parse(bytes: &[u8]) -> Self {
        Self {
            kind: u32_at(bytes, 0),
            flags: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            vaddr: u64_at(bytes, 16),
            file_size: u64_at(bytes, 32),
            memory_size: u64_at(bytes, 40),
            alignment: u64_at(bytes, 48),
        }
    }
}

fn for_each_program_header(
    file: &(impl ProgramFile + ?Sized),
    header: &Header,
    mut visit: impl FnMut(u16, &ProgramHeader) -> Result<(), ElfError>,
) -> Result<(), ElfError> {
    let mut buffer = [0; HEADERS_AT_ONCE * PROGRAM_HEADER_BYTES];
    for first in (0..header.count).step_by(HEADERS_AT_ONCE) {
        let here = usize::from(header.count - first).min(HEADERS_AT_ONCE);
        let bytes = &mut buffer[..here * PROGRAM_HEADER_BYTES];
        let offset = header.table + u64::from(first) * PROGRAM_HEADER_BYTES as u64;
        file.read_exact_at(offset, bytes).map_err(|ReadError| ElfError::Unreadable)?;
        for (index, bytes) in (first..).zip(bytes.chunks_exact(PROGRAM_HEADER_BYTES)) {
            visit(index, &ProgramHeader::parse(bytes))?;
        }
    }
    Ok(())
}

/// The error for a program that names a dynamic linker.
fn interpreter(file: &(impl ProgramFile + ?Sized), header: &ProgramHeader) -> ElfError {
    let end = header.offset.checked_add(header.file_size);
    if header.file_size < 2 || header.file_size > MAX_INTERPRETER || end.is_none_or(|end| end > file.size()) {
        return ElfError::BadInterpreter;
    }
    let mut path = Vec::new();
    let length = header.file_size as usize;
    if path.try_reserve_exact(length).is_err() {
        return ElfError::OutOfMemory;
    }
    path.resize(length, 0);
    if file.read_exact_at(header.offset, &mut path).is_err() {
        return ElfError::Unreadable;
    }
    match path.iter().position(|&byte| byte == 0) {
        Some(nul) if nul > 0 => {
            path.truncate(nul);
            ElfError::NeedsInterpreter(path)
        }
        _ => ElfError::BadInterpreter,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
