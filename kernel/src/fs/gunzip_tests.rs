//! The gzip reader against data packed here, whole and damaged.

use std::vec::Vec;

use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;

use super::*;

/// A member with the given header flags, their fields filled in.
fn member(data: &[u8], flags: u8) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
    if flags & FLAG_EXTRA != 0 {
        bytes.extend_from_slice(&[3, 0, 1, 2, 3]);
    }
    if flags & FLAG_NAME != 0 {
        bytes.extend_from_slice(b"file\0");
    }
    if flags & FLAG_COMMENT != 0 {
        bytes.extend_from_slice(b"\0");
    }
    if flags & FLAG_HEADER_CRC != 0 {
        let mut crc = Crc32::new();
        crc.update(&bytes);
        bytes.extend_from_slice(&crc.value().to_le_bytes()[..2]);
    }
    bytes.extend(compress_to_vec(data, 6));
    let mut crc = Crc32::new();
    crc.update(data);
    bytes.extend_from_slice(&crc.value().to_le_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes
}

fn unpack(input: &[u8]) -> Result<Vec<u8>, GunzipError<&'static str>> {
    let mut out = Vec::new();
    let length = gunzip(input, |chunk| {
        assert!(!chunk.is_empty() && chunk.len() <= TINFL_LZ_DICT_SIZE);
        out.extend_from_slice(chunk);
        Ok(())
    })?;
    assert_eq!(length, out.len() as u64);
    Ok(out)
}

/// Data that need several windows and refer far back.
fn long_data() -> Vec<u8> {
    (0..200_000u32)
        .map(|n| if n % 30_000 < 20_000 { (n % 251) as u8 } else { (n.wrapping_mul(n) >> 7) as u8 })
        .collect()
}

#[test]
fn unpacks_long_data_in_chunks() {
    let data = long_data();
    assert!(unpack(&member(&data, 0)).unwrap() == data);
}

#[test]
fn unpacks_with_every_header_field() {
    for flags in 0..32 {
        assert_eq!(unpack(&member(b"contents", flags)).unwrap(), b"contents", "flags {flags:#x}");
    }
}

#[test]
fn unpacks_members_in_a_row_with_zeros_between() {
    let mut input = member(b"one ", 0);
    input.extend([0; 5]);
    input.extend(member(b"", FLAG_NAME));
    input.extend(member(b"two", 0));
    input.extend([0; 512]);
    assert_eq!(unpack(&input).unwrap(), b"one two");
    let offset = input.len();
    input.extend(b"070701");
    assert_eq!(unpack(&input), Err(GunzipError::TrailingData { offset }));
}

#[test]
fn every_truncation_is_noticed() {
    for flags in [0, 31] {
        let input = member(b"a few words, a few more words", flags);
        assert_eq!(unpack(&input[..1]), Err(GunzipError::NotGzip));
        for end in 2..input.len() {
            assert_eq!(unpack(&input[..end]), Err(GunzipError::Truncated { offset: 0 }), "cut at {end}");
        }
    }
    let mut input = member(b"x", 0);
    let offset = input.len();
    input.extend(&member(b"y", 0)[..12]);
    assert_eq!(unpack(&input), Err(GunzipError::Truncated { offset }));
}

#[test]
fn names_each_kind_of_damage() {
    let damaged = |at: isize, byte: u8, flags| {
        let mut input = member(b"contents", flags);
        let at = at.rem_euclid(input.len() as isize) as usize;
        assert_ne!(input[at], byte);
        input[at] = byte;
        unpack(&input).unwrap_err()
    };
    assert_eq!(unpack(b""), Err(GunzipError::NotGzip));
    assert_eq!(damaged(0, 0x1e, 0), GunzipError::NotGzip);
    assert_eq!(damaged(2, 7, 0), GunzipError::UnknownMethod { offset: 0, method: 7 });
    assert_eq!(damaged(3, 0x80, 0), GunzipError::ReservedFlags { offset: 0, flags: 0x80 });
    assert_eq!(damaged(4, 1, FLAG_HEADER_CRC), GunzipError::BadHeaderCrc { offset: 0 });
    assert!(matches!(damaged(10, 0x07, 0), GunzipError::Corrupt { .. }));
    assert!(matches!(damaged(-5, 0, 0), GunzipError::BadCrc { offset: 0, .. }));
    assert_eq!(damaged(-4, 9, 0), GunzipError::BadLength { offset: 0, expected: 9, found: 8 });
    assert_eq!(damaged(-4, 9, 0).to_string(), "gzip: member at byte 0 unpacks to 8 bytes, not 9");
}

#[test]
fn passes_the_sinks_error_on() {
    assert_eq!(gunzip(&member(b"contents", 0), |_| Err("full")), Err(GunzipError::Sink("full")));
}

#[test]
fn hints_the_size() {
    for length in [0, 1, 255, 256, 70_000] {
        assert_eq!(size_hint(&member(&vec![1; length], 0)), Some(length as u32));
    }
    assert_eq!(size_hint(&MAGIC), None);
    assert_eq!(size_hint(b"070701"), None);
}

proptest! {
    #[test]
    fn unpacks_what_was_packed(data: Vec<u8>, repeat in 1usize..400, flags in 0u8..32) {
        let data = data.repeat(repeat);
        prop_assert!(unpack(&member(&data, flags)).unwrap() == data);
    }

    #[test]
    fn a_changed_byte_never_passes_for_other_contents(at: usize, byte: u8) {
        let mut input = member(b"some contents, some of them twice", 31);
        let length = input.len();
        input[at % length] = byte;
        if let Ok(data) = unpack(&input) {
            prop_assert_eq!(data, b"some contents, some of them twice");
        }
    }
}
