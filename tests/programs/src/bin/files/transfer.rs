//! Reading, writing, seeking, sizes.

use guest_programs::errno::Errno;
use guest_programs::fs::{fstat, get, put, scratch, stat};
use guest_programs::process::in_child;
use guest_programs::sys::{lseek, open, read, write};
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok};

pub const CASES: &[Case] = cases![
    seek_everywhere,
    seek_data_and_holes,
    sparse_files_read_as_zero,
    positioned_transfers,
    vectors,
    vector_errors,
    positioned_vectors,
    large_file_in_pieces: 60,
    truncate_both_ways,
    truncate_errors,
    fallocate_modes,
    sendfile_between_files_and_pipes,
    copy_file_range_copies,
    unlinked_file_lives_on,
    file_size_limit,
    sync_calls,
    zero_length_transfers,
    transfers_end_where_memory_does,
    bad_descriptors,
    overlapping_offsets_in_shared_descriptor,
    no_space_left: 60,
];

fn rw(contents: &[u8]) -> i32 {
    scratch();
    put(c"f", contents, 0o644);
    ok!(open(c"f", libc::O_RDWR, 0))
}

fn seek_everywhere() {
    let fd = rw(b"0123456789");
    eq!(lseek(fd, 3, libc::SEEK_SET), Ok(3));
    eq!(lseek(fd, 3, libc::SEEK_CUR), Ok(6));
    eq!(lseek(fd, -1, libc::SEEK_END), Ok(9));
    let mut two = [0; 2];
    eq!(read(fd, &mut two), Ok(1));
    eq!(two[0], b'9');
    eq!(lseek(fd, 100, libc::SEEK_SET), Ok(100));
    eq!(read(fd, &mut two), Ok(0));
    err!(lseek(fd, -1, libc::SEEK_SET), EINVAL);
    err!(lseek(fd, -101, libc::SEEK_CUR), EINVAL);
    err!(lseek(fd, i64::MAX, libc::SEEK_END), EINVAL | EOVERFLOW);
    err!(lseek(fd, 0, 99), EINVAL);
    eq!(lseek(fd, 0, libc::SEEK_CUR), Ok(100));
    let (out, inn) = ok!(guest_programs::sys::pipe(0));
    err!(lseek(out, 0, libc::SEEK_CUR), ESPIPE);
    err!(lseek(inn, 0, libc::SEEK_SET), ESPIPE);
}

fn seek_data_and_holes() {
    // A filesystem may know nothing of holes: then the whole file is data, with a hole at its end.
    let fd = rw(b"");
    let size = 1 << 20;
    eq!(call!(SYS_pwrite64, fd, b"end".as_ptr(), 3, size - 3), Ok(3));
    let data = ok!(lseek(fd, 0, libc::SEEK_DATA));
    check!(data <= size - 3);
    let hole = ok!(lseek(fd, 0, libc::SEEK_HOLE));
    check!(hole == 0 || hole == size);
    eq!(lseek(fd, (size - 1) as i64, libc::SEEK_HOLE), Ok(size));
    eq!(lseek(fd, (size - 1) as i64, libc::SEEK_DATA), Ok(size - 1));
    err!(lseek(fd, size as i64, libc::SEEK_DATA), ENXIO);
    err!(lseek(fd, size as i64 + 5, libc::SEEK_HOLE), ENXIO);
}

fn sparse_files_read_as_zero() {
    let fd = rw(b"start");
    eq!(call!(SYS_pwrite64, fd, b"end".as_ptr(), 3, 1i64 << 32), Ok(3));
    let st = ok!(fstat(fd));
    eq!(st.st_size, (1 << 32) + 3);
    check!(st.st_blocks < 1000, "{} blocks", st.st_blocks);
    let mut buf = [7u8; 4096];
    for offset in [5i64, 4096, 1 << 20, (1 << 32) - 4096] {
        eq!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 4096, offset), Ok(4096));
        check!(buf.iter().all(|b| *b == 0));
    }
    eq!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 4096, 1i64 << 32), Ok(3));
    eq!(&buf[..3], b"end");
}

