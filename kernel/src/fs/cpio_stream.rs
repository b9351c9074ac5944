//! Reads a cpio archive that comes in pieces, and makes its files as it goes, so that an unpacked archive is never in
//! memory as a whole. Formats and errors are those of [`super::cpio`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::cpio::{CpioError, Entry};
use super::initramfs::{EntryError, Unpacking};
use super::inode::{Inode, mode};
use super::populate::{Populator, Source, fill};
use crate::errno::Errno;

const HEADER: usize = 110;
const LONGEST_NAME: u32 = 4096;
/// The longest target of a symbolic link.
const LONGEST_TARGET: u32 = 4095;
const TRAILER: &[u8] = b"TRAILER!!!";
const LAST_NAME: &[u8] = b"TRAILER!!!\0";

enum State {
    /// Between archives: zeros are skipped.
    Between,
    /// Collects a header.
    Header,
    /// Collects a name with its padding; holds its length.
    Name(usize),
    /// Collects the target of a symbolic link.
    Target,
    /// Passes data on to a file (or to nowhere); holds what is still to come.
    Data(Option<Arc<Inode>>),
    /// Skips padding.
    Padding,
}

/// The fields of a header, but for the magic number.
#[derive(Clone, Copy, Default)]
struct Header {
    fields: [u32; 13],
    has_checksum: bool,
}

impl Header {
    fn entry<'a>(&self, name: &'a [u8], data: &'a [u8], offset: usize) -> Entry<'a> {
        let [ino, mode, uid, gid, nlink, mtime, _, dev_major, dev_minor, major, minor, _, _] = self.fields;
        let (device, rdev) = ((dev_major, dev_minor), (major, minor));
        Entry { name, ino, mode, uid, gid, nlink, mtime, device, rdev, data, offset }
    }

    fn mode(&self) -> u32 {
        self.fields[1]
    }

    fn size(&self) -> u32 {
        self.fields[6]
    }
}

/// An archive that comes in pieces.
pub struct CpioStream {
    state: State,
    /// Bytes taken so far.
    offset: usize,
    collected: Vec<u8>,
    header: Header,
    header_offset: usize,
    name: Vec<u8>,
    /// Of the current entry: data not yet seen, data seen, and their sum.
    data_left: u32,
    data_done: u64,
    sum: u32,
}

impl Default for CpioStream {
    fn default() -> Self {
        Self::new()
    }
}

