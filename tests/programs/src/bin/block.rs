//! Block devices: `/dev/vda` of 300 KiB that can be written, and `/dev/vdb` that cannot. Needs the superuser, and disks
//! that nobody else uses: the cases overwrite `/dev/vda`, each of them from its own beginning.

use guest_programs::fs::{cstr, stat, text};
use guest_programs::process::{End, child, in_child, wait};
use guest_programs::sys::{close, lseek, open, read, read_all, write, write_all};
use guest_programs::{Case, Errno, call, cases, check, eq, err, ok, run};
use std::ffi::CStr;

const CASES: &[Case] = cases![
    the_files_are_block_devices,
    sizes_and_properties,
    a_place_beyond_the_end_cannot_be_sought,
    reads_end_where_the_disk_does,
    writes_end_where_the_disk_does,
    parts_of_blocks_are_written_alone,
    what_is_written_is_there_for_others,
    a_vector_is_one_piece,
    a_bad_buffer_moves_what_is_before_it,
    a_read_only_disk_is_not_written,
    what_is_written_can_be_flushed,
    processes_use_a_disk_at_once: 60,
    other_numbers_lead_nowhere,
    only_those_allowed_may_open_it,
];

const DISK: &CStr = c"/dev/vda";
const READ_ONLY: &CStr = c"/dev/vdb";
const BYTES: usize = 300 << 10;

const BLKROGET: u32 = 0x125e;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKSSZGET: u32 = 0x1268;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKPBSZGET: u32 = 0x127b;

fn main() {
    run(&[CASES], &[])
}

fn disk() -> i32 {
    ok!(open(DISK, libc::O_RDWR, 0))
}

fn get(fd: i32, request: u32) -> u64 {
    let mut value = 0u64;
    eq!(call!(SYS_ioctl, fd, request, &mut value), Ok(0));
    value
}

fn pwrite(fd: i32, bytes: &[u8], at: usize) -> Result<usize, Errno> {
    call!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at)
}

fn pread(fd: i32, count: usize, at: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0u8; count];
    let moved = call!(SYS_pread64, fd, bytes.as_mut_ptr(), count, at)?;
    bytes.truncate(moved);
    Ok(bytes)
}

/// Bytes that differ from sector to sector, and with `seed`.
fn pattern(seed: usize, count: usize) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(31) ^ (at >> 9) ^ seed) as u8).collect()
}

fn the_files_are_block_devices() {
    let (first, second) = (ok!(stat(DISK)), ok!(stat(READ_ONLY)));
    for (status, minor) in [(first, 0), (second, 16)] {
        eq!(status.st_mode & libc::S_IFMT, libc::S_IFBLK);
        eq!(status.st_mode & 0o777, 0o660);
        eq!((status.st_uid, status.st_gid), (0, 6));
        eq!((libc::major(status.st_rdev), libc::minor(status.st_rdev)), (254, minor));
        eq!((status.st_size, status.st_blocks), (0, 0));
    }
    check!(text(c"/proc/partitions").contains(&format!(" 254        0 {:>10} vda\n", BYTES / 1024)));
    check!(text(c"/proc/devices").contains("\nBlock devices:\n254 virtblk\n"));
}

fn sizes_and_properties() {
    let fd = disk();
    eq!(get(fd, BLKGETSIZE64), BYTES as u64);
    eq!(get(fd, BLKGETSIZE), BYTES as u64 / 512);
    eq!((get(fd, BLKSSZGET), get(fd, BLKPBSZGET)), (512, 512));
    // The largest up to a page that the size is a multiple of.
    eq!(get(fd, BLKBSZGET), 4096);
    eq!((get(fd, BLKROGET), get(ok!(open(READ_ONLY, libc::O_RDONLY, 0)), BLKROGET)), (0, 1));
    err!(call!(SYS_ioctl, fd, 0x5401, 0), ENOTTY);
    err!(call!(SYS_ioctl, fd, BLKGETSIZE64, 0), EFAULT);
}

