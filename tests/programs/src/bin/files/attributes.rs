//! stat, statx, modes, owners, times, access, filesystem information.

use guest_programs::fs::{fstat, lstat, put, scratch, stat};
use guest_programs::process::in_child;
use guest_programs::sys::{open, read, write, zeroed};
use guest_programs::time::{SECOND, clock};
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok};
use std::ffi::CStr;

pub const CASES: &[Case] = cases![
    stat_fields,
    stat_variants_agree,
    statx_fields,
    statx_errors,
    chmod_variants,
    chown_variants,
    chown_clears_set_user,
    times_set_and_now,
    times_errors,
    times_move_with_use,
    access_by_mode,
    faccess_errors,
    statfs_fields,
    mknod_kinds,
    inode_numbers_differ,
];

fn stat_fields() {
    scratch();
    put(c"f", &[0; 5000], 0o640);
    let st = ok!(stat(c"f"));
    eq!((st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size), (libc::S_IFREG | 0o640, 1, 0, 0, 5000));
    check!(st.st_blksize >= 512 && st.st_blocks >= 8 && st.st_ino != 0 && st.st_dev != 0);
    let now = ok!(clock(libc::CLOCK_REALTIME)) / SECOND;
    for time in [st.st_atime, st.st_mtime, st.st_ctime] {
        check!((now - 120..=now + 1).contains(&time), "{time} is not around {now}");
    }
    check!((0..SECOND).contains(&st.st_mtime_nsec));
    let (out, _) = ok!(guest_programs::sys::pipe(0));
    eq!(ok!(fstat(out)).st_mode & libc::S_IFMT, libc::S_IFIFO);
    eq!(ok!(stat(c".")).st_mode & libc::S_IFMT, libc::S_IFDIR);
}

fn stat_variants_agree() {
    scratch();
    put(c"f", b"123", 0o644);
    ok!(call!(SYS_symlink, c"f", c"s"));
    let by_path = ok!(stat(c"s"));
    let mut old: libc::stat = zeroed();
    ok!(call!(SYS_stat, c"s", &mut old));
    eq!((old.st_ino, old.st_size), (by_path.st_ino, 3));
    ok!(call!(SYS_lstat, c"s", &mut old));
    eq!((old.st_ino, old.st_size), (ok!(lstat(c"s")).st_ino, 1));
    let fd = ok!(open(c"s", libc::O_RDONLY, 0));
    eq!(ok!(fstat(fd)).st_ino, by_path.st_ino);
    ok!(call!(SYS_newfstatat, fd, c"", &mut old, libc::AT_EMPTY_PATH));
    eq!(old.st_ino, by_path.st_ino);
    err!(call!(SYS_newfstatat, libc::AT_FDCWD, c"f", &mut old, 0x1), EINVAL);
    err!(call!(SYS_stat, c"f", mem::unmapped()), EFAULT);
    err!(call!(SYS_stat, c"missing", &mut old), ENOENT);
}

fn statx(fd: i32, path: &CStr, flags: i32, mask: u32) -> Sys<libc::statx> {
    let mut stx: libc::statx = zeroed();
    call!(SYS_statx, fd, path, flags, mask, &mut stx)?;
    Ok(stx)
}

fn statx_fields() {
    scratch();
    put(c"f", b"12345", 0o604);
    let stx = ok!(statx(libc::AT_FDCWD, c"f", 0, libc::STATX_BASIC_STATS));
    let st = ok!(stat(c"f"));
    eq!(stx.stx_mask & libc::STATX_BASIC_STATS, libc::STATX_BASIC_STATS);
    eq!((u32::from(stx.stx_mode), stx.stx_size, stx.stx_ino), (st.st_mode, 5, st.st_ino));
    eq!((stx.stx_mtime.tv_sec, i64::from(stx.stx_mtime.tv_nsec)), (st.st_mtime, st.st_mtime_nsec));
    eq!(libc::makedev(stx.stx_dev_major, stx.stx_dev_minor), st.st_dev);
    eq!((stx.stx_nlink, stx.stx_uid, stx.stx_gid), (1, 0, 0));
    ok!(call!(SYS_symlink, c"f", c"s"));
    let link = ok!(statx(libc::AT_FDCWD, c"s", libc::AT_SYMLINK_NOFOLLOW, libc::STATX_TYPE));
    eq!(u32::from(link.stx_mode) & libc::S_IFMT, libc::S_IFLNK);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    eq!(ok!(statx(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_ALL)).stx_ino, st.st_ino);
}