impl CpioStream {
    /// At the start.
    pub fn new() -> Self {
        Self {
            state: State::Between,
            offset: 0,
            collected: Vec::new(),
            header: Header::default(),
            header_offset: 0,
            name: Vec::new(),
            data_left: 0,
            data_done: 0,
            sum: 0,
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// What is wrong with the archive, or an entry that cannot be made.
    pub fn take(&mut self, piece: &[u8], populator: &mut Populator) -> Result<(), Unpacking> {
        let mut rest = piece;
        while !rest.is_empty() {
            let used = match &self.state {
                State::Between => self.skip_zeros(rest)?,
                State::Header => {
                    let used = self.collect(rest, HEADER);
                    if self.collected.len() == HEADER {
                        self.parse_header().map_err(Unpacking::Archive)?;
                    }
                    used
                }
                State::Name(length) => {
                    let length = *length;
                    let padded = (HEADER + length).next_multiple_of(4) - HEADER;
                    let used = self.collect(rest, padded);
                    // The last name's padding may be left out.
                    let is_last = self.collected.len() >= length && self.collected.starts_with(LAST_NAME);
                    if self.collected.len() == padded || is_last {
                        self.parse_name(length, populator)?;
                    }
                    used
                }
                State::Target => {
                    let used = self.collect(rest, self.header.size() as usize);
                    if self.collected.len() == self.header.size() as usize {
                        let target = core::mem::take(&mut self.collected);
                        let entry = self.header.entry(&self.name, &target, self.header_offset);
                        populator.add(&entry, Source::Later).map_err(Unpacking::Entry)?;
                        self.state = State::Padding;
                    }
                    used
                }
                State::Data(file) => {
                    let used = rest.len().min(self.data_left as usize);
                    if let Some(inode) = file {
                        let failed = |error| Unpacking::Entry(EntryError { name: self.name.clone(), error });
                        fill(inode, self.data_done, &rest[..used]).map_err(failed)?;
                    }
                    self.data_left -= used as u32;
                    self.data_done += used as u64;
                    if self.header.has_checksum {
                        self.sum = rest[..used]
                            .iter()
                            .fold(self.sum, |sum, &byte| sum.wrapping_add(u32::from(byte)));
                    }
                    if self.data_left == 0 {
                        self.check_sum(used).map_err(Unpacking::Archive)?;
                        self.state = State::Padding;
                    }
                    used
                }
                State::Padding => {
                    let used = (self.offset.next_multiple_of(4) - self.offset).min(rest.len());
                    if (self.offset + used).is_multiple_of(4) {
                        self.state = State::Header;
                    }
                    used
                }
            };
            self.offset += used;
            rest = &rest[used..];
        }
        Ok(())
    }

    /// The data have ended.
    ///
    /// # Errors
    /// They ended inside an archive.
    pub fn finish(&self) -> Result<(), CpioError> {
        let offset = self.offset;
        match &self.state {
            State::Between => Ok(()),
            State::Header | State::Padding if self.collected.is_empty() => {
                Err(CpioError::MissingTrailer { offset })
            }
            State::Header | State::Padding => Err(CpioError::TruncatedHeader { offset: self.header_offset }),
            State::Name(_) => Err(CpioError::TruncatedName { offset: self.header_offset + HEADER }),
            State::Target | State::Data(_) => Err(CpioError::TruncatedData {
                offset: offset - self.data_done as usize - self.collected.len(),
                size: self.header.size(),
            }),
        }
    }

    fn collect(&mut self, rest: &[u8], wanted: usize) -> usize {
        if self.collected.is_empty() && matches!(self.state, State::Header) {
            self.header_offset = self.offset;
        }
        let used = rest.len().min(wanted - self.collected.len());
        self.collected.extend_from_slice(&rest[..used]);
        used
    }

    fn skip_zeros(&mut self, rest: &[u8]) -> Result<usize, Unpacking> {
        let zeros = rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len());
        if zeros < rest.len() {
            let offset = self.offset + zeros;
            if rest[zeros] != b'0' {
                return Err(Unpacking::Archive(CpioError::NotAnArchive { offset }));
            }
            if !offset.is_multiple_of(4) {
                return Err(Unpacking::Archive(CpioError::Misaligned { offset }));
            }
            self.state = State::Header;
        }
        Ok(zeros)
    }

    fn parse_header(&mut self) -> Result<(), CpioError> {
        let offset = self.header_offset;
        let bytes = core::mem::take(&mut self.collected);
        self.header.has_checksum = match &bytes[..6] {
            b"070701" => false,
            b"070702" => true,
            [0, 0, 0, 0, 0, 0] => return Err(CpioError::MissingTrailer { offset }),
            found => {
                let mut magic = [0; 6];
                magic.copy_from_slice(found);
                return Err(CpioError::BadMagic { offset, found: magic });
            }
        };
        for (index, (field, digits)) in
            self.header.fields.iter_mut().zip(bytes[6..].chunks_exact(8)).enumerate()
        {
            let digit = |value: u32, &digit: &u8| Some(value << 4 | char::from(digit).to_digit(16)?);
            let value = digits.iter().try_fold(0, digit);
            *field = value.ok_or(CpioError::BadHex { offset: offset + 6 + 8 * index })?;
        }
        match self.header.fields[11] {
            0 => Err(CpioError::EmptyName { offset }),
            size if size > LONGEST_NAME => Err(CpioError::NameTooLong { offset: offset + HEADER, size }),
            size => {
                self.state = State::Name(size as usize);
                Ok(())
            }
        }
    }

    /// The name is complete.
    fn parse_name(&mut self, length: usize, populator: &mut Populator) -> Result<(), Unpacking> {
        let mut name = core::mem::take(&mut self.collected);
        name.truncate(length);
        let start = self.header_offset + HEADER;
        let Some(nul) = name.iter().position(|&byte| byte == 0) else {
            return Err(Unpacking::Archive(CpioError::NameNotTerminated { offset: start }));
        };
        if name[nul..].iter().any(|&byte| byte != 0) {
            return Err(Unpacking::Archive(CpioError::NulInName { offset: start + nul }));
        }
        if nul == 0 {
            return Err(Unpacking::Archive(CpioError::EmptyName { offset: self.header_offset }));
        }
        name.truncate(nul);
        self.name = name;
        if self.name == TRAILER {
            self.state = State::Between;
            return Ok(());
        }
        self.data_left = self.header.size();
        self.data_done = 0;
        self.sum = 0;
        let is_symlink = self.header.mode() & mode::TYPE == mode::SYMLINK;
        if is_symlink && self.data_left > 0 {
            if self.data_left > LONGEST_TARGET {
                let name = self.name.clone();
                return Err(Unpacking::Entry(EntryError { name, error: Errno::ENAMETOOLONG }));
            }
            self.state = State::Target;
            return Ok(());
        }
        let entry = self.header.entry(&self.name, &[], self.header_offset);
        let file = populator.add(&entry, Source::Later).map_err(Unpacking::Entry)?;
        self.state = if self.data_left > 0 { State::Data(file) } else { State::Padding };
        Ok(())
    }

    /// All data of an entry have come, the last `used` of them just now.
    fn check_sum(&self, used: usize) -> Result<(), CpioError> {
        let expected = self.header.fields[12];
        if !self.header.has_checksum
            || self.header.mode() & mode::TYPE != mode::REGULAR
            || self.sum == expected
        {
            return Ok(());
        }
        let offset = self.offset + used - self.data_done as usize;
        Err(CpioError::BadChecksum { offset, expected, found: self.sum })
    }
}
