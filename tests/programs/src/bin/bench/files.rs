//! Files and names, on the root file system.

use crate::{closing, timed};
use guest_programs::sys::{close, lseek, open, pipe, read};
use guest_programs::{call, fs, ok};

pub fn read_nothing(n: u32) -> i64 {
    let (out, inn) = ok!(pipe(0));
    let took = timed(n, || _ = read(out, &mut []));
    closing(&[out, inn]);
    took
}

pub fn open_close(n: u32) -> i64 {
    timed(n, || _ = ok!(close(ok!(open(c"/tmp", libc::O_RDONLY, 0)))))
}

fn with_file(body: impl FnOnce(i32) -> i64) -> i64 {
    let fd = ok!(open(c"/tmp/bench-file", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600));
    let took = body(fd);
    closing(&[fd]);
    ok!(call!(SYS_unlink, c"/tmp/bench-file"));
    took
}

pub fn write_4k(n: u32) -> i64 {
    let block = [7u8; 4096];
    with_file(|fd| {
        let mut at = 0;
        timed(n, || {
            ok!(call!(SYS_pwrite64, fd, block.as_ptr(), 4096, at));
            at = (at + 4096) % (1 << 20);
        })
    })
}

pub fn read_4k(n: u32) -> i64 {
    let mut block = [7u8; 4096];
    with_file(|fd| {
        (0..64).for_each(|i| _ = ok!(call!(SYS_pwrite64, fd, block.as_ptr(), 4096, i * 4096)));
        let mut at = 0;
        timed(n, || {
            ok!(call!(SYS_pread64, fd, block.as_mut_ptr(), 4096, at));
            at = (at + 4096) % (64 * 4096);
        })
    })
}

pub fn read_one_byte(n: u32) -> i64 {
    with_file(|fd| {
        ok!(call!(SYS_pwrite64, fd, c"x", 1, 0));
        timed(n, || {
            ok!(lseek(fd, 0, libc::SEEK_SET));
            ok!(read(fd, &mut [0]));
        })
    })
}

pub fn create_unlink(n: u32) -> i64 {
    timed(n, || {
        ok!(close(ok!(open(c"/tmp/bench-file", libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600))));
        ok!(call!(SYS_unlink, c"/tmp/bench-file"));
    })
}

/// Eight directories down.
pub fn stat_deep(n: u32) -> i64 {
    let mut path = "/tmp".to_owned();
    let mut made = vec![];
    for _ in 0..8 {
        path.push_str("/a-directory");
        made.push(fs::cstr(&path));
        let _ = call!(SYS_mkdir, &*fs::cstr(&path), 0o755);
    }
    let deepest = fs::cstr(&path);
    let took = timed(n, || _ = ok!(fs::stat(&deepest)));
    made.iter().rev().for_each(|path| _ = ok!(call!(SYS_rmdir, &**path)));
    took
}

/// A directory of a hundred files, opened, read to its end and closed.
pub fn list_directory(n: u32) -> i64 {
    ok!(call!(SYS_mkdir, c"/tmp/bench-directory", 0o755));
    let names: Vec<_> = (0..100).map(|i| fs::cstr(&format!("/tmp/bench-directory/file-{i}"))).collect();
    names.iter().for_each(|name| fs::put(name, b"", 0o644));
    let mut buffer = vec![0u8; 16384];
    let took = timed(n, || {
        let fd = ok!(open(c"/tmp/bench-directory", libc::O_RDONLY | libc::O_DIRECTORY, 0));
        while ok!(call!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())) > 0 {}
        ok!(close(fd));
    });
    names.iter().for_each(|name| _ = ok!(call!(SYS_unlink, &**name)));
    ok!(call!(SYS_rmdir, c"/tmp/bench-directory"));
    took
}