fn statx_errors() {
    scratch();
    err!(statx(libc::AT_FDCWD, c"missing", 0, libc::STATX_ALL), ENOENT);
    err!(statx(libc::AT_FDCWD, c"", 0, libc::STATX_ALL), ENOENT);
    err!(statx(999, c"x", 0, libc::STATX_ALL), EBADF);
    err!(statx(libc::AT_FDCWD, c".", 0x1, libc::STATX_ALL), EINVAL);
    err!(statx(libc::AT_FDCWD, c".", 0, 0x8000_0000), EINVAL);
    err!(call!(SYS_statx, libc::AT_FDCWD, c".", 0, libc::STATX_ALL, mem::KERNEL), EFAULT);
}

fn chmod_variants() {
    scratch();
    put(c"f", b"", 0o644);
    let mode = |path: &CStr| ok!(stat(path)).st_mode & 0o7777;
    let before = ok!(stat(c"f"));
    eq!(call!(SYS_chmod, c"f", 0o4751), Ok(0));
    eq!(mode(c"f"), 0o4751);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    eq!(call!(SYS_fchmod, fd, 0o100_600), Ok(0));
    eq!(mode(c"f"), 0o600);
    eq!(call!(SYS_fchmodat, libc::AT_FDCWD, c"f", 0), Ok(0));
    eq!(mode(c"f"), 0);
    let after = ok!(stat(c"f"));
    check!((after.st_ctime, after.st_ctime_nsec) >= (before.st_ctime, before.st_ctime_nsec));
    ok!(call!(SYS_symlink, c"f", c"s"));
    eq!(call!(SYS_chmod, c"s", 0o444), Ok(0));
    eq!(mode(c"f"), 0o444);
    err!(call!(SYS_chmod, c"missing", 0o644), ENOENT);
    err!(call!(SYS_fchmod, 999, 0o644), EBADF);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    eq!(call!(SYS_chmod, c"d", 0o1777), Ok(0));
    eq!(mode(c"d"), 0o1777);
}

fn chown_variants() {
    scratch();
    put(c"f", b"", 0o644);
    let owner = |st: libc::stat| (st.st_uid, st.st_gid);
    eq!(call!(SYS_chown, c"f", 12, 34), Ok(0));
    eq!(owner(ok!(stat(c"f"))), (12, 34));
    eq!(call!(SYS_chown, c"f", -1, 56), Ok(0));
    eq!(owner(ok!(stat(c"f"))), (12, 56));
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    eq!(call!(SYS_fchown, fd, 78, -1), Ok(0));
    eq!(owner(ok!(stat(c"f"))), (78, 56));
    ok!(call!(SYS_symlink, c"f", c"s"));
    eq!(call!(SYS_lchown, c"s", 1, 2), Ok(0));
    eq!((owner(ok!(lstat(c"s"))), owner(ok!(stat(c"f")))), ((1, 2), (78, 56)));
    eq!(call!(SYS_fchownat, libc::AT_FDCWD, c"s", 3, 4, libc::AT_SYMLINK_NOFOLLOW), Ok(0));
    eq!(call!(SYS_fchownat, fd, c"", 5, 6, libc::AT_EMPTY_PATH), Ok(0));
    eq!((owner(ok!(lstat(c"s"))), owner(ok!(stat(c"f")))), ((3, 4), (5, 6)));
    err!(call!(SYS_chown, c"missing", 0, 0), ENOENT);
    err!(call!(SYS_fchownat, libc::AT_FDCWD, c"f", 0, 0, 0x1), EINVAL);
}

fn chown_clears_set_user() {
    scratch();
    put(c"f", b"", 0o6755);
    eq!(call!(SYS_chown, c"f", 1, 1), Ok(0));
    eq!(ok!(stat(c"f")).st_mode & 0o7777, 0o755);
}

fn utimens(path: &CStr, access: (i64, i64), modify: (i64, i64)) -> Sys {
    let times = [
        libc::timespec { tv_sec: access.0, tv_nsec: access.1 },
        libc::timespec { tv_sec: modify.0, tv_nsec: modify.1 },
    ];
    call!(SYS_utimensat, libc::AT_FDCWD, path, times.as_ptr(), 0)
}

