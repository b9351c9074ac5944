//! Reads cpio archives of the portable formats ("newc", magic 070701, and its variant with checksums, 070702), as the
//! initial file system comes in.
//!
//! An image is a series of archives, each ended by its trailer, with zero bytes before, between and after them; an
//! archive starts at a multiple of four. Names and data are borrowed from the image.

use core::fmt;

/// Bytes in an entry's header: the magic number and thirteen fields of eight hexadecimal digits.
const HEADER_BYTES: usize = 110;
/// The longest name with its NUL.
const NAME_MAX: usize = 4096;
/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

const TYPE_MASK: u32 = 0o170_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// One entry of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The path, without a NUL.
    pub name: &'a [u8],
    /// Inode number; entries of one archive with the same number and device and `nlink` above 1 are one file.
    pub ino: u32,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links to the file.
    pub nlink: u32,
    /// Time of last modification, in seconds since 1970.
    pub mtime: u32,
    /// Device that holds the file: major and minor number.
    pub device: (u32, u32),
    /// For a device file: major and minor number.
    pub rdev: (u32, u32),
    /// A file's contents or a symbolic link's target.
    pub data: &'a [u8],
    /// Where the entry's header is in the image, in bytes.
    pub offset: usize,
}

/// What is wrong with an image, and where (byte offsets in the image).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpioError {
    /// The image ends inside a header.
    TruncatedHeader {
        /// Start of the header.
        offset: usize,
    },
    /// The image ends inside a name.
    TruncatedName {
        /// Start of the name.
        offset: usize,
    },
    /// The image ends inside an entry's data, or the data's size is beyond all bounds.
    TruncatedData {
        /// Start of the data.
        offset: usize,
        /// Bytes the header promises.
        size: u32,
    },
    /// The archive ends without its trailer.
    MissingTrailer {
        /// Where the next header should be.
        offset: usize,
    },
    /// No header of a known format.
    BadMagic {
        /// Start of the header.
        offset: usize,
        /// What is there.
        found: [u8; 6],
    },
    /// A field of the header is not a hexadecimal number.
    BadHex {
        /// Start of the field.
        offset: usize,
    },
    /// The name has no bytes, not even a NUL.
    EmptyName {
        /// Start of the header.
        offset: usize,
    },
    /// The name is longer than a path can be.
    NameTooLong {
        /// Start of the name.
        offset: usize,
        /// Its bytes, by the header.
        size: u32,
    },
    /// The name does not end with a NUL.
    NameNotTerminated {
        /// Start of the name.
        offset: usize,
    },
    /// Other bytes follow a NUL in the name.
    NulInName {
        /// Where the NUL is.
        offset: usize,
    },
    /// The data does not add up to the header's checksum.
    BadChecksum {
        /// Start of the data.
        offset: usize,
        /// The sum by the header.
        expected: u32,
        /// The sum of the data.
        found: u32,
    },
    /// An archive does not start at a multiple of four.
    Misaligned {
        /// Where it starts.
        offset: usize,
    },
    /// Something else than an archive where one may start, perhaps a compressed one.
    NotAnArchive {
        /// Where it starts.
        offset: usize,
    },
}

impl fmt::Display for CpioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TruncatedHeader { offset } => write!(f, "cpio: image ends in the header at byte {offset}"),
            Self::TruncatedName { offset } => write!(f, "cpio: image ends in the name at byte {offset}"),
            Self::TruncatedData { offset, size } => {
                write!(f, "cpio: image ends in the {size} bytes of data at byte {offset}")
            }
            Self::MissingTrailer { offset } => {
                write!(f, "cpio: image ends without a trailer at byte {offset}")
            }
            Self::BadMagic { offset, found } => {
                write!(f, "cpio: no newc header at byte {offset} but \"{}\"", found.escape_ascii())
            }
            Self::BadHex { offset } => write!(f, "cpio: no hexadecimal number at byte {offset}"),
            Self::EmptyName { offset } => write!(f, "cpio: entry without a name at byte {offset}"),
            Self::NameTooLong { offset, size } => {
                write!(f, "cpio: name of {size} bytes at byte {offset} is too long")
            }
            Self::NameNotTerminated { offset } => write!(f, "cpio: name without a NUL at byte {offset}"),
            Self::NulInName { offset } => write!(f, "cpio: NUL inside a name at byte {offset}"),
            Self::BadChecksum { offset, expected, found } => {
                write!(f, "cpio: data at byte {offset} has checksum {found:#x}, not {expected:#x}")
            }
            Self::Misaligned { offset } => write!(f, "cpio: archive at byte {offset} is not aligned to four"),
            Self::NotAnArchive { offset } => write!(f, "cpio: no archive at byte {offset}"),
        }
    }
}

impl core::error::Error for CpioError {}

/// The entries of all archives of an image, in order, trailers left out. After an error it ends.
///
/// An image of nothing but zero bytes has no entries and is no error.
#[derive(Clone, Debug)]
pub struct CpioReader<'a> {
    image: &'a [u8],
    offset: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before an archive, or after the last one.
    Between,
    Inside,
    Ended,
}