fn positioned_transfers() {
    let fd = rw(b"0123456789");
    let mut buf = [0u8; 4];
    eq!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 4, 2), Ok(4));
    eq!(&buf, b"2345");
    eq!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 4, 8), Ok(2));
    eq!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 4, 100), Ok(0));
    eq!(call!(SYS_pwrite64, fd, b"ab".as_ptr(), 2, 4), Ok(2));
    eq!(call!(SYS_pwrite64, fd, b"yz".as_ptr(), 2, 12), Ok(2));
    // The offset has not moved.
    eq!(lseek(fd, 0, libc::SEEK_CUR), Ok(0));
    eq!(get(c"f"), Ok(b"0123ab6789\0\0yz".to_vec()));
    err!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 4, -1), EINVAL);
    err!(call!(SYS_pwrite64, fd, buf.as_mut_ptr(), 4, -1), EINVAL);
    let (out, inn) = ok!(guest_programs::sys::pipe(0));
    err!(call!(SYS_pread64, out, buf.as_mut_ptr(), 4, 0), ESPIPE);
    err!(call!(SYS_pwrite64, inn, buf.as_mut_ptr(), 4, 0), ESPIPE);
}

fn iov(parts: &[&[u8]]) -> Vec<[usize; 2]> {
    parts.iter().map(|part| [part.as_ptr() as usize, part.len()]).collect()
}

fn vectors() {
    let fd = rw(b"");
    let parts = iov(&[b"one", b"", b"two", b"three"]);
    eq!(call!(SYS_writev, fd, parts.as_ptr(), parts.len()), Ok(11));
    eq!(get(c"f"), Ok(b"onetwothree".to_vec()));
    lseek(fd, 0, libc::SEEK_SET).ok();
    let (mut a, mut b, mut c) = ([0u8; 4], [0u8; 4], [0u8; 10]);
    let parts = [[a.as_mut_ptr() as usize, 4], [b.as_mut_ptr() as usize, 4], [c.as_mut_ptr() as usize, 10]];
    eq!(call!(SYS_readv, fd, parts.as_ptr(), 3), Ok(11));
    eq!((&a, &b, &c[..3]), (b"onet", b"woth", &b"ree"[..]));
    eq!(call!(SYS_readv, fd, parts.as_ptr(), 0), Ok(0));
    // The largest number of parts.
    let many = vec![[b"x".as_ptr() as usize, 1usize]; 1024];
    eq!(call!(SYS_writev, fd, many.as_ptr(), 1024), Ok(1024));
}

fn vector_errors() {
    let fd = rw(b"0123456789");
    let many = vec![[b"x".as_ptr() as usize, 1usize]; 1025];
    err!(call!(SYS_writev, fd, many.as_ptr(), 1025), EINVAL);
    err!(call!(SYS_writev, fd, many.as_ptr(), -1), EINVAL);
    err!(call!(SYS_writev, fd, mem::unmapped(), 1), EFAULT);
    let negative = [[b"x".as_ptr() as usize, usize::MAX]];
    err!(call!(SYS_writev, fd, negative.as_ptr(), 1), EINVAL);
    // A good part before a bad one: what could be done is told.
    let half = [[b"ab".as_ptr() as usize, 2], [mem::unmapped(), 2]];
    eq!(call!(SYS_writev, fd, half.as_ptr(), 2), Ok(2));
    let mut buf = [0u8; 2];
    let half = [[buf.as_mut_ptr() as usize, 2], [mem::KERNEL, 2]];
    err!(call!(SYS_readv, fd, half.as_ptr(), 2), EFAULT);
}

fn positioned_vectors() {
    let fd = rw(b"0123456789");
    let parts = iov(&[b"ab", b"cd"]);
    eq!(call!(SYS_pwritev, fd, parts.as_ptr(), 2, 3, 0), Ok(4));
    eq!(get(c"f"), Ok(b"012abcd789".to_vec()));
    let mut buf = [0u8; 3];
    let parts = [[buf.as_mut_ptr() as usize, 3]];
    eq!(call!(SYS_preadv, fd, parts.as_ptr(), 1, 2, 0), Ok(3));
    eq!(&buf, b"2ab");
    err!(call!(SYS_preadv, fd, parts.as_ptr(), 1, -1, -1), EINVAL);
    eq!(call!(SYS_preadv2, fd, parts.as_ptr(), 1, 7, 0, 0), Ok(3));
    eq!(&buf, b"789");
}