fn times_set_and_now() {
    scratch();
    put(c"f", b"", 0o644);
    eq!(utimens(c"f", (1, 2), (1_000_000_000, 999_999_999)), Ok(0));
    let st = ok!(stat(c"f"));
    eq!((st.st_atime, st.st_mtime), (1, 1_000_000_000));
    check!(st.st_mtime_nsec == 999_999_999 || st.st_mtime_nsec == 0);
    eq!(utimens(c"f", (0, libc::UTIME_OMIT), (5, 0)), Ok(0));
    let st = ok!(stat(c"f"));
    eq!((st.st_atime, st.st_mtime), (1, 5));
    eq!(utimens(c"f", (0, libc::UTIME_NOW), (0, libc::UTIME_OMIT)), Ok(0));
    let st = ok!(stat(c"f"));
    check!(st.st_atime > 1 && st.st_mtime == 5);
    eq!(call!(SYS_utimensat, libc::AT_FDCWD, c"f", 0, 0), Ok(0));
    check!(ok!(stat(c"f")).st_mtime > 5);
    // By descriptor, and the old calls.
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    let times = [libc::timespec { tv_sec: 7, tv_nsec: 0 }; 2];
    eq!(call!(SYS_utimensat, fd, 0, times.as_ptr(), 0), Ok(0));
    eq!(ok!(stat(c"f")).st_mtime, 7);
    let times = [[8i64, 0], [9, 0]];
    eq!(call!(SYS_utimes, c"f", times.as_ptr()), Ok(0));
    eq!((ok!(stat(c"f")).st_atime, ok!(stat(c"f")).st_mtime), (8, 9));
    ok!(call!(SYS_symlink, c"f", c"s"));
    let times = [libc::timespec { tv_sec: 11, tv_nsec: 0 }; 2];
    eq!(call!(SYS_utimensat, libc::AT_FDCWD, c"s", times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW), Ok(0));
    eq!((ok!(lstat(c"s")).st_mtime, ok!(stat(c"f")).st_mtime), (11, 9));
}

fn times_errors() {
    scratch();
    put(c"f", b"", 0o644);
    err!(utimens(c"f", (0, 1_000_000_000), (0, 0)), EINVAL);
    err!(utimens(c"f", (0, -5), (0, 0)), EINVAL);
    err!(utimens(c"missing", (0, 0), (0, 0)), ENOENT);
    err!(call!(SYS_utimensat, libc::AT_FDCWD, c"f", mem::KERNEL, 0), EFAULT);
    err!(call!(SYS_utimensat, libc::AT_FDCWD, c"f", 0, 0x1), EINVAL);
    err!(call!(SYS_utimensat, 999, c"f", 0, 0), EBADF);
}

fn times_move_with_use() {
    scratch();
    put(c"f", b"x", 0o644);
    ok!(utimens(c"f", (5, 0), (5, 0)));
    let fd = ok!(open(c"f", libc::O_RDWR, 0));
    eq!(write(fd, b"y"), Ok(1));
    check!(ok!(fstat(fd)).st_mtime > 5);
    ok!(utimens(c"f", (5, 0), (5, 0)));
    eq!(read(fd, &mut [0]), Ok(0));
    eq!(ok!(fstat(fd)).st_mtime, 5);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    ok!(utimens(c"d", (5, 0), (5, 0)));
    put(c"d/x", b"", 0o644);
    check!(ok!(stat(c"d")).st_mtime > 5);
    ok!(utimens(c"d", (5, 0), (5, 0)));
    ok!(call!(SYS_unlink, c"d/x"));
    check!(ok!(stat(c"d")).st_mtime > 5);
}

