//! Mounting and unmounting tmpfs.

use guest_programs::fs::{get, names, put, scratch, stat};
use guest_programs::process::in_child;
use guest_programs::sys::{close, open};
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok};
use std::ffi::CStr;

pub const CASES: &[Case] = cases![
    mount_hides_and_unmount_shows,
    mount_crossed_by_dots,
    mount_busy_and_lazy,
    mount_read_only,
    mount_errors,
    mount_on_mount,
    bind_mount_shows_elsewhere,
    unmount_frees_contents,
];

fn tmpfs(on: &CStr, flags: u64, data: &CStr) -> Sys {
    call!(SYS_mount, c"none", on, c"tmpfs", flags, data)
}

fn umount(path: &CStr) -> Sys {
    call!(SYS_umount2, path, 0)
}

fn start() {
    scratch();
    ok!(call!(SYS_mkdir, c"m", 0o755));
}

fn mount_hides_and_unmount_shows() {
    start();
    put(c"m/below", b"", 0o644);
    let device = ok!(stat(c"m")).st_dev;
    eq!(tmpfs(c"m", 0, c"mode=711"), Ok(0));
    eq!(names(c"m"), Vec::<String>::new());
    let st = ok!(stat(c"m"));
    eq!(st.st_mode & 0o7777, 0o711);
    check!(st.st_dev != device);
    put(c"m/above", b"x", 0o644);
    eq!(umount(c"m"), Ok(0));
    eq!(names(c"m"), ["below"]);
}

fn mount_crossed_by_dots() {
    let here = scratch();
    ok!(call!(SYS_mkdir, c"m", 0o755));
    put(c"marker", b"", 0o644);
    ok!(tmpfs(c"m", 0, c""));
    ok!(call!(SYS_mkdir, c"m/d", 0o755));
    ok!(stat(c"m/../marker"));
    ok!(stat(c"m/d/../../marker"));
    in_child(|| {
        ok!(call!(SYS_chdir, c"m/d"));
        let mut buf = [0u8; 256];
        let n = ok!(call!(SYS_getcwd, buf.as_mut_ptr(), 256));
        eq!(String::from_utf8_lossy(&buf[..n - 1]), format!("{}/m/d", here.to_string_lossy()));
        ok!(call!(SYS_chdir, c".."));
        ok!(call!(SYS_chdir, c".."));
        ok!(stat(c"marker"));
    });
    ok!(umount(c"m"));
}

fn mount_busy_and_lazy() {
    start();
    ok!(tmpfs(c"m", 0, c""));
    put(c"m/f", b"kept", 0o644);
    let fd = ok!(open(c"m/f", libc::O_RDONLY, 0));
    err!(umount(c"m"), EBUSY);
    err!(call!(SYS_rmdir, c"m"), EBUSY);
    eq!(call!(SYS_umount2, c"m", libc::MNT_DETACH), Ok(0));
    eq!(names(c"m"), Vec::<String>::new());
    // What is open stays usable.
    eq!(guest_programs::sys::read_all(fd), Ok(b"kept".to_vec()));
    ok!(close(fd));
    ok!(call!(SYS_rmdir, c"m"));
}

fn mount_read_only() {
    start();
    ok!(tmpfs(c"m", 0, c""));
    put(c"m/f", b"x", 0o644);
    eq!(tmpfs(c"m", libc::MS_REMOUNT | libc::MS_RDONLY, c""), Ok(0));
    err!(open(c"m/f", libc::O_WRONLY, 0), EROFS);
    err!(open(c"m/g", libc::O_WRONLY | libc::O_CREAT, 0o644), EROFS);
    err!(call!(SYS_mkdir, c"m/d", 0o755), EROFS);
    err!(call!(SYS_unlink, c"m/f"), EROFS);
    err!(call!(SYS_rename, c"m/f", c"m/g"), EROFS);
    err!(call!(SYS_chmod, c"m/f", 0o600), EROFS);
    err!(call!(SYS_access, c"m/f", libc::W_OK), EROFS);
    eq!(get(c"m/f"), Ok(b"x".to_vec()));
    eq!(tmpfs(c"m", libc::MS_REMOUNT, c""), Ok(0));
    ok!(call!(SYS_unlink, c"m/f"));
    ok!(umount(c"m"));
}

fn mount_errors() {
    start();
    put(c"f", b"", 0o644);
    err!(tmpfs(c"missing", 0, c""), ENOENT);
    err!(tmpfs(c"f", 0, c""), ENOTDIR);
    err!(call!(SYS_mount, c"none", c"m", c"no-such-filesystem", 0, 0), ENODEV);
    err!(call!(SYS_mount, c"none", 0, c"tmpfs", 0, 0), EFAULT);
    err!(call!(SYS_mount, c"none", c"m", mem::KERNEL, 0, 0), EFAULT);
    err!(tmpfs(c"m", 0, c"no-such-option=1"), EINVAL);
    err!(umount(c"m"), EINVAL);
    err!(umount(c"missing"), ENOENT);
    err!(call!(SYS_umount2, c"m", 0x1000), EINVAL);
    err!(tmpfs(c"m", libc::MS_REMOUNT, c""), EINVAL);
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(tmpfs(c"m", 0, c""), EPERM);
        err!(umount(c"m"), EPERM);
    });
}

fn mount_on_mount() {
    start();
    ok!(tmpfs(c"m", 0, c""));
    put(c"m/one", b"", 0o644);
    ok!(tmpfs(c"m", 0, c""));
    put(c"m/two", b"", 0o644);
    eq!(names(c"m"), ["two"]);
    ok!(umount(c"m"));
    eq!(names(c"m"), ["one"]);
    ok!(umount(c"m"));
    err!(umount(c"m"), EINVAL);
}

fn bind_mount_shows_elsewhere() {
    start();
    ok!(call!(SYS_mkdir, c"source", 0o755));
    put(c"source/f", b"1", 0o644);
    ok!(call!(SYS_mount, c"source", c"m", 0, libc::MS_BIND, 0));
    eq!(get(c"m/f"), Ok(b"1".to_vec()));
    put(c"m/g", b"2", 0o644);
    eq!(get(c"source/g"), Ok(b"2".to_vec()));
    ok!(umount(c"m"));
}

fn unmount_frees_contents() {
    // Many times more than there is memory, if it were not freed.
    start();
    for _ in 0..64 {
        ok!(tmpfs(c"m", 0, c""));
        put(c"m/f", &vec![1; 1 << 20], 0o644);
        ok!(umount(c"m"));
    }
}