fn large_file_in_pieces() {
    let fd = rw(b"");
    const SIZE: usize = 2 << 20;
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    let mut at = 0;
    for chunk in [1usize, 7, 4095, 4096, 4097, 65536, 100_000].iter().cycle() {
        let n = (*chunk).min(SIZE - at);
        let data: Vec<u8> = (at..at + n).map(byte).collect();
        eq!(write(fd, &data), Ok(n));
        at += n;
        if at == SIZE {
            break;
        }
    }
    eq!(lseek(fd, 0, libc::SEEK_CUR), Ok(SIZE));
    let all = ok!(get(c"f"));
    eq!(all.len(), SIZE);
    check!(all.iter().enumerate().all(|(i, b)| *b == byte(i)));
    drop(all);
    check!(ok!(fstat(fd)).st_blocks as usize * 512 >= SIZE);
    // Overwrite in the middle.
    eq!(call!(SYS_pwrite64, fd, [0xaau8; 9000].as_ptr(), 9000, 1_000_001), Ok(9000));
    let all = ok!(get(c"f"));
    check!(all[1_000_001..1_009_001].iter().all(|b| *b == 0xaa));
    eq!((all[1_000_000], all[1_009_001], all.len()), (byte(1_000_000), byte(1_009_001), SIZE));
}

fn truncate_both_ways() {
    let fd = rw(&[b'x'; 10_000]);
    ok!(call!(SYS_ftruncate, fd, 5000));
    eq!(ok!(stat(c"f")).st_size, 5000);
    ok!(call!(SYS_truncate, c"f", 9000));
    let all = ok!(get(c"f"));
    check!(
        all.len() == 9000 && all[..5000].iter().all(|b| *b == b'x') && all[5000..].iter().all(|b| *b == 0)
    );
    ok!(call!(SYS_ftruncate, fd, 0));
    eq!(get(c"f"), Ok(vec![]));
    // The offset stays where it was: writing leaves a hole.
    lseek(fd, 3, libc::SEEK_SET).ok();
    eq!(write(fd, b"z"), Ok(1));
    eq!(get(c"f"), Ok(b"\0\0\0z".to_vec()));
}

fn truncate_errors() {
    let fd = rw(b"x");
    err!(call!(SYS_ftruncate, fd, -1), EINVAL);
    err!(call!(SYS_truncate, c"f", -1), EINVAL);
    err!(call!(SYS_truncate, c"missing", 0), ENOENT);
    err!(call!(SYS_truncate, c".", 0), EISDIR);
    let (out, _) = ok!(guest_programs::sys::pipe(0));
    err!(call!(SYS_ftruncate, out, 0), EINVAL);
    err!(call!(SYS_ftruncate, 999, 0), EBADF);
}

fn fallocate_modes() {
    let fd = rw(b"abc");
    eq!(call!(SYS_fallocate, fd, 0, 0, 8192), Ok(0));
    eq!(ok!(fstat(fd)).st_size, 8192);
    eq!(call!(SYS_fallocate, fd, libc::FALLOC_FL_KEEP_SIZE, 0, 16384), Ok(0));
    eq!(ok!(fstat(fd)).st_size, 8192);
    eq!(&ok!(get(c"f"))[..4], b"abc\0");
    eq!(call!(SYS_fallocate, fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 1, 4096), Ok(0));
    eq!(&ok!(get(c"f"))[..4], b"a\0\0\0");
    err!(call!(SYS_fallocate, fd, 0, -1, 5), EINVAL);
    err!(call!(SYS_fallocate, fd, 0, 0, 0), EINVAL);
    err!(call!(SYS_fallocate, fd, libc::FALLOC_FL_PUNCH_HOLE, 0, 5), EOPNOTSUPP);
    let reader = ok!(open(c"f", libc::O_RDONLY, 0));
    err!(call!(SYS_fallocate, reader, 0, 0, 5), EBADF);
    let (_, inn) = ok!(guest_programs::sys::pipe(0));
    err!(call!(SYS_fallocate, inn, 0, 0, 5), ESPIPE);
}

fn sendfile(out: i32, inn: i32, offset: Option<&mut i64>, count: usize) -> Sys {
    match offset {
        Some(offset) => call!(SYS_sendfile, out, inn, offset, count),
        None => call!(SYS_sendfile, out, inn, 0, count),
    }
}