fn access_by_mode() {
    scratch();
    put(c"plain", b"", 0o644);
    put(c"none", b"", 0o000);
    put(c"run", b"", 0o100);
    let access = |path: &CStr, how: i32| call!(SYS_access, path, how);
    // Root may read and write anything, and execute what somebody may execute.
    eq!(access(c"none", libc::R_OK | libc::W_OK), Ok(0));
    err!(access(c"none", libc::X_OK), EACCES);
    err!(access(c"plain", libc::X_OK), EACCES);
    eq!(access(c"run", libc::X_OK), Ok(0));
    err!(access(c"missing", libc::F_OK), ENOENT);
    err!(access(c"plain", 8), EINVAL);
    in_child(|| {
        // Real numbers count, not effective ones; unless asked for.
        ok!(call!(SYS_setresuid, 1000, 0, 0));
        err!(access(c"none", libc::R_OK), EACCES);
        eq!(access(c"plain", libc::R_OK), Ok(0));
        err!(access(c"plain", libc::W_OK), EACCES);
        eq!(call!(SYS_faccessat2, libc::AT_FDCWD, c"none", libc::R_OK, libc::AT_EACCESS), Ok(0));
    });
}

fn faccess_errors() {
    scratch();
    put(c"f", b"", 0o644);
    ok!(call!(SYS_symlink, c"nowhere", c"s"));
    err!(call!(SYS_faccessat, 999, c"f", 0), EBADF);
    err!(call!(SYS_faccessat2, libc::AT_FDCWD, c"f", 0, 0x1), EINVAL);
    err!(call!(SYS_faccessat, libc::AT_FDCWD, c"s", 0), ENOENT);
    eq!(call!(SYS_faccessat2, libc::AT_FDCWD, c"s", 0, libc::AT_SYMLINK_NOFOLLOW), Ok(0));
}

fn statfs_fields() {
    scratch();
    ok!(call!(SYS_mkdir, c"m", 0o755));
    ok!(call!(SYS_mount, c"none", c"m", c"tmpfs", 0, c"size=1m"));
    let mut fs: libc::statfs = zeroed();
    ok!(call!(SYS_statfs, c"m", &mut fs));
    eq!((fs.f_type, fs.f_namelen), (0x0102_1994, 255));
    eq!(fs.f_blocks * fs.f_bsize as u64, 1 << 20);
    let before = fs.f_bfree;
    put(c"m/f", &[1; 100_000], 0o644);
    let fd = ok!(open(c"m/f", libc::O_RDONLY, 0));
    ok!(call!(SYS_fstatfs, fd, &mut fs));
    check!((before - fs.f_bfree) * fs.f_bsize as u64 >= 100_000);
    ok!(guest_programs::sys::close(fd));
    ok!(call!(SYS_umount2, c"m", 0));
    err!(call!(SYS_statfs, c"missing", &mut fs), ENOENT);
    err!(call!(SYS_statfs, c".", mem::KERNEL), EFAULT);
    err!(call!(SYS_fstatfs, 999, &mut fs), EBADF);
}

fn mknod_kinds() {
    scratch();
    eq!(call!(SYS_mknod, c"plain", libc::S_IFREG | 0o600, 0), Ok(0));
    eq!(ok!(stat(c"plain")).st_mode, libc::S_IFREG | 0o600);
    eq!(call!(SYS_mknod, c"zero", 0o600, 0), Ok(0));
    eq!(ok!(stat(c"zero")).st_mode & libc::S_IFMT, libc::S_IFREG);
    eq!(call!(SYS_mknod, c"null", libc::S_IFCHR | 0o666, libc::makedev(1, 3)), Ok(0));
    eq!(ok!(stat(c"null")).st_rdev, libc::makedev(1, 3));
    eq!(write(ok!(open(c"null", libc::O_WRONLY, 0)), b"x"), Ok(1));
    err!(call!(SYS_mknod, c"plain", libc::S_IFREG | 0o600, 0), EEXIST);
    err!(call!(SYS_mknod, c"d", libc::S_IFDIR | 0o700, 0), EPERM);
    err!(call!(SYS_mknod, c"w", 0o170_000, 0), EINVAL);
    // A device that is not there can be named, not opened.
    eq!(call!(SYS_mknod, c"odd", libc::S_IFCHR | 0o666, libc::makedev(240, 77)), Ok(0));
    err!(open(c"odd", libc::O_RDONLY, 0), ENXIO | ENODEV);
}

fn inode_numbers_differ() {
    scratch();
    let mut seen: Vec<u64> = (0..100)
        .map(|i| {
            let name = guest_programs::fs::cstr(&format!("f{i}"));
            put(&name, b"", 0o644);
            ok!(stat(&name)).st_ino
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    eq!(seen.len(), 100);
}
