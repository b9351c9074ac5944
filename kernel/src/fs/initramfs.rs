//! Fills the root file system from the archive that came with the kernel: cpio, plain or compressed by gzip, several
//! behind one another.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use platform::PAGE_SIZE;

use super::cpio::{CpioError, CpioReader};
use super::cpio_stream::CpioStream;
use super::gunzip::{GunzipError, gunzip, is_gzip};
use super::populate::{Populator, Source};
use crate::errno::Errno;

/// Why the root file system could not be filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InitramfsError {
    /// The archive is damaged.
    Archive(CpioError),
    /// The compressed data are damaged, or what they unpack to is.
    Compressed(Box<GunzipError<Unpacking>>),
    /// Something is there that is neither an archive nor compressed by gzip.
    UnknownFormat {
        /// Where it starts, in bytes.
        offset: usize,
    },
    /// An entry could not be made.
    Entry(Box<EntryError>),
}

/// An entry that could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryError {
    /// Its name.
    pub name: Vec<u8>,
    /// Why.
    pub error: Errno,
}

/// What is wrong with unpacked data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unpacking {
    /// As [`InitramfsError::Archive`]; offsets are in the unpacked data.
    Archive(CpioError),
    /// As [`InitramfsError::Entry`].
    Entry(EntryError),
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "initramfs: {}: {}", self.name.escape_ascii(), self.error)
    }
}

impl fmt::Display for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "initramfs: unpacked {error}"),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for InitramfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "initramfs: {error}"),
            Self::Compressed(error) => match &**error {
                GunzipError::Sink(unpacked) => unpacked.fmt(f),
                other => write!(f, "initramfs: {other}"),
            },
            Self::UnknownFormat { offset } => {
                write!(f, "initramfs: neither cpio nor gzip at byte {offset}")
            }
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for InitramfsError {}

/// What was done, for the boot chart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unpacked {
    /// Entries made.
    pub entries: usize,
    /// Pages of files that stayed where the archive had them.
    pub pages_in_place: usize,
}

/// Unpacks `image`, which lies in RAM that the direct map shows and whose frames are held, into the root file system.
/// Whole pages of files that are page-aligned in an uncompressed archive stay where they are.
///
/// # Errors
/// See [`InitramfsError`]; what was made before stays.
pub fn unpack(image: &'static [u8]) -> Result<Unpacked, InitramfsError> {
    let mut populator = Populator::new();
    let mut offset = 0;
    loop {
        let rest = &image[offset..];
        if is_gzip(rest) {
            match unpack_gzip(rest, &mut populator) {
                Ok(()) => break,
                // Another archive may follow, not compressed.
                Err(GunzipError::TrailingData { offset: behind }) => offset += behind,
                Err(error) => return Err(InitramfsError::Compressed(Box::new(error))),
            }
            continue;
        }
        let mut reader = CpioReader::new(rest);
        match unpack_plain(&mut reader, &mut populator) {
            Ok(()) => break,
            Err(InitramfsError::Archive(CpioError::NotAnArchive { offset: behind })) => {
                offset += behind;
                if !is_gzip(&image[offset..]) {
                    return Err(InitramfsError::UnknownFormat { offset });
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Unpacked { entries: populator.entries(), pages_in_place: populator.pages_in_place() })
}

fn unpack_plain(reader: &mut CpioReader<'static>, populator: &mut Populator) -> Result<(), InitramfsError> {
    for entry in reader {
        let entry = entry.map_err(InitramfsError::Archive)?;
        populator
            .add(&entry, Source::Image(entry.data))
            .map_err(|error| InitramfsError::Entry(Box::new(error)))?;
    }
    Ok(())
}

fn unpack_gzip(input: &[u8], populator: &mut Populator) -> Result<(), GunzipError<Unpacking>> {
    let mut stream = CpioStream::new();
    gunzip(input, |chunk| stream.take(chunk, populator))?;
    stream.finish().map_err(|error| GunzipError::Sink(Unpacking::Archive(error)))
}

/// How many whole pages of `data` start a page of memory.
pub(super) fn aligned_pages(data: &[u8]) -> usize {
    if data.as_ptr().addr().is_multiple_of(PAGE_SIZE as usize) { data.len() / PAGE_SIZE as usize } else { 0 }
}
