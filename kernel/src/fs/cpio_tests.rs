//! The archive reader against archives written here, whole and damaged.

use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// An archive to write: the counterpart of the reader.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn entry(mut self, name: &[u8], mode: u32, data: &[u8], checksum: bool) -> Self {
        let sum = if checksum { data.iter().map(|&byte| u32::from(byte)).sum() } else { 0 };
        let fields = [
            7,
            mode,
            1000,
            100,
            1,
            1_700_000_000,
            data.len() as u32,
            8,
            1,
            4,
            64,
            name.len() as u32 + 1,
            sum,
        ];
        self.raw(if checksum { "070702" } else { "070701" }, fields, name, data);
        self
    }

    fn raw(&mut self, magic: &str, fields: [u32; 13], name: &[u8], data: &[u8]) {
        let digits: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.bytes.extend_from_slice(magic.as_bytes());
        self.bytes.extend_from_slice(digits.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn trailer(self) -> Self {
        self.entry(TRAILER, 0, &[], false)
    }

    fn zeros(mut self, count: usize) -> Self {
        self.bytes.resize(self.bytes.len() + count, 0);
        self
    }
}

fn read(image: &[u8]) -> Result<Vec<Entry<'_>>, CpioError> {
    CpioReader::new(image).collect()
}

const FILE: u32 = 0o100_644;

fn sample() -> Vec<u8> {
    Writer::default()
        .entry(b"bin", 0o040_755, &[], false)
        .entry(b"bin/sh", FILE, b"hello", true)
        .entry(b"dev/console", 0o020_600, &[], false)
        .trailer()
        .bytes
}

#[test]
fn reads_all_fields() {
    let image = sample();
    let entries = read(&image).unwrap();
    assert_eq!(entries.len(), 3);
    let expected = Entry {
        name: b"bin/sh",
        ino: 7,
        mode: FILE,
        uid: 1000,
        gid: 100,
        nlink: 1,
        mtime: 1_700_000_000,
        device: (8, 1),
        rdev: (4, 64),
        data: b"hello",
        offset: 116,
    };
    assert_eq!(entries[1], expected);
}

#[test]
fn reads_archives_in_a_row_with_zeros_around() {
    let image = Writer::default()
        .zeros(8)
        .entry(b"a", FILE, b"1", false)
        .trailer()
        .zeros(512)
        .entry(b"b", FILE, b"2", true)
        .trailer()
        .trailer()
        .zeros(3)
        .bytes;
    let names: Vec<&[u8]> = read(&image).unwrap().iter().map(|entry| entry.name).collect();
    assert_eq!(names, [b"a", b"b"]);
    assert_eq!(read(&[]), Ok(Vec::new()));
    assert_eq!(read(&[0; 77]), Ok(Vec::new()));
}

#[test]
fn every_truncation_is_an_error_that_says_where() {
    let image = sample();
    let entries = read(&image).unwrap();
    for end in 1..image.len() {
        let error = match read(&image[..end]) {
            Err(error) => error,
            // The bytes that align the end of the trailer may be left out.
            Ok(_) => {
                assert!(end >= image.len() - 3, "cut at {end}");
                continue;
            }
        };
        let at = match error {
            CpioError::TruncatedHeader { offset } | CpioError::TruncatedName { offset } => offset,
            CpioError::TruncatedData { offset, size: 5 } => offset,
            CpioError::MissingTrailer { offset } => {
                assert_eq!(offset, end, "only at the very end");
                offset
            }
            other => panic!("cut at {end}: {other:?}"),
        };
        assert!(at < end + 4 && end.saturating_sub(at) <= HEADER_BYTES, "cut at {end}: {error}");
    }
    assert_eq!(read(&image[..entries[1].offset]), Err(CpioError::MissingTrailer { offset: 116 }));
}

fn damaged(change: impl FnOnce(&mut Vec<u8>)) -> CpioError {
    let mut image = sample();
    change(&mut image);
    let mut reader = CpioReader::new(&image);
    let error = reader.find_map(Result::err).expect("the damage goes unnoticed");
    assert!(reader.next().is_none(), "ends after an error");
    error
}