fn sendfile_between_files_and_pipes() {
    let fd = rw(b"0123456789");
    let to = ok!(open(c"g", libc::O_RDWR | libc::O_CREAT, 0o644));
    let mut offset = 2i64;
    eq!(sendfile(to, fd, Some(&mut offset), 5), Ok(5));
    eq!((offset, lseek(fd, 0, libc::SEEK_CUR)), (7, Ok(0)));
    eq!(get(c"g"), Ok(b"23456".to_vec()));
    eq!(sendfile(to, fd, None, 100), Ok(10));
    eq!((get(c"g"), lseek(fd, 0, libc::SEEK_CUR)), (Ok(b"234560123456789".to_vec()), Ok(10)));
    eq!(sendfile(to, fd, None, 100), Ok(0));
    let (out, inn) = ok!(guest_programs::sys::pipe(0));
    offset = 8;
    eq!(sendfile(inn, fd, Some(&mut offset), 100), Ok(2));
    let mut two = [0; 4];
    eq!((read(out, &mut two), &two[..2]), (Ok(2), &b"89"[..]));
    err!(sendfile(to, out, None, 5), EINVAL);
    err!(sendfile(fd, 999, None, 5), EBADF);
    let reader = ok!(open(c"f", libc::O_RDONLY, 0));
    err!(sendfile(reader, fd, None, 5), EBADF);
}

fn copy_file_range_copies() {
    let fd = rw(b"0123456789");
    let to = ok!(open(c"g", libc::O_RDWR | libc::O_CREAT, 0o644));
    let (mut from, mut at) = (3i64, 2i64);
    eq!(call!(SYS_copy_file_range, fd, &mut from, to, &mut at, 4, 0), Ok(4));
    eq!((from, at), (7, 6));
    eq!(get(c"g"), Ok(b"\0\x003456".to_vec()));
    eq!(call!(SYS_copy_file_range, fd, 0, to, 0, 100, 0), Ok(10));
    eq!(call!(SYS_copy_file_range, fd, 0, to, 0, 100, 0), Ok(0));
    err!(call!(SYS_copy_file_range, fd, 0, to, 0, 100, 1), EINVAL);
    err!(call!(SYS_copy_file_range, 999, 0, to, 0, 100, 0), EBADF);
    let directory = ok!(open(c".", libc::O_RDONLY, 0));
    err!(call!(SYS_copy_file_range, directory, 0, to, 0, 100, 0), EISDIR);
}

fn unlinked_file_lives_on() {
    let fd = rw(b"still here");
    ok!(call!(SYS_unlink, c"f"));
    err!(stat(c"f"), ENOENT);
    eq!(ok!(fstat(fd)).st_nlink, 0);
    let mut buf = [0u8; 16];
    eq!(read(fd, &mut buf), Ok(10));
    eq!(write(fd, &[1; 100_000]), Ok(100_000));
    in_child(|| eq!(ok!(fstat(fd)).st_size, 100_010));
    // A new file of that name is another file.
    put(c"f", b"new", 0o644);
    eq!(call!(SYS_pread64, fd, buf.as_mut_ptr(), 5, 0), Ok(5));
    eq!(&buf[..5], b"still");
}

fn file_size_limit() {
    let fd = rw(b"");
    guest_programs::signal::handle(libc::SIGXFSZ, 0, guest_programs::signal::count);
    let limit = libc::rlimit { rlim_cur: 1000, rlim_max: 1000 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_FSIZE, &limit, 0));
    eq!(write(fd, &[0; 900]), Ok(900));
    eq!(write(fd, &[0; 900]), Ok(100));
    err!(write(fd, &[0; 900]), EFBIG);
    eq!(guest_programs::signal::counted(), 1);
    err!(call!(SYS_ftruncate, fd, 2000), EFBIG);
}

fn sync_calls() {
    let fd = rw(b"x");
    eq!(call!(SYS_fsync, fd), Ok(0));
    eq!(call!(SYS_fdatasync, fd), Ok(0));
    eq!(call!(SYS_syncfs, fd), Ok(0));
    err!(call!(SYS_fsync, 999), EBADF);
    let (out, _) = ok!(guest_programs::sys::pipe(0));
    err!(call!(SYS_fsync, out), EINVAL);
}

