//! Unpacks gzip data into a sink, chunk by chunk, in bounded memory (about 44 KiB while it runs).

use alloc::vec::Vec;
use core::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use super::crc32::Crc32;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const METHOD_DEFLATE: u8 = 8;
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0b1110_0000;

/// What is wrong with gzip data, and where (byte offsets in the input). `E` is the sink's error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GunzipError<E> {
    /// The input does not start with a gzip header.
    NotGzip,
    /// The member is compressed by an unknown method.
    UnknownMethod {
        /// Start of the member.
        offset: usize,
        /// The method's number.
        method: u8,
    },
    /// The member has flags set that have no meaning.
    ReservedFlags {
        /// Start of the member.
        offset: usize,
        /// All its flags.
        flags: u8,
    },
    /// The input ends inside the member.
    Truncated {
        /// Start of the member.
        offset: usize,
    },
    /// The header's own checksum does not match.
    BadHeaderCrc {
        /// Start of the member.
        offset: usize,
    },
    /// The compressed data make no sense.
    Corrupt {
        /// Where the decoder stopped.
        offset: usize,
    },
    /// The unpacked data do not have the checksum that the member states.
    BadCrc {
        /// Start of the member.
        offset: usize,
        /// The checksum by the member.
        expected: u32,
        /// The checksum of the data.
        found: u32,
    },
    /// There are not as many unpacked data as the member states.
    BadLength {
        /// Start of the member.
        offset: usize,
        /// Bytes by the member, modulo 2^32.
        expected: u32,
        /// Bytes unpacked, modulo 2^32.
        found: u32,
    },
    /// Other data follow the last member.
    TrailingData {
        /// Where they start.
        offset: usize,
    },
    /// There is no memory for the decoder.
    OutOfMemory,
    /// The sink refused a chunk.
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for GunzipError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGzip => write!(f, "gzip: not gzip data"),
            Self::UnknownMethod { offset, method } => {
                write!(f, "gzip: member at byte {offset} is compressed by unknown method {method}")
            }
            Self::ReservedFlags { offset, flags } => {
                write!(f, "gzip: member at byte {offset} has unknown flags ({flags:#x})")
            }
            Self::Truncated { offset } => write!(f, "gzip: input ends in the member at byte {offset}"),
            Self::BadHeaderCrc { offset } => write!(f, "gzip: header at byte {offset} fails its checksum"),
            Self::Corrupt { offset } => write!(f, "gzip: corrupt data before byte {offset}"),
            Self::BadCrc { offset, expected, found } => {
                write!(f, "gzip: member at byte {offset} has checksum {found:#010x}, not {expected:#010x}")
            }
            Self::BadLength { offset, expected, found } => {
                write!(f, "gzip: member at byte {offset} unpacks to {found} bytes, not {expected}")
            }
            Self::TrailingData { offset } => write!(f, "gzip: other data follow at byte {offset}"),
            Self::OutOfMemory => write!(f, "gzip: out of memory"),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

/// Whether `input` looks like gzip data.
pub fn is_gzip(input: &[u8]) -> bool {
    input.starts_with(&MAGIC)
}

/// The size of the unpacked data as the end of `input` states it, in bytes: a hint for reserving memory, nothing more.
/// It is wrong for padded input, for several members and from 4 GiB on, and may be a lie.
pub fn size_hint(input: &[u8]) -> Option<u32> {
    let size = input.last_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    size.filter(|_| is_gzip(input))
}