struct Header {
    fields: [u32; 13],
    has_checksum: bool,
}

impl<'a> CpioReader<'a> {
    /// Reads `image` from its start.
    pub fn new(image: &'a [u8]) -> Self {
        Self { image, offset: 0, state: State::Between }
    }

    /// How far the image was read, in bytes. After [`CpioError::NotAnArchive`]: where the other data start.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn next_entry(&mut self) -> Result<Option<Entry<'a>>, CpioError> {
        loop {
            if self.state == State::Between && !self.find_archive()? {
                return Ok(None);
            }
            let entry = self.read_entry()?;
            if entry.name != TRAILER {
                return Ok(Some(entry));
            }
            self.state = State::Between;
        }
    }

    /// Skips zero bytes up to the next archive; false at the end of the image.
    fn find_archive(&mut self) -> Result<bool, CpioError> {
        let rest = &self.image[self.offset..];
        let Some(zeros) = rest.iter().position(|&byte| byte != 0) else {
            self.offset = self.image.len();
            return Ok(false);
        };
        self.offset += zeros;
        let offset = self.offset;
        if rest[zeros] != b'0' {
            return Err(CpioError::NotAnArchive { offset });
        }
        if !offset.is_multiple_of(4) {
            return Err(CpioError::Misaligned { offset });
        }
        self.state = State::Inside;
        Ok(true)
    }

    fn read_entry(&mut self) -> Result<Entry<'a>, CpioError> {
        let start = self.offset;
        let header = self.read_header()?;
        let [
            ino,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            size,
            dev_major,
            dev_minor,
            major,
            minor,
            name_size,
            checksum,
        ] = header.fields;
        let name_start = start + HEADER_BYTES;
        let name = self.read_name(start, name_start, name_size)?;
        let data_start = (name_start + name_size as usize).next_multiple_of(4);
        let data: &[u8] = if size == 0 {
            &[]
        } else {
            let truncated = CpioError::TruncatedData { offset: data_start, size };
            let end = data_start.checked_add(size as usize).ok_or(truncated)?;
            self.image.get(data_start..end).ok_or(truncated)?
        };
        if header.has_checksum && mode & TYPE_MASK == TYPE_REGULAR {
            let found = data.iter().fold(0u32, |sum, &byte| sum.wrapping_add(u32::from(byte)));
            if found != checksum {
                return Err(CpioError::BadChecksum { offset: data_start, expected: checksum, found });
            }
        }
        self.offset = (data_start + data.len()).next_multiple_of(4).min(self.image.len());
        let (device, rdev) = ((dev_major, dev_minor), (major, minor));
        Ok(Entry { name, ino, mode, uid, gid, nlink, mtime, device, rdev, data, offset: start })
    }

    fn read_header(&self) -> Result<Header, CpioError> {
        let offset = self.offset;
        let rest = &self.image[offset..];
        if rest.is_empty() {
            return Err(CpioError::MissingTrailer { offset });
        }
        let (&found, digits) = rest.split_first_chunk::<6>().ok_or(CpioError::TruncatedHeader { offset })?;
        let has_checksum = match &found {
            b"070701" => false,
            b"070702" => true,
            // An archive cut off and padded is one without its trailer.
            [0, 0, 0, 0, 0, 0] => return Err(CpioError::MissingTrailer { offset }),
            _ => return Err(CpioError::BadMagic { offset, found }),
        };
        let digits = digits.get(..HEADER_BYTES - 6).ok_or(CpioError::TruncatedHeader { offset })?;
        let mut fields = [0; 13];
        for (index, (field, digits)) in fields.iter_mut().zip(digits.chunks_exact(8)).enumerate() {
            *field = hex(digits).ok_or(CpioError::BadHex { offset: offset + 6 + 8 * index })?;
        }
        Ok(Header { fields, has_checksum })
    }

    fn read_name(&self, header: usize, offset: usize, size: u32) -> Result<&'a [u8], CpioError> {
        if size == 0 {
            return Err(CpioError::EmptyName { offset: header });
        }
        if size as usize > NAME_MAX {
            return Err(CpioError::NameTooLong { offset, size });
        }
        let padded =
            self.image.get(offset..offset + size as usize).ok_or(CpioError::TruncatedName { offset })?;
        let Some(nul) = padded.iter().position(|&byte| byte == 0) else {
            return Err(CpioError::NameNotTerminated { offset });
        };
        if padded[nul..].iter().any(|&byte| byte != 0) {
            return Err(CpioError::NulInName { offset: offset + nul });
        }
        if nul == 0 {
            return Err(CpioError::EmptyName { offset: header });
        }
        Ok(&padded[..nul])
    }
}

impl<'a> Iterator for CpioReader<'a> {
    type Item = Result<Entry<'a>, CpioError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let next = self.next_entry().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        next
    }
}

impl core::iter::FusedIterator for CpioReader<'_> {}

/// Eight hexadecimal digits of either case.
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
#[path = "cpio_tests.rs"]
mod tests;