#[test]
fn names_each_kind_of_damage() {
    let name = 116 + HEADER_BYTES;
    assert_eq!(damaged(|image| image[0] = b'x'), CpioError::NotAnArchive { offset: 0 });
    assert_eq!(damaged(|image| image[5] = b'7'), CpioError::BadMagic { offset: 0, found: *b"070707" });
    assert_eq!(damaged(|image| image[116] = b'x'), CpioError::BadMagic { offset: 116, found: *b"x70702" });
    assert_eq!(damaged(|image| image[116 + 6 + 8 + 3] = b'g'), CpioError::BadHex { offset: 116 + 14 });
    assert_eq!(damaged(|image| image[116 + 6 + 8] = b'+'), CpioError::BadHex { offset: 116 + 14 });
    assert_eq!(damaged(|image| image[name + 6] = b'x'), CpioError::NameNotTerminated { offset: name });
    assert_eq!(damaged(|image| image[name + 2] = 0), CpioError::NulInName { offset: name + 2 });
    assert_eq!(damaged(|image| image[name] = 0), CpioError::NulInName { offset: name });
}

#[test]
fn names_the_damage_that_needs_a_writer() {
    let raw = |name_size, size, sum, name: &[u8], data: &[u8]| {
        let mut writer = Writer::default();
        writer.raw("070702", [1, FILE, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, sum], name, data);
        read(&writer.trailer().bytes).unwrap_err()
    };
    assert_eq!(raw(0, 0, 0, b"a", b""), CpioError::EmptyName { offset: 0 });
    assert_eq!(raw(1, 0, 0, b"", b""), CpioError::EmptyName { offset: 0 });
    assert_eq!(raw(4097, 0, 0, b"a", b""), CpioError::NameTooLong { offset: 110, size: 4097 });
    assert_eq!(raw(4000, 0, 0, b"a", b""), CpioError::TruncatedName { offset: 110 });
    assert_eq!(raw(2, u32::MAX, 0, b"a", b""), CpioError::TruncatedData { offset: 112, size: u32::MAX });
    let wrong = CpioError::BadChecksum { offset: 112, expected: 9, found: 98 };
    assert_eq!(raw(2, 1, 9, b"a", b"b"), wrong);
    assert_eq!(wrong.to_string(), "cpio: data at byte 112 has checksum 0x62, not 0x9");
    let mut misaligned = Writer::default().trailer().zeros(2);
    misaligned.bytes.extend_from_slice(&sample());
    assert_eq!(read(&misaligned.bytes), Err(CpioError::Misaligned { offset: 126 }));
}

#[test]
fn says_where_a_compressed_archive_follows() {
    let mut writer = Writer::default().entry(b"early", FILE, b"microcode", false).trailer().zeros(100);
    let offset = writer.bytes.len();
    writer.bytes.extend_from_slice(&[0x1f, 0x8b, 8]);
    let mut reader = CpioReader::new(&writer.bytes);
    assert_eq!(reader.next().unwrap().unwrap().name, b"early");
    assert_eq!(reader.next(), Some(Err(CpioError::NotAnArchive { offset })));
    assert_eq!(reader.offset(), offset);
}

#[test]
fn a_name_may_be_padded_with_nuls() {
    let mut writer = Writer::default();
    writer.raw("070701", [1, FILE, 0, 0, 1, 0, 2, 0, 0, 0, 0, 9, 0], b"abc\0\0\0\0\0", b"ok");
    let image = writer.trailer().bytes;
    let entries = read(&image).unwrap();
    assert_eq!((entries[0].name, entries[0].data), (&b"abc"[..], &b"ok"[..]));
}

proptest! {
    #[test]
    fn reads_back_what_was_written(
        files in proptest::collection::vec(("[a-z/.]{1,40}", any::<Vec<u8>>(), any::<bool>()), 0..20),
    ) {
        let writer = files.iter().fold(Writer::default(), |writer, (name, data, checksum)| {
            writer.entry(name.as_bytes(), FILE, data, *checksum)
        });
        let image = writer.trailer().bytes;
        let entries = read(&image).unwrap();
        prop_assert_eq!(entries.len(), files.len());
        for (entry, (name, data, _)) in entries.iter().zip(&files) {
            prop_assert_eq!(entry.name, name.as_bytes());
            prop_assert_eq!(entry.data, &data[..]);
        }
    }

    #[test]
    fn ends_whatever_the_bytes(at in 0usize..500, byte in any::<u8>(), noise in any::<Vec<u8>>()) {
        let mut image = sample();
        let length = image.len();
        image[at % length] = byte;
        let count = CpioReader::new(&image).count();
        prop_assert!(count <= 5);
        prop_assert!(CpioReader::new(&noise).count() <= noise.len() / HEADER_BYTES + 1);
    }
}
