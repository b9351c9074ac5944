//! Names and paths: lengths, odd characters, what resolves to what.

use guest_programs::fs::{cstr, get, names, put, scratch, stat};
use guest_programs::sys::open;
use guest_programs::{Case, call, cases, check, eq, err, mem, ok};

pub const CASES: &[Case] = cases![
    name_lengths,
    path_lengths,
    path_at_the_end_of_memory,
    odd_characters,
    dots_and_slashes,
    empty_path,
    not_a_directory_everywhere,
    same_file_by_many_paths,
];

fn name_lengths() {
    scratch();
    let longest = cstr(&"n".repeat(255));
    put(&longest, b"x", 0o644);
    eq!(get(&longest), Ok(b"x".to_vec()));
    eq!(names(c"."), ["n".repeat(255)]);
    let too_long = cstr(&"n".repeat(256));
    err!(open(&too_long, libc::O_WRONLY | libc::O_CREAT, 0o644), ENAMETOOLONG);
    err!(stat(&too_long), ENAMETOOLONG);
    err!(call!(SYS_mkdir, &*too_long, 0o755), ENAMETOOLONG);
    err!(call!(SYS_unlink, &*too_long), ENAMETOOLONG);
    err!(stat(&cstr(&format!("{}/x", "n".repeat(256)))), ENAMETOOLONG);
}

fn path_lengths() {
    scratch();
    // 4096 bytes with the NUL is the most.
    ok!(stat(&cstr(&format!("{}.", "./".repeat(2047)))));
    err!(stat(&cstr(&"./".repeat(2048))), ENAMETOOLONG);
    err!(stat(&cstr(&"x".repeat(100_000))), ENAMETOOLONG);
    ok!(stat(&cstr(&format!("{}.", "/".repeat(4094)))));
}

fn path_at_the_end_of_memory() {
    scratch();
    put(c"file", b"", 0o644);
    let page = mem::anon(2 * mem::PAGE);
    ok!(mem::munmap(page + mem::PAGE, mem::PAGE));
    // The NUL is the last byte there is.
    mem::bytes(page + mem::PAGE - 5, 5).copy_from_slice(b"file\0");
    ok!(call!(SYS_access, page + mem::PAGE - 5, 0));
    // No NUL before the end.
    mem::bytes(page + mem::PAGE - 5, 5).copy_from_slice(b"file/");
    err!(call!(SYS_access, page + mem::PAGE - 5, 0), EFAULT);
}

fn odd_characters() {
    scratch();
    let odd = [c" ", c"a b", c"\n", c"\xff\xfe", c"-rf", c"*", c"\x01", c"...", c".hidden", c"\xc3\xa4"];
    for name in odd {
        put(name, name.to_bytes(), 0o644);
    }
    for name in odd {
        eq!(get(name), Ok(name.to_bytes().to_vec()));
    }
    eq!(names(c".").len(), odd.len());
}

fn dots_and_slashes() {
    let here = scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    put(c"d/f", b"", 0o644);
    let inode = ok!(stat(c"d/f")).st_ino;
    let up = here.to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    for path in ["d//f", "./d/f", "d/./f", "d/../d/f", ".//.//d////f", &format!("../{up}/d/f")] {
        eq!(ok!(stat(&cstr(path))).st_ino, inode);
    }
    eq!(ok!(stat(c"/..")).st_ino, ok!(stat(c"/")).st_ino);
    eq!(ok!(stat(c"//")).st_ino, ok!(stat(c"/")).st_ino);
}

fn empty_path() {
    scratch();
    err!(open(c"", libc::O_RDONLY, 0), ENOENT);
    err!(stat(c""), ENOENT);
    err!(call!(SYS_newfstatat, libc::AT_FDCWD, c"", [0u8; 256].as_mut_ptr(), 0), ENOENT);
    err!(call!(SYS_truncate, c"", 0), ENOENT);
    let mut st = [0u8; 256];
    eq!(call!(SYS_newfstatat, libc::AT_FDCWD, c"", st.as_mut_ptr(), libc::AT_EMPTY_PATH), Ok(0));
}

fn not_a_directory_everywhere() {
    scratch();
    put(c"f", b"", 0o644);
    let at = libc::AT_FDCWD;
    err!(open(c"f/x", libc::O_RDONLY, 0), ENOTDIR);
    err!(stat(c"f/x"), ENOTDIR);
    err!(call!(SYS_mkdir, c"f/x", 0o755), ENOTDIR);
    err!(call!(SYS_unlink, c"f/x"), ENOTDIR);
    err!(call!(SYS_rmdir, c"f/x"), ENOTDIR);
    err!(call!(SYS_chmod, c"f/x", 0o644), ENOTDIR);
    err!(call!(SYS_access, c"f/x", 0), ENOTDIR);
    err!(call!(SYS_symlinkat, c"a", at, c"f/x"), ENOTDIR);
    err!(call!(SYS_mknodat, at, c"f/x", libc::S_IFREG | 0o644, 0), ENOTDIR);
    err!(call!(SYS_utimensat, at, c"f/x", 0, 0), ENOTDIR);
    err!(call!(SYS_chdir, c"f/x"), ENOTDIR);
    check!(stat(c"f").is_ok());
}

fn same_file_by_many_paths() {
    let here = scratch();
    put(c"f", b"1", 0o644);
    let absolute = cstr(&format!("{}/f", here.to_string_lossy()));
    let fd = ok!(open(c".", libc::O_RDONLY, 0));
    ok!(call!(SYS_chdir, c"/"));
    eq!(get(&absolute), Ok(b"1".to_vec()));
    let by_descriptor = ok!(call!(SYS_openat, fd, c"f", libc::O_RDONLY, 0)) as i32;
    eq!(ok!(guest_programs::fs::fstat(by_descriptor)).st_ino, ok!(stat(&absolute)).st_ino);
}