fn zero_length_transfers() {
    let fd = rw(b"abc");
    eq!(read(fd, &mut []), Ok(0));
    eq!(write(fd, &[]), Ok(0));
    eq!(call!(SYS_read, fd, 0, 0), Ok(0));
    eq!(call!(SYS_write, fd, 0, 0), Ok(0));
    eq!(lseek(fd, 0, libc::SEEK_CUR), Ok(0));
    // A count that is negative as a signed number.
    let mut byte = [0u8];
    err!(call!(SYS_read, fd, byte.as_mut_ptr(), -1), EFAULT | EINVAL);
}

fn bad_descriptors() {
    for fd in [-1, 999, i32::MAX, i32::MIN] {
        err!(read(fd, &mut [0]), EBADF);
        err!(write(fd, &[0]), EBADF);
        err!(lseek(fd, 0, 0), EBADF);
        err!(guest_programs::sys::close(fd), EBADF);
        err!(fstat(fd), EBADF);
        err!(call!(SYS_dup, fd), EBADF);
        err!(call!(SYS_fcntl, fd, libc::F_GETFL), EBADF);
        err!(call!(SYS_fchdir, fd), EBADF);
        err!(call!(SYS_ioctl, fd, libc::TCGETS, 0), EBADF);
    }
    let fd = rw(b"");
    ok!(guest_programs::sys::close(fd));
    err!(guest_programs::sys::close(fd), EBADF);
}

fn overlapping_offsets_in_shared_descriptor() {
    // Writers through one open file each get a place of their own.
    let fd = rw(b"");
    let pids: Vec<i32> = (0..4u8)
        .map(|n| {
            guest_programs::process::child(|| (0..200).for_each(|_| eq!(write(fd, &[b'A' + n; 7]), Ok(7))))
        })
        .collect();
    pids.into_iter().for_each(|pid| eq!(guest_programs::process::wait(pid), guest_programs::End::Exit(0)));
    let all = ok!(get(c"f"));
    eq!(all.len(), 4 * 200 * 7);
    check!(all.chunks(7).all(|chunk| chunk.iter().all(|b| *b == chunk[0])));
}

fn no_space_left() {
    // A filesystem of limited size says so, and is usable again once something is removed.
    scratch();
    ok!(call!(SYS_mkdir, c"m", 0o755));
    ok!(call!(SYS_mount, c"none", c"m", c"tmpfs", 0, c"size=256k"));
    let fd = ok!(open(c"m/f", libc::O_WRONLY | libc::O_CREAT, 0o644));
    let mut total = 0;
    loop {
        match write(fd, &[1; 10_000]) {
            Ok(n) => total += n,
            Err(e) => {
                err!(Err::<usize, _>(e), ENOSPC);
                break;
            }
        }
        check!(total <= 1 << 20);
    }
    check!(total > 128 * 1024 && total <= 256 * 1024, "{total}");
    ok!(guest_programs::sys::close(fd));
    ok!(call!(SYS_unlink, c"m/f"));
    put(c"m/g", &[2; 100_000], 0o644);
    ok!(call!(SYS_umount2, c"m", 0));
}

/// To the byte, whatever length a copy has and however much of it can be reached.
fn transfers_end_where_memory_does() {
    const LONGEST: usize = 100;
    let pattern: [u8; LONGEST] = std::array::from_fn(|index| index as u8 + 1);
    let fd = rw(&pattern);
    let area = mem::anon(2 * mem::PAGE);
    let end = area + mem::PAGE;
    ok!(mem::munmap(end, mem::PAGE));
    for length in 1..=LONGEST {
        for reach in 0..=length {
            let at = end - reach;
            let expected = if reach > 0 { Ok(reach) } else { Err(Errno(libc::EFAULT)) };
            let reached = mem::bytes(at, reach);
            reached.fill(0xee);
            eq!(call!(SYS_pread64, fd, at, length, 0), expected);
            eq!(&*reached, &pattern[..reach]);
            eq!(call!(SYS_pwrite64, fd, at, length, LONGEST), expected);
            let mut written = [0; LONGEST];
            ok!(call!(SYS_pread64, fd, written.as_mut_ptr(), LONGEST, LONGEST));
            eq!(&written[..reach], &pattern[..reach]);
            ok!(call!(SYS_ftruncate, fd, LONGEST));
        }
    }
}
