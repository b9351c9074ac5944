//! Why a file is not an ELF program that can run.

use alloc::vec::Vec;
use core::fmt;

use crate::errno::Errno;

/// Why a file is not an ELF program that can run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// It does not start with ELF's magic number.
    NotElf,
    /// It ends inside the ELF header.
    TruncatedHeader,
    /// It is not a 64-bit file.
    WrongClass(u8),
    /// It is not little-endian.
    WrongByteOrder(u8),
    /// It has an unknown version of ELF.
    WrongVersion(u32),
    /// It is for another kind of processor.
    WrongMachine(u16),
    /// It is neither an executable nor a shared object.
    WrongType(u16),
    /// Its program headers have another size than 56 bytes.
    WrongHeaderSize(u16),
    /// It has no program headers.
    NoProgramHeaders,
    /// It has more program headers than a program may have.
    TooManyProgramHeaders(u16),
    /// It ends inside the program headers.
    TruncatedProgramHeaders,
    /// It needs a dynamic linker, by this path.
    NeedsInterpreter(Vec<u8>),
    /// It names a dynamic linker by a path that is empty, too long, cut off or without a NUL.
    BadInterpreter,
    /// No segment is to be loaded.
    NoSegments,
    /// A segment has more bytes in the file than in memory.
    FileLargerThanMemory {
        /// Which program header.
        index: u16,
    },
    /// A segment's bytes lie beyond the end of the file.
    TruncatedSegment {
        /// Which program header.
        index: u16,
    },
    /// A segment's address and file offset differ within a page.
    Misaligned {
        /// Which program header.
        index: u16,
    },
    /// A segment's end is beyond the last address.
    AddressWraps {
        /// Which program header.
        index: u16,
    },
    /// A segment lies outside the addresses that a program may use, or the program is too large for them.
    OutsideUserSpace {
        /// Which program header.
        index: u16,
    },
    /// Two segments overlap.
    Overlap {
        /// Which program header (the one at the higher address).
        index: u16,
    },
    /// The program starts outside the addresses that a program may use.
    BadEntry(u64),
    /// The file could not be read.
    Unreadable,
    /// There is no memory for the list of segments.
    OutOfMemory,
}

impl ElfError {
    /// What `execve` returns for it.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NotElf
            | Self::TruncatedHeader
            | Self::WrongClass(_)
            | Self::WrongByteOrder(_)
            | Self::WrongVersion(_)
            | Self::WrongMachine(_)
            | Self::WrongType(_)
            | Self::WrongHeaderSize(_)
            | Self::NoProgramHeaders
            | Self::TooManyProgramHeaders(_)
            | Self::TruncatedProgramHeaders
            | Self::BadInterpreter
            | Self::NoSegments
            | Self::TruncatedSegment { .. } => Errno::ENOEXEC,
            Self::FileLargerThanMemory { .. }
            | Self::Misaligned { .. }
            | Self::AddressWraps { .. }
            | Self::Overlap { .. }
            | Self::BadEntry(_) => Errno::EINVAL,
            Self::OutsideUserSpace { .. } | Self::OutOfMemory => Errno::ENOMEM,
            Self::NeedsInterpreter(_) => Errno::ELIBBAD,
            Self::Unreadable => Errno::EIO,
        }
    }
}

/// Reads on from "`/init` …".
impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "is not an ELF file"),
            Self::TruncatedHeader => write!(f, "is truncated in its ELF header"),
            Self::WrongClass(class) => write!(f, "is not a 64-bit ELF file (class {class})"),
            Self::WrongByteOrder(order) => {
                write!(f, "is not a little-endian ELF file (data encoding {order})")
            }
            Self::WrongVersion(version) => write!(f, "has unknown ELF version {version}"),
            Self::WrongMachine(machine) => match machine_name(*machine) {
                Some(name) => write!(f, "is for {name}, not for x86-64"),
                None => write!(f, "is for machine {machine}, not for x86-64"),
            },
            Self::WrongType(kind) => write!(f, "is not an executable (ELF type {kind})"),
            Self::WrongHeaderSize(size) => write!(f, "has program headers of {size} bytes instead of 56"),
            Self::NoProgramHeaders => write!(f, "has no program headers"),
            Self::TooManyProgramHeaders(count) => write!(f, "has too many program headers ({count})"),
            Self::TruncatedProgramHeaders => write!(f, "is truncated in its program headers"),
            Self::NeedsInterpreter(path) => {
                write!(f, "is dynamically linked (needs {}); link it statically", path.escape_ascii())
            }
            Self::BadInterpreter => write!(f, "names its dynamic linker wrongly"),
            Self::NoSegments => write!(f, "has no segment to load"),
            Self::FileLargerThanMemory { index } => {
                write!(f, "has more bytes in the file than in memory in segment {index}")
            }
            Self::TruncatedSegment { index } => write!(f, "is truncated in segment {index}"),
            Self::Misaligned { index } => write!(f, "has misaligned segment {index}"),
            Self::AddressWraps { index } => write!(f, "has segment {index} beyond the last address"),
            Self::OutsideUserSpace { index } => {
                write!(f, "has segment {index} outside the user address space")
            }
            Self::Overlap { index } => write!(f, "has segment {index} overlapping another"),
            Self::BadEntry(entry) => write!(f, "starts at {entry:#x}, outside the user address space"),
            Self::Unreadable => write!(f, "cannot be read"),
            Self::OutOfMemory => write!(f, "cannot be loaded: out of memory"),
        }
    }
}

impl core::error::Error for ElfError {}

/// Names of the machines whose programs are most likely to turn up by mistake.
fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        3 => "i386",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "64-bit PowerPC",
        22 => "S390",
        40 => "ARM",
        183 => "AArch64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return None,
    })
}