/// Unpacks all members of `input`, which may be padded with zero bytes, into `sink`; says how many bytes that were.
///
/// A member's last chunk reaches the sink before its checksum is known to hold: on an error, discard what came.
///
/// # Errors
/// See [`GunzipError`]; [`GunzipError::TrailingData`] only after every member went to the sink.
pub fn gunzip<E>(input: &[u8], mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u64, GunzipError<E>> {
    if !is_gzip(input) {
        return Err(GunzipError::NotGzip);
    }
    let mut decoder = Decoder::new().ok_or(GunzipError::OutOfMemory)?;
    let mut offset = 0;
    let mut total = 0;
    loop {
        let (end, length) = decoder.member(input, offset, &mut sink)?;
        total += length;
        let Some(zeros) = input[end..].iter().position(|&byte| byte != 0) else { return Ok(total) };
        offset = end + zeros;
        if !is_gzip(&input[offset..]) {
            return Err(GunzipError::TrailingData { offset });
        }
    }
}

/// The decoder's memory, on the heap whatever the optimizer does: it is too large for a kernel stack to carry twice.
struct Decoder {
    inflate: Vec<DecompressorOxide>,
    window: Vec<u8>,
}

impl Decoder {
    fn new() -> Option<Self> {
        let mut inflate = Vec::new();
        inflate.try_reserve_exact(1).ok()?;
        inflate.push(DecompressorOxide::new());
        let mut window = Vec::new();
        window.try_reserve_exact(TINFL_LZ_DICT_SIZE).ok()?;
        window.resize(TINFL_LZ_DICT_SIZE, 0);
        Some(Self { inflate, window })
    }

    /// Unpacks the member at `start`; its end, and the bytes unpacked.
    fn member<E>(
        &mut self,
        input: &[u8],
        start: usize,
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(usize, u64), GunzipError<E>> {
        let truncated = GunzipError::Truncated { offset: start };
        let mut at = start + header_length(&input[start..], start)?;
        let inflate = &mut self.inflate[0];
        inflate.init();
        let mut crc = Crc32::new();
        let mut length: u64 = 0;
        let mut position = 0;
        loop {
            let (status, consumed, produced) =
                decompress(inflate, &input[at..], &mut self.window, position, 0);
            at += consumed;
            let chunk = &self.window[position..position + produced];
            if !chunk.is_empty() {
                crc.update(chunk);
                length += produced as u64;
                sink(chunk).map_err(GunzipError::Sink)?;
            }
            position = (position + produced) % TINFL_LZ_DICT_SIZE;
            match status {
                TINFLStatus::Done => break,
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => return Err(truncated),
                _ => return Err(GunzipError::Corrupt { offset: at }),
            }
        }
        let trailer = input.get(at..at + TRAILER_BYTES).ok_or(truncated)?;
        let (expected_crc, expected_length) = (word(trailer), word(&trailer[4..]));
        let (found_crc, found_length) = (crc.value(), length as u32);
        if found_crc != expected_crc {
            return Err(GunzipError::BadCrc { offset: start, expected: expected_crc, found: found_crc });
        }
        if found_length != expected_length {
            return Err(GunzipError::BadLength {
                offset: start,
                expected: expected_length,
                found: found_length,
            });
        }
        Ok((at + TRAILER_BYTES, length))
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Checks the header of the member that starts `input`, at `offset` in the whole, and says how long it is.
fn header_length<E>(input: &[u8], offset: usize) -> Result<usize, GunzipError<E>> {
    let truncated = GunzipError::Truncated { offset };
    let header = input.get(..HEADER_BYTES).ok_or(GunzipError::Truncated { offset })?;
    let (method, flags) = (header[2], header[3]);
    if method != METHOD_DEFLATE {
        return Err(GunzipError::UnknownMethod { offset, method });
    }
    if flags & FLAGS_RESERVED != 0 {
        return Err(GunzipError::ReservedFlags { offset, flags });
    }
    let mut length = HEADER_BYTES;
    if flags & FLAG_EXTRA != 0 {
        let Some(&[low, high]) = input.get(length..length + 2) else { return Err(truncated) };
        length += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for text in [FLAG_NAME, FLAG_COMMENT] {
        if flags & text != 0 {
            let rest = input.get(length..).unwrap_or_default();
            let Some(nul) = rest.iter().position(|&byte| byte == 0) else { return Err(truncated) };
            length += nul + 1;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        let Some(&[low, high]) = input.get(length..length + 2) else { return Err(truncated) };
        let mut crc = Crc32::new();
        crc.update(&input[..length]);
        if crc.value() as u16 != u16::from_le_bytes([low, high]) {
            return Err(GunzipError::BadHeaderCrc { offset });
        }
        length += 2;
    }
    if length > input.len() { Err(truncated) } else { Ok(length) }
}

#[cfg(test)]
#[path = "gunzip_tests.rs"]
mod tests;
