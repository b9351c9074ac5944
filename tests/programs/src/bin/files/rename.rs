//! rename and renameat2.

use guest_programs::fs::{get, lstat, names, put, scratch, stat};
use guest_programs::sys::{open, read};
use guest_programs::{Case, Sys, call, cases, check, eq, err, ok};
use std::ffi::CStr;

pub const CASES: &[Case] = cases![
    rename_file,
    rename_replaces_file,
    rename_directory,
    rename_kinds_must_match,
    rename_onto_own_link,
    rename_into_own_subtree,
    rename_dots_and_slashes,
    rename_errors,
    rename_across_filesystems,
    rename_symbolic_link_itself,
    rename_noreplace,
    rename_exchange,
    rename_keeps_open_files,
    rename_updates_parent_of_directory,
    rename_races_with_lookup,
];

fn rename(from: &CStr, to: &CStr) -> Sys {
    call!(SYS_rename, from, to)
}

fn renameat2(from: &CStr, to: &CStr, flags: u32) -> Sys {
    call!(SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, flags)
}

fn mkdir(path: &CStr) {
    ok!(call!(SYS_mkdir, path, 0o755));
}

fn rename_file() {
    scratch();
    put(c"a", b"x", 0o644);
    mkdir(c"d");
    let inode = ok!(stat(c"a")).st_ino;
    eq!(rename(c"a", c"b"), Ok(0));
    eq!(rename(c"b", c"d/c"), Ok(0));
    eq!((names(c"."), names(c"d")), (vec!["d".into()], vec!["c".into()]));
    eq!((ok!(stat(c"d/c")).st_ino, get(c"d/c")), (inode, Ok(b"x".to_vec())));
}

fn rename_replaces_file() {
    scratch();
    put(c"a", b"new", 0o644);
    put(c"b", b"old", 0o644);
    let old = ok!(open(c"b", libc::O_RDONLY, 0));
    eq!(rename(c"a", c"b"), Ok(0));
    eq!((names(c"."), get(c"b")), (vec!["b".into()], Ok(b"new".to_vec())));
    // The replaced file lives while it is open.
    let mut buf = [0; 3];
    eq!((read(old, &mut buf), &buf), (Ok(3), b"old"));
    eq!(ok!(guest_programs::fs::fstat(old)).st_nlink, 0);
}

fn rename_directory() {
    scratch();
    mkdir(c"a");
    mkdir(c"a/sub");
    put(c"a/sub/f", b"x", 0o644);
    eq!(rename(c"a", c"b"), Ok(0));
    eq!(get(c"b/sub/f"), Ok(b"x".to_vec()));
    // Onto an empty directory: replaced. Onto a full one: refused.
    mkdir(c"empty");
    eq!(rename(c"b", c"empty"), Ok(0));
    mkdir(c"full");
    put(c"full/x", b"", 0o644);
    err!(rename(c"empty", c"full"), ENOTEMPTY | EEXIST);
    eq!(names(c"."), ["empty", "full"]);
}

fn rename_kinds_must_match() {
    scratch();
    mkdir(c"d");
    put(c"f", b"", 0o644);
    err!(rename(c"f", c"d"), EISDIR);
    err!(rename(c"d", c"f"), ENOTDIR);
    eq!(names(c"."), ["d", "f"]);
}

fn rename_onto_own_link() {
    scratch();
    put(c"a", b"x", 0o644);
    ok!(call!(SYS_link, c"a", c"b"));
    // Two names of one file: nothing is done.
    eq!(rename(c"a", c"b"), Ok(0));
    eq!(names(c"."), ["a", "b"]);
    eq!(rename(c"a", c"a"), Ok(0));
    mkdir(c"d");
    eq!(rename(c"d", c"d"), Ok(0));
}

fn rename_into_own_subtree() {
    scratch();
    mkdir(c"a");
    mkdir(c"a/b");
    mkdir(c"a/b/c");
    err!(rename(c"a", c"a/x"), EINVAL);
    err!(rename(c"a", c"a/b/c/x"), EINVAL);
    err!(rename(c"a", c"a/b"), EINVAL);
    // Onto an ancestor, which is not empty.
    err!(rename(c"a/b/c", c"a"), ENOTEMPTY | EEXIST);
    eq!(rename(c"a/b/c", c"c"), Ok(0));
}

fn rename_dots_and_slashes() {
    scratch();
    mkdir(c"d");
    put(c"f", b"", 0o644);
    err!(rename(c".", c"x"), EBUSY | EINVAL);
    err!(rename(c"d/.", c"x"), EBUSY | EINVAL);
    err!(rename(c"d/..", c"x"), EBUSY | EINVAL);
    err!(rename(c"d", c"d/.."), EBUSY | EINVAL | ENOTEMPTY | EEXIST);
    err!(rename(c"f", c"."), EBUSY | EINVAL | EISDIR);
    err!(rename(c"f", c"new/"), ENOTDIR | ENOENT | EISDIR);
    err!(rename(c"f/", c"g"), ENOTDIR);
    eq!(rename(c"d/", c"e/"), Ok(0));
    eq!(names(c"."), ["e", "f"]);
}