fn a_place_beyond_the_end_cannot_be_sought() {
    let fd = disk();
    eq!(lseek(fd, 0, libc::SEEK_END), Ok(BYTES));
    eq!(lseek(fd, -7, libc::SEEK_END), Ok(BYTES - 7));
    eq!(lseek(fd, 7, libc::SEEK_CUR), Ok(BYTES));
    err!(lseek(fd, 1, libc::SEEK_CUR), EINVAL);
    err!(lseek(fd, BYTES as i64 + 1, libc::SEEK_SET), EINVAL);
    err!(lseek(fd, -1, libc::SEEK_SET), EINVAL);
    eq!(lseek(fd, 0, libc::SEEK_CUR), Ok(BYTES));
}

fn reads_end_where_the_disk_does() {
    let fd = disk();
    eq!(ok!(pwrite(fd, &pattern(1, BYTES), 0)), BYTES);
    let all = ok!(read_all(fd));
    check!(all == pattern(1, BYTES), "{} bytes are not what was written", all.len());
    eq!(read(fd, &mut [0; 100]), Ok(0));
    eq!(pread(fd, 5000, BYTES - 777), Ok(pattern(1, BYTES)[BYTES - 777..].to_vec()));
    eq!(pread(fd, 1, BYTES), Ok(Vec::new()));
    eq!(pread(fd, 1, usize::MAX >> 1), Ok(Vec::new()));
    eq!(pread(fd, 0, 0), Ok(Vec::new()));
}

fn writes_end_where_the_disk_does() {
    let fd = disk();
    eq!(pwrite(fd, &[7; 1000], BYTES - 300), Ok(300));
    err!(pwrite(fd, &[7], BYTES), ENOSPC);
    err!(pwrite(fd, &[7], BYTES + 512), ENOSPC);
    eq!(pwrite(fd, &[], BYTES), Ok(0));
    eq!(pread(fd, 1000, BYTES - 300), Ok(vec![7; 300]));
    eq!(lseek(fd, 0, libc::SEEK_END), Ok(BYTES));
    err!(write(fd, &[1]), ENOSPC);
}

fn parts_of_blocks_are_written_alone() {
    let fd = disk();
    let mut model = pattern(2, BYTES);
    eq!(ok!(pwrite(fd, &model, 0)), BYTES);
    for (at, count) in
        [(0, 1), (511, 2), (1000, 24), (1024, 512), (1535, 514), (4095, 200_000), (BYTES - 1, 1)]
    {
        let bytes = pattern(at + count, count);
        eq!(pwrite(fd, &bytes, at), Ok(count));
        model[at..at + count].copy_from_slice(&bytes);
        check!(ok!(pread(fd, BYTES, 0)) == model, "after {count} bytes at {at}");
    }
}

fn what_is_written_is_there_for_others() {
    let (one, other) = (disk(), ok!(open(DISK, libc::O_RDONLY, 0)));
    eq!(pwrite(one, b"for others", 5000), Ok(10));
    eq!(pread(other, 10, 5000), Ok(b"for others".to_vec()));
    in_child(|| eq!(pread(disk(), 10, 5000), Ok(b"for others".to_vec())));
    err!(pwrite(other, b"x", 0), EBADF);
    let blind = ok!(open(DISK, libc::O_WRONLY, 0));
    err!(pread(blind, 1, 0), EBADF);
}

fn a_vector_is_one_piece() {
    let fd = disk();
    let parts = [&b"one "[..], b"two ", b"three"];
    let vectors: Vec<_> = parts
        .iter()
        .map(|part| libc::iovec { iov_base: part.as_ptr() as *mut _, iov_len: part.len() })
        .collect();
    eq!(call!(SYS_pwritev, fd, vectors.as_ptr(), 3, 700, 0), Ok(13));
    eq!(pread(fd, 13, 700), Ok(b"one two three".to_vec()));
}

fn a_bad_buffer_moves_what_is_before_it() {
    let fd = disk();
    eq!(pwrite(fd, &[0; 8192], 0), Ok(8192));
    err!(call!(SYS_pwrite64, fd, 8, 100, 0), EFAULT);
    err!(call!(SYS_pread64, fd, 8, 100, 0), EFAULT);
    // One page that can be read, and nothing behind it.
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let at = ok!(call!(SYS_mmap, 0, 8192, access, kind, -1, 0));
    ok!(call!(SYS_munmap, at + 4096, 4096));
    eq!(call!(SYS_getrandom, at, 256, 0), Ok(256));
    eq!(call!(SYS_pwrite64, fd, at + 4096 - 700, 2000, 100), Ok(700));
    eq!(call!(SYS_pread64, fd, at + 4096 - 700, 2000, 0), Ok(700));
    eq!(pread(fd, 8192 - 800, 800), Ok(vec![0; 8192 - 800]));
}

