use std::string::String;
use std::vec::Vec;

use super::*;
use crate::fs::cpio::CpioError;
use crate::fs::cpio_stream::CpioStream;
use crate::fs::file::{FileKind, OpenFile, Place};
use crate::fs::initramfs::{InitramfsError, Unpacking, unpack};
use crate::fs::io::IoDst;
use crate::fs::populate::Populator;
use crate::testing;

fn machine() -> sim::Machine {
    sim::Machine::new().memory_mib(16)
}

struct Entry {
    name: &'static str,
    mode: u32,
    ino: u32,
    nlink: u32,
    data: &'static [u8],
}

fn put(image: &mut Vec<u8>, entry: &Entry) {
    let fields = [
        entry.ino,
        entry.mode,
        7,
        8,
        entry.nlink,
        1_000_000,
        entry.data.len() as u32,
        0,
        0,
        5,
        1,
        entry.name.len() as u32 + 1,
        0,
    ];
    image.extend_from_slice(b"070701");
    for field in fields {
        image.extend_from_slice(std::format!("{field:08x}").as_bytes());
    }
    image.extend_from_slice(entry.name.as_bytes());
    image.push(0);
    image.resize(image.len().next_multiple_of(4), 0);
    image.extend_from_slice(entry.data);
    image.resize(image.len().next_multiple_of(4), 0);
}

fn archive() -> Vec<u8> {
    let mut image = Vec::new();
    static BIG: [u8; 9000] = [b'z'; 9000];
    for entry in [
        Entry { name: ".", mode: 0o040_750, ino: 1, nlink: 2, data: b"" },
        Entry { name: "bin", mode: 0o040_755, ino: 2, nlink: 2, data: b"" },
        Entry { name: "bin/sh", mode: 0o100_755, ino: 3, nlink: 1, data: b"#!/bin/true\n" },
        Entry { name: "big", mode: 0o100_644, ino: 4, nlink: 1, data: &BIG },
        Entry { name: "link", mode: 0o120_777, ino: 5, nlink: 1, data: b"bin/sh" },
        Entry { name: "missing/parents/file", mode: 0o100_600, ino: 6, nlink: 1, data: b"deep" },
        Entry { name: "one", mode: 0o100_644, ino: 7, nlink: 2, data: b"" },
        Entry { name: "two", mode: 0o100_644, ino: 7, nlink: 2, data: b"same file" },
        Entry { name: "null", mode: 0o020_666, ino: 8, nlink: 1, data: b"" },
        Entry { name: "TRAILER!!!", mode: 0, ino: 0, nlink: 1, data: b"" },
    ] {
        put(&mut image, &entry);
    }
    image
}

fn content(tree: &Tree, path: &str) -> String {
    let place = tree.walk(path).unwrap();
    let file = OpenFile::new(Place::Named(place), FileKind::Regular, 0);
    let mut bytes = std::vec![0; 20_000];
    let moved = file.read_at(0, &mut IoDst::kernel(&mut bytes)).unwrap();
    String::from_utf8(bytes[..moved].to_vec()).unwrap()
}

fn check(tree: &Tree) {
    assert_eq!(content(tree, "/link"), "#!/bin/true\n");
    assert_eq!(content(tree, "/big"), "z".repeat(9000));
    assert_eq!(content(tree, "/missing/parents/file"), "deep");
    assert_eq!(content(tree, "/one"), "same file");
    assert_eq!(tree.inode("/one").unwrap().links(), 2);
    let file = tree.inode("/bin/sh").unwrap();
    assert_eq!((file.mode(), file.uid(), file.gid()), (0o100_755, Uid(7), Gid(8)));
    assert_eq!(file.times().modified, 1_000_000_000_000_000);
    assert_eq!(tree.inode("/null").unwrap().device().encode(), 0x501);
    assert_eq!(tree.inode("/").unwrap().mode() & 0o777, 0o750);
}

#[test]
fn a_plain_archive_becomes_files() {
    testing::run("fs::tests::unpacking::a_plain_archive_becomes_files", machine, || {
        let image = std::vec::Vec::leak(archive());
        let unpacked = unpack(image).unwrap();
        assert_eq!(unpacked.entries, 9);
        check(&Tree { context: FsContext::initial(), who: Credentials::root() });
        // A second archive replaces files and keeps directories.
        unpack(image).unwrap();
        check(&Tree { context: FsContext::initial(), who: Credentials::root() });
    });
}

#[test]
fn an_archive_in_pieces_becomes_the_same_files() {
    testing::run("fs::tests::unpacking::an_archive_in_pieces_becomes_the_same_files", machine, || {
        for size in [1, 2, 3, 5, 64, 111, 4096, 1 << 20] {
            let tree = Tree::new();
            let mut populator = Populator::within(tree.context.clone());
            let mut stream = CpioStream::new();
            let mut image = archive();
            image.extend_from_slice(&[0; 512]);
            for piece in image.chunks(size) {
                stream.take(piece, &mut populator).unwrap();
            }
            stream.finish().unwrap();
            check(&tree);
        }
    });
}

#[test]
fn damage_is_named() {
    testing::run("fs::tests::unpacking::damage_is_named", machine, || {
        let image = archive();
        let whole = image.len();
        for cut in 0..whole {
            let plain = unpack(Vec::leak(image[..cut].to_vec()));
            let tree = Tree::new();
            let mut populator = Populator::within(tree.context.clone());
            let mut stream = CpioStream::new();
            let streamed = stream
                .take(&image[..cut], &mut populator)
                .and_then(|()| stream.finish().map_err(Unpacking::Archive));
            if cut == 0 {
                assert!(plain.is_ok() && streamed.is_ok());
                continue;
            }
            assert_eq!(plain.is_err(), streamed.is_err(), "cut at {cut}");
        }
        let mut bad = image.clone();
        bad[3] = b'x';
        assert!(matches!(
            unpack(Vec::leak(bad)),
            Err(InitramfsError::Archive(CpioError::BadMagic { offset: 0, .. }))
        ));
        let unknown = unpack(b"\xfd7zXZ\0 something");
        assert_eq!(unknown, Err(InitramfsError::UnknownFormat { offset: 0 }));
        assert_eq!(std::format!("{}", unknown.unwrap_err()), "initramfs: neither cpio nor gzip at byte 0");
    });
}