fn rename_errors() {
    scratch();
    put(c"f", b"", 0o644);
    err!(rename(c"missing", c"x"), ENOENT);
    err!(rename(c"f", c"missing/x"), ENOENT);
    err!(rename(c"missing/f", c"x"), ENOENT);
    err!(rename(c"f/x", c"y"), ENOTDIR);
    err!(rename(c"f", c"f/y"), ENOTDIR);
    err!(rename(c"", c"y"), ENOENT);
    err!(rename(c"f", c""), ENOENT);
    err!(call!(SYS_rename, 0, c"x"), EFAULT);
    let long = guest_programs::fs::cstr(&"n".repeat(256));
    err!(rename(c"f", &long), ENAMETOOLONG);
    err!(renameat2(c"f", c"g", 0x80), EINVAL);
    err!(renameat2(c"f", c"g", 3), EINVAL);
    err!(call!(SYS_renameat, 999, c"f", libc::AT_FDCWD, c"g"), EBADF);
    err!(rename(c"/", c"x"), EBUSY);
}

fn rename_across_filesystems() {
    scratch();
    mkdir(c"m");
    put(c"f", b"", 0o644);
    ok!(call!(SYS_mount, c"none", c"m", c"tmpfs", 0, 0));
    err!(rename(c"f", c"m/f"), EXDEV);
    err!(rename(c"m", c"n"), EBUSY);
    put(c"m/g", b"1", 0o644);
    eq!(rename(c"m/g", c"m/h"), Ok(0));
    err!(rename(c"m/h", c"h"), EXDEV);
    ok!(call!(SYS_umount2, c"m", 0));
    eq!(rename(c"m", c"n"), Ok(0));
}

fn rename_symbolic_link_itself() {
    scratch();
    put(c"f", b"", 0o644);
    ok!(call!(SYS_symlink, c"f", c"s"));
    eq!(rename(c"s", c"t"), Ok(0));
    eq!(ok!(lstat(c"t")).st_mode & libc::S_IFMT, libc::S_IFLNK);
    // Onto a link: the link is replaced, not what it points to.
    put(c"g", b"g", 0o644);
    eq!(rename(c"g", c"t"), Ok(0));
    eq!((names(c"."), get(c"f"), get(c"t")), (vec!["f".into(), "t".into()], Ok(vec![]), Ok(b"g".to_vec())));
}

fn rename_noreplace() {
    scratch();
    put(c"a", b"a", 0o644);
    put(c"b", b"b", 0o644);
    err!(renameat2(c"a", c"b", libc::RENAME_NOREPLACE), EEXIST);
    err!(renameat2(c"a", c"a", libc::RENAME_NOREPLACE), EEXIST);
    eq!((get(c"a"), get(c"b")), (Ok(b"a".to_vec()), Ok(b"b".to_vec())));
    eq!(renameat2(c"a", c"c", libc::RENAME_NOREPLACE), Ok(0));
    eq!(renameat2(c"c", c"b", 0), Ok(0));
    eq!(names(c"."), ["b"]);
}

fn rename_exchange() {
    scratch();
    put(c"f", b"file", 0o644);
    mkdir(c"d");
    put(c"d/in", b"", 0o644);
    eq!(renameat2(c"f", c"d", libc::RENAME_EXCHANGE), Ok(0));
    eq!((get(c"d"), names(c"f")), (Ok(b"file".to_vec()), vec!["in".into()]));
    err!(renameat2(c"f", c"missing", libc::RENAME_EXCHANGE), ENOENT);
}

fn rename_keeps_open_files() {
    scratch();
    put(c"a", b"abc", 0o644);
    let fd = ok!(open(c"a", libc::O_RDWR, 0));
    eq!(rename(c"a", c"b"), Ok(0));
    eq!(guest_programs::sys::write(fd, b"X"), Ok(1));
    eq!(get(c"b"), Ok(b"Xbc".to_vec()));
}

fn rename_updates_parent_of_directory() {
    let here = scratch();
    mkdir(c"one");
    mkdir(c"two");
    mkdir(c"one/d");
    put(c"two/marker", b"", 0o644);
    let links = ok!(stat(c"two")).st_nlink;
    ok!(call!(SYS_chdir, c"one/d"));
    ok!(rename(c"../../one/d", c"../../two/d"));
    // The directory's way up is new, and so is the path to it.
    ok!(stat(c"../marker"));
    let mut buf = [0u8; 256];
    let n = ok!(call!(SYS_getcwd, buf.as_mut_ptr(), 256));
    eq!(String::from_utf8_lossy(&buf[..n - 1]), format!("{}/two/d", here.to_string_lossy()));
    eq!(ok!(stat(c"../../two")).st_nlink, links + 1);
}

fn rename_races_with_lookup() {
    // One process swaps two names; others never see the name missing.
    scratch();
    put(c"a", b"1", 0o644);
    let pid = guest_programs::process::child(|| {
        for i in 0..500 {
            put(c"new", &[b'0' + (i % 10) as u8], 0o644);
            ok!(rename(c"new", c"a"));
        }
    });
    let mut seen = 0;
    while guest_programs::process::wait_with(pid, libc::WNOHANG) == Ok((0, guest_programs::End::Exit(0))) {
        check!(ok!(get(c"a")).len() == 1);
        seen += 1;
    }
    check!(seen >= 1 && get(c"a") == Ok(b"9".to_vec()));
}