fn a_read_only_disk_is_not_written() {
    let fd = ok!(open(READ_ONLY, libc::O_RDWR, 0));
    let before = ok!(pread(fd, 512, 0));
    err!(pwrite(fd, &[9; 512], 0), EPERM);
    err!(write_all(fd, &[9; 512]), EPERM);
    eq!(pread(fd, 512, 0), Ok(before));
}

fn what_is_written_can_be_flushed() {
    let fd = disk();
    eq!(pwrite(fd, b"kept", 0), Ok(4));
    eq!(call!(SYS_fsync, fd), Ok(0));
    eq!(call!(SYS_fdatasync, fd), Ok(0));
    eq!(call!(SYS_ioctl, fd, BLKFLSBUF, 0), Ok(0));
    eq!(call!(SYS_sync), Ok(0));
    eq!(call!(SYS_fsync, ok!(open(READ_ONLY, libc::O_RDONLY, 0))), Ok(0));
    let synchronous = ok!(open(DISK, libc::O_WRONLY | libc::O_SYNC, 0));
    eq!(write(synchronous, b"at once"), Ok(7));
    eq!(pread(fd, 7, 0), Ok(b"at once".to_vec()));
}

/// Each writes sectors of its own, some of them in parts that share a block with a neighbour's, and reads them back.
fn processes_use_a_disk_at_once() {
    const PROCESSES: usize = 12;
    const ROUNDS: usize = 20;
    let fd = disk();
    eq!(ok!(pwrite(fd, &vec![0; BYTES], 0)), BYTES);
    let children: Vec<i32> = (0..PROCESSES)
        .map(|index| {
            child(move || {
                let fd = disk();
                for round in 0..ROUNDS {
                    let own = pattern(index * 1000 + round, 5000);
                    let at = 60_000 + index * 5000;
                    eq!(pwrite(fd, &own, at), Ok(5000));
                    // Forty bytes of each block of 512 are this process's.
                    let at_small = round * 512 + index * 40;
                    eq!(pwrite(fd, &own[..40], at_small), Ok(40));
                    check!(ok!(pread(fd, 5000, at)) == own, "process {index}, round {round}");
                    check!(
                        ok!(pread(fd, 40, at_small)) == own[..40],
                        "process {index}, round {round}, small"
                    );
                }
            })
        })
        .collect();
    children.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
    for round in 0..ROUNDS {
        let block = ok!(pread(fd, PROCESSES * 40, round * 512));
        for (index, part) in block.chunks(40).enumerate() {
            check!(
                part == &pattern(index * 1000 + round, 5000)[..40],
                "block {round}, part {index} begins with {:?}",
                &part[..4]
            );
        }
    }
}

fn other_numbers_lead_nowhere() {
    guest_programs::fs::scratch();
    for (name, major, minor) in [("partition", 254, 1), ("absent", 254, 160), ("unknown", 8, 0)] {
        let name = cstr(name);
        ok!(call!(SYS_mknod, &*name, libc::S_IFBLK | 0o600, libc::makedev(major, minor)));
        err!(open(&name, libc::O_RDONLY, 0), ENXIO);
    }
    ok!(call!(SYS_mknod, c"same", libc::S_IFBLK | 0o600, libc::makedev(254, 0)));
    eq!(get(ok!(open(c"same", libc::O_RDONLY, 0)), BLKGETSIZE64), BYTES as u64);
}

fn only_those_allowed_may_open_it() {
    in_child(|| {
        ok!(call!(SYS_setgroups, 0, 0));
        ok!(call!(SYS_setresgid, 1000, 1000, 1000));
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(open(DISK, libc::O_RDONLY, 0), EACCES);
    });
    in_child(|| {
        ok!(call!(SYS_setresgid, 6, 6, 6));
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        let fd = disk();
        err!(call!(SYS_ioctl, fd, BLKFLSBUF, 0), EACCES);
        ok!(close(fd));
    });
}
