//! Hard links, symbolic links, removal.

use guest_programs::fs::{get, lstat, names, put, scratch, stat};
use guest_programs::sys::open;
use guest_programs::{Case, Sys, call, cases, check, eq, err, fs, mem, ok};
use std::ffi::CStr;

pub const CASES: &[Case] = cases![
    hard_links_share_everything,
    hard_link_errors,
    hard_link_follows_only_when_asked,
    symbolic_links_resolve,
    symbolic_link_errors,
    readlink_truncates_and_fails,
    link_loops_and_depth,
    unlink_errors,
    unlinkat_removes_directories,
    links_in_the_middle_of_a_path,
];

fn symlink(to: &CStr, path: &CStr) -> Sys {
    call!(SYS_symlinkat, to, libc::AT_FDCWD, path)
}

fn link(from: &CStr, to: &CStr) -> Sys {
    call!(SYS_link, from, to)
}

fn hard_links_share_everything() {
    scratch();
    put(c"a", b"one", 0o644);
    eq!(link(c"a", c"b"), Ok(0));
    let (a, b) = (ok!(stat(c"a")), ok!(stat(c"b")));
    eq!((a.st_ino, a.st_nlink, b.st_nlink), (b.st_ino, 2, 2));
    put(c"b", b"two", 0o600);
    eq!(get(c"a"), Ok(b"two".to_vec()));
    eq!(ok!(stat(c"a")).st_mode & 0o777, 0o600);
    eq!(call!(SYS_unlink, c"a"), Ok(0));
    eq!((get(c"b"), ok!(stat(c"b")).st_nlink), (Ok(b"two".to_vec()), 1));
}

fn hard_link_errors() {
    scratch();
    put(c"a", b"", 0o644);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    err!(link(c"a", c"a"), EEXIST);
    err!(link(c"a", c"d"), EEXIST);
    err!(link(c"missing", c"b"), ENOENT);
    err!(link(c"a", c"missing/b"), ENOENT);
    err!(link(c"a", c"a/b"), ENOTDIR);
    err!(link(c"d", c"e"), EPERM);
    err!(link(c"a", c""), ENOENT);
    err!(link(c"a", c"b/"), ENOENT | ENOTDIR);
    err!(call!(SYS_linkat, libc::AT_FDCWD, c"a", libc::AT_FDCWD, c"b", 0x10), EINVAL);
    ok!(call!(SYS_mount, c"none", c"d", c"tmpfs", 0, 0));
    err!(link(c"a", c"d/b"), EXDEV);
    ok!(call!(SYS_umount2, c"d", 0));
}

fn hard_link_follows_only_when_asked() {
    scratch();
    put(c"a", b"", 0o644);
    ok!(symlink(c"a", c"s"));
    ok!(link(c"s", c"t"));
    eq!(ok!(lstat(c"t")).st_mode & libc::S_IFMT, libc::S_IFLNK);
    ok!(call!(SYS_linkat, libc::AT_FDCWD, c"s", libc::AT_FDCWD, c"u", libc::AT_SYMLINK_FOLLOW));
    eq!(ok!(lstat(c"u")).st_ino, ok!(stat(c"a")).st_ino);
    // Through a descriptor.
    let fd = ok!(open(c"a", libc::O_RDONLY, 0));
    ok!(call!(SYS_linkat, fd, c"", libc::AT_FDCWD, c"v", libc::AT_EMPTY_PATH));
    eq!(ok!(stat(c"v")).st_nlink, 3);
}

fn symbolic_links_resolve() {
    let here = scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    put(c"d/f", b"content", 0o644);
    ok!(symlink(c"d/f", c"relative"));
    ok!(symlink(&fs::cstr(&format!("{}/d/f", here.to_string_lossy())), c"absolute"));
    ok!(symlink(c"../d/f", c"d/up"));
    ok!(symlink(c"relative", c"chain"));
    ok!(symlink(c"d", c"dir"));
    for path in [c"relative", c"absolute", c"d/up", c"chain", c"dir/f", c"dir/up", c"dir/../dir/f"] {
        eq!(get(path), Ok(b"content".to_vec()));
        check!(
            path == c"dir/f"
                || path == c"dir/../dir/f"
                || lstat(path).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFLNK)
        );
    }
    let st = ok!(lstat(c"relative"));
    eq!((st.st_size, st.st_mode), (3, libc::S_IFLNK | 0o777));
    // Removing removes the link.
    ok!(call!(SYS_unlink, c"relative"));
    err!(stat(c"chain"), ENOENT);
    check!(lstat(c"chain").is_ok() && stat(c"d/f").is_ok());
}

