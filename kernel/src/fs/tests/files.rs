use std::vec::Vec;

use super::*;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::regular::{WriteAt, seal};
use crate::mm::frames;
use crate::testing;

fn machine() -> sim::Machine {
    sim::Machine::new().memory_mib(16)
}

fn write(superblock: &Superblock, file: &Regular, at: WriteAt, bytes: &[u8]) -> KResult<(u64, usize)> {
    file.write_at(superblock, at, u64::MAX, &mut IoSrc::kernel(bytes))
}

fn read(file: &Regular, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = std::vec![0xee; length];
    let moved = file.read_at(offset, &mut IoDst::kernel(&mut bytes)).unwrap();
    bytes.truncate(moved);
    bytes
}

#[test]
fn files_hold_what_was_written() {
    testing::run("fs::tests::files::files_hold_what_was_written", machine, || {
        let superblock = Superblock::new(FsKind::Tmpfs, 64, UNLIMITED);
        let before = frames::totals().1;
        let file = Regular::new();
        assert_eq!(write(&superblock, &file, WriteAt::Offset(5000), b"hello"), Ok((5000, 5)));
        assert_eq!(file.size(), 5005);
        assert_eq!(file.pages(), 1);
        assert_eq!(read(&file, 4998, 100), b"\0\0hello");
        assert_eq!(read(&file, 5005, 100), b"");
        assert_eq!(write(&superblock, &file, WriteAt::End, b"!"), Ok((5005, 1)));
        let big: Vec<u8> = (0..20_000u32).map(|at| at as u8).collect();
        assert_eq!(write(&superblock, &file, WriteAt::Offset(3), &big), Ok((3, 20_000)));
        assert_eq!(read(&file, 3, 20_000), big);
        assert_eq!(file.seek(0, true), Ok(0));
        // A cut leaves zeros behind when the file grows again.
        file.set_size(&superblock, 4100, |first| assert_eq!(first, 2)).unwrap();
        file.set_size(&superblock, 10_000, |_| panic!("nothing is cut off")).unwrap();
        assert_eq!(read(&file, 4099, 3), [big[4096], 0, 0]);
        assert_eq!(superblock.page_usage().0, file.pages());
        assert_eq!(file.pages(), 2);
        assert_eq!((file.seek(9000, true), file.seek(0, false)), (Err(Errno::ENXIO), Ok(8192)));
        file.punch(&superblock, 100, 4200, |_, _| {}).unwrap();
        assert_eq!(read(&file, 90, 20), [&big[87..97], &[0; 10]].concat());
        // The file system's limit holds, and a short write says how far it came.
        assert_eq!(
            write(&superblock, &file, WriteAt::Offset(1 << 40), &[1; 300_000]).map(|(_, moved)| moved),
            Ok(62 * 4096)
        );
        assert_eq!(write(&superblock, &file, WriteAt::Offset(1 << 50), b"x"), Err(Errno::ENOSPC));
        assert_eq!(
            file.write_at(&superblock, WriteAt::Offset(10), 10, &mut IoSrc::kernel(b"x")),
            Err(Errno::EFBIG)
        );
        let pages = file.pages();
        drop(file);
        superblock.release_pages(pages);
        assert_eq!(superblock.page_usage().0, 0);
        assert!(frames::totals().1 + 80 >= before, "pages were lost");
    });
}

#[test]
fn seals_are_kept() {
    testing::run("fs::tests::files::seals_are_kept", machine, || {
        let superblock = Superblock::new(FsKind::Tmpfs, UNLIMITED, UNLIMITED);
        let file = Regular::with_seals(0);
        write(&superblock, &file, WriteAt::End, b"four").unwrap();
        file.add_seals(seal::GROW).unwrap();
        assert_eq!(write(&superblock, &file, WriteAt::End, b"x"), Err(Errno::EPERM));
        assert_eq!(write(&superblock, &file, WriteAt::Offset(0), b"FOUR"), Ok((0, 4)));
        file.add_seals(seal::SHRINK | seal::SEAL).unwrap();
        assert_eq!(file.set_size(&superblock, 1, |_| {}), Err(Errno::EPERM));
        assert_eq!(file.add_seals(seal::WRITE), Err(Errno::EPERM));
    });
}
