//! Files: a scratch directory for each case, and what reads and writes whole files.

use crate::sys::{Sys, close, open, read_all, write_all, zeroed};
use crate::{call, ok};
use std::ffi::{CStr, CString};

/// Scratch directory of the case that runs as process `pid`; the runner removes it afterwards.
pub(crate) fn scratch_path(pid: i32) -> String {
    format!("/tmp/guest-programs.{pid}")
}

/// Makes an empty scratch directory, changes into it and gives its path. Call it from the case's own process.
pub fn scratch() -> CString {
    let path = cstr(&scratch_path(crate::sys::getpid()));
    ok!(call!(SYS_mkdir, &*path, 0o755));
    ok!(call!(SYS_chdir, &*path));
    ok!(call!(SYS_umask, 0o022));
    path
}

/// A C string; the text must not contain NUL.
pub fn cstr(text: &str) -> CString {
    match CString::new(text) {
        Ok(s) => s,
        Err(_) => crate::fail!("NUL in {text:?}"),
    }
}

/// Creates or replaces a file with these contents and this mode.
pub fn put(path: &CStr, contents: &[u8], mode: u32) {
    let fd = ok!(open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, mode));
    ok!(write_all(fd, contents));
    ok!(call!(SYS_fchmod, fd, mode));
    ok!(close(fd));
}

/// The whole contents of a file.
pub fn get(path: &CStr) -> Sys<Vec<u8>> {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let contents = read_all(fd);
    close(fd)?;
    contents
}

/// The whole of a text file.
pub fn text(path: &CStr) -> String {
    String::from_utf8_lossy(&ok!(get(path))).into_owned()
}

/// `stat`, following symbolic links.
pub fn stat(path: &CStr) -> Sys<libc::stat> {
    let mut st: libc::stat = zeroed();
    call!(SYS_newfstatat, libc::AT_FDCWD, path, &mut st, 0)?;
    Ok(st)
}

/// `lstat`.
pub fn lstat(path: &CStr) -> Sys<libc::stat> {
    let mut st: libc::stat = zeroed();
    call!(SYS_newfstatat, libc::AT_FDCWD, path, &mut st, libc::AT_SYMLINK_NOFOLLOW)?;
    Ok(st)
}

/// `fstat`.
pub fn fstat(fd: i32) -> Sys<libc::stat> {
    let mut st: libc::stat = zeroed();
    call!(SYS_fstat, fd, &mut st)?;
    Ok(st)
}

/// Names in a directory, sorted, without `.` and `..`.
pub fn names(path: &CStr) -> Vec<String> {
    let mut names: Vec<String> = ok!(entries(path)).into_iter().map(|(name, _, _)| name).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// All entries of a directory as getdents64 gives them: name, inode number, type.
pub fn entries(path: &CStr) -> Sys<Vec<(String, u64, u8)>> {
    let fd = open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut all = Vec::new();
    let mut buf = vec![0u8; 1024];
    loop {
        let n = call!(SYS_getdents64, fd, buf.as_mut_ptr(), buf.len())?;
        if n == 0 {
            break;
        }
        let mut rest = &buf[..n];
        while rest.len() >= 19 {
            let inode = u64::from_le_bytes(rest[..8].try_into().unwrap_or_default());
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let end = rest[19..length].iter().position(|b| *b == 0).unwrap_or(0);
            all.push((String::from_utf8_lossy(&rest[19..19 + end]).into_owned(), inode, rest[18]));
            rest = &rest[length..];
        }
    }
    close(fd)?;
    Ok(all)
}

/// Makes sure that /proc is there: mounts it where process 1 has not yet.
pub fn need_proc() {
    if stat(c"/proc/self/stat").is_err() {
        let _ = call!(SYS_mkdir, c"/proc", 0o555);
        ok!(call!(SYS_mount, c"proc", c"/proc", c"proc", 0, 0));
    }
}

/// Makes sure that /dev and its usual nodes are there: mounts devtmpfs and devpts where process 1 has not yet.
pub fn need_dev() {
    if stat(c"/dev/urandom").is_err() {
        let _ = call!(SYS_mkdir, c"/dev", 0o755);
        ok!(call!(SYS_mount, c"dev", c"/dev", c"devtmpfs", 0, 0));
    }
    if stat(c"/dev/pts/ptmx").is_err() {
        let _ = call!(SYS_mkdir, c"/dev/pts", 0o755);
        let _ = call!(SYS_mount, c"devpts", c"/dev/pts", c"devpts", 0, 0);
    }
}