fn symbolic_link_errors() {
    scratch();
    put(c"f", b"", 0o644);
    err!(symlink(c"x", c"f"), EEXIST);
    err!(symlink(c"", c"s"), ENOENT);
    err!(symlink(c"x", c"missing/s"), ENOENT);
    err!(symlink(c"x", c"f/s"), ENOTDIR);
    let long = fs::cstr(&"x".repeat(4096));
    err!(symlink(&long, c"s"), ENAMETOOLONG);
    err!(call!(SYS_symlink, 0, c"s"), EFAULT);
    // A target of the greatest length is kept whole.
    let long = fs::cstr(&"x".repeat(4000));
    ok!(symlink(&long, c"s"));
    eq!(ok!(lstat(c"s")).st_size, 4000);
    let mut buf = [0u8; 4096];
    eq!(call!(SYS_readlink, c"s", buf.as_mut_ptr(), 4096), Ok(4000));
    eq!(&buf[..4000], long.to_bytes());
}

fn readlink_truncates_and_fails() {
    scratch();
    put(c"f", b"", 0o644);
    ok!(symlink(c"target", c"s"));
    let mut buf = [b'.'; 10];
    eq!(call!(SYS_readlink, c"s", buf.as_mut_ptr(), 10), Ok(6));
    eq!(&buf, b"target....");
    eq!(call!(SYS_readlink, c"s", buf.as_mut_ptr(), 3), Ok(3));
    err!(call!(SYS_readlink, c"s", buf.as_mut_ptr(), 0), EINVAL);
    err!(call!(SYS_readlink, c"f", buf.as_mut_ptr(), 10), EINVAL);
    err!(call!(SYS_readlink, c".", buf.as_mut_ptr(), 10), EINVAL);
    err!(call!(SYS_readlink, c"missing", buf.as_mut_ptr(), 10), ENOENT);
    err!(call!(SYS_readlink, c"s", mem::unmapped(), 10), EFAULT);
    let fd = ok!(open(c"s", libc::O_PATH | libc::O_NOFOLLOW, 0));
    eq!(call!(SYS_readlinkat, fd, c"", buf.as_mut_ptr(), 10), Ok(6));
}

fn link_loops_and_depth() {
    scratch();
    ok!(symlink(c"self", c"self"));
    err!(open(c"self", libc::O_RDONLY, 0), ELOOP);
    err!(stat(c"self/x"), ELOOP);
    ok!(lstat(c"self"));
    ok!(symlink(c"b", c"a"));
    ok!(symlink(c"a", c"b"));
    err!(stat(c"a"), ELOOP);
    // Forty in a row are followed, forty-one are not.
    put(c"l0", b"end", 0o644);
    for i in 1..=41 {
        ok!(symlink(&fs::cstr(&format!("l{}", i - 1)), &fs::cstr(&format!("l{i}"))));
    }
    ok!(stat(c"l40"));
    err!(stat(c"l41"), ELOOP);
}

fn unlink_errors() {
    scratch();
    put(c"f", b"", 0o644);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    err!(call!(SYS_unlink, c"missing"), ENOENT);
    err!(call!(SYS_unlink, c"d"), EISDIR | EPERM);
    err!(call!(SYS_unlink, c"f/x"), ENOTDIR);
    err!(call!(SYS_unlink, c"f/"), ENOTDIR);
    err!(call!(SYS_unlink, c""), ENOENT);
    err!(call!(SYS_unlink, c"."), EISDIR | EINVAL | EPERM);
    err!(call!(SYS_unlink, 0), EFAULT);
    err!(call!(SYS_unlinkat, libc::AT_FDCWD, c"f", 0x1), EINVAL);
    eq!(names(c"."), ["d", "f"]);
}

fn unlinkat_removes_directories() {
    scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    put(c"f", b"", 0o644);
    eq!(call!(SYS_unlinkat, libc::AT_FDCWD, c"d", libc::AT_REMOVEDIR), Ok(0));
    err!(call!(SYS_unlinkat, libc::AT_FDCWD, c"f", libc::AT_REMOVEDIR), ENOTDIR);
}

fn links_in_the_middle_of_a_path() {
    scratch();
    ok!(call!(SYS_mkdir, c"a", 0o755));
    ok!(call!(SYS_mkdir, c"a/b", 0o755));
    put(c"a/f", b"1", 0o644);
    ok!(symlink(c"a/b", c"s"));
    // `..` after a link is the parent of what it points to.
    eq!(get(c"s/../f"), Ok(b"1".to_vec()));
    put(c"plain", b"", 0o644);
    ok!(symlink(c"plain", c"t"));
    err!(stat(c"t/x"), ENOTDIR);
    err!(stat(c"t/"), ENOTDIR);
    ok!(symlink(c"b/", c"a/slash"));
    ok!(stat(c"a/slash"));
    // Made, renamed and removed through a link to a directory.
    put(c"s/new", b"", 0o644);
    eq!(names(c"a/b"), ["new"]);
    ok!(call!(SYS_rename, c"s/new", c"s/newer"));
    ok!(call!(SYS_unlink, c"s/newer"));
}
