//! open and its flags.

use guest_programs::fs::{fstat, get, put, scratch, stat};
use guest_programs::process::in_child;
use guest_programs::sys::{close, open, read, write};
use guest_programs::{Case, call, cases, check, eq, err, ok};

pub const CASES: &[Case] = cases![
    create_reads_back,
    create_exclusive,
    create_mode_and_umask,
    truncate_on_open,
    append_always_at_end,
    access_mode_is_kept_to,
    directory_flag,
    nofollow_flag,
    path_only_descriptor,
    close_on_exec_flag,
    create_through_dangling_link,
    trailing_slash,
    open_directory_for_writing,
    open_relative_to_descriptor,
    lowest_descriptor_is_given,
    descriptor_limit,
    nonblocking_fifo,
    unnamed_temporary_file,
    devices_of_dev: 30,
    open_by_unprivileged,
    creat_is_open,
];

const W: i32 = libc::O_WRONLY;
const R: i32 = libc::O_RDONLY;
const C: i32 = libc::O_CREAT;
const X: i32 = libc::O_EXCL;
const D: i32 = libc::O_DIRECTORY;

fn create_reads_back() {
    scratch();
    err!(open(c"f", R, 0), ENOENT);
    let fd = ok!(open(c"f", libc::O_RDWR | C, 0o644));
    eq!(write(fd, b"hello"), Ok(5));
    eq!(read(fd, &mut [0; 8]), Ok(0));
    ok!(close(fd));
    eq!(get(c"f"), Ok(b"hello".to_vec()));
    // Opening again with O_CREAT leaves it alone.
    ok!(close(ok!(open(c"f", W | C, 0o600))));
    eq!(get(c"f"), Ok(b"hello".to_vec()));
    eq!(ok!(stat(c"f")).st_mode, libc::S_IFREG | 0o644);
}

fn create_exclusive() {
    scratch();
    ok!(open(c"f", W | C | X, 0o644));
    err!(open(c"f", W | C | X, 0o644), EEXIST);
    err!(open(c".", W | C | X, 0o644), EEXIST);
    ok!(call!(SYS_symlinkat, c"nowhere", libc::AT_FDCWD, c"link"));
    err!(open(c"link", W | C | X, 0o644), EEXIST);
    err!(stat(c"nowhere"), ENOENT);
}

fn create_mode_and_umask() {
    scratch();
    for (umask, mode, expected) in
        [(0o022, 0o666, 0o644), (0o077, 0o777, 0o700), (0, 0o666, 0o666), (0o777, 0o777, 0)]
    {
        ok!(call!(SYS_umask, umask));
        let fd = ok!(open(c"f", libc::O_RDWR | C, mode));
        eq!(ok!(fstat(fd)).st_mode & 0o7777, expected);
        // The descriptor is good for what it was opened for, whatever the mode.
        eq!(write(fd, b"x"), Ok(1));
        ok!(close(fd));
        ok!(call!(SYS_unlink, c"f"));
    }
    ok!(call!(SYS_umask, 0));
    ok!(close(ok!(open(c"f", W | C, 0o7777))));
    eq!(ok!(stat(c"f")).st_mode & 0o7777, 0o7777);
}

fn truncate_on_open() {
    scratch();
    put(c"f", b"some contents", 0o644);
    ok!(close(ok!(open(c"f", W | libc::O_TRUNC, 0))));
    eq!(ok!(stat(c"f")).st_size, 0);
    put(c"f", b"some contents", 0o644);
    let fd = ok!(open(c"f", R, 0));
    in_child(|| _ = ok!(open(c"f", libc::O_RDWR | C | libc::O_TRUNC, 0)));
    eq!(read(fd, &mut [0; 4]), Ok(0));
}

fn append_always_at_end() {
    scratch();
    put(c"f", b"0123", 0o644);
    let first = ok!(open(c"f", libc::O_RDWR | libc::O_APPEND, 0));
    let second = ok!(open(c"f", W | libc::O_APPEND, 0));
    eq!(write(first, b"a"), Ok(1));
    eq!(write(second, b"b"), Ok(1));
    ok!(call!(SYS_lseek, first, 0, libc::SEEK_SET));
    eq!(write(first, b"c"), Ok(1));
    eq!(get(c"f"), Ok(b"0123abc".to_vec()));
    // The offset is behind what was written; reading goes by the offset.
    eq!(call!(SYS_lseek, first, 0, libc::SEEK_CUR), Ok(7));
    // Many processes appending lose nothing.
    let pids: Vec<i32> = (0..4u8)
        .map(|n| {
            guest_programs::process::child(|| {
                let fd = ok!(open(c"f", W | libc::O_APPEND, 0));
                (0..100).for_each(|_| eq!(write(fd, &[b'A' + n; 10]), Ok(10)));
            })
        })
        .collect();
    pids.into_iter().for_each(|pid| eq!(guest_programs::process::wait(pid), guest_programs::End::Exit(0)));
    let all = ok!(get(c"f"));
    eq!(all.len(), 7 + 4000);
    check!(all[7..].chunks(10).all(|chunk| chunk.iter().all(|b| *b == chunk[0])));
}

fn access_mode_is_kept_to() {
    scratch();
    put(c"f", b"x", 0o644);
    let reader = ok!(open(c"f", R, 0));
    let writer = ok!(open(c"f", W, 0));
    err!(write(reader, b"x"), EBADF);
    err!(read(writer, &mut [0]), EBADF);
    err!(call!(SYS_ftruncate, reader, 0), EINVAL | EBADF);
    err!(call!(SYS_pread64, writer, [0u8].as_ptr(), 1, 0), EBADF);
    err!(call!(SYS_pwrite64, reader, [0u8].as_ptr(), 1, 0), EBADF);
}

fn directory_flag() {
    scratch();
    put(c"f", b"", 0o644);
    err!(open(c"f", R | D, 0), ENOTDIR);
    ok!(open(c".", R | D, 0));
    ok!(call!(SYS_symlinkat, c".", libc::AT_FDCWD, c"link"));
    ok!(open(c"link", R | D, 0));
    err!(open(c"missing", R | D, 0), ENOENT);
}

fn nofollow_flag() {
    scratch();
    put(c"f", b"", 0o644);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    put(c"d/g", b"", 0o644);
    ok!(call!(SYS_symlinkat, c"f", libc::AT_FDCWD, c"link"));
    ok!(call!(SYS_symlinkat, c"d", libc::AT_FDCWD, c"dlink"));
    err!(open(c"link", R | libc::O_NOFOLLOW, 0), ELOOP);
    err!(open(c"dlink", R | libc::O_NOFOLLOW | D, 0), ENOTDIR | ELOOP);
    // Only the last part counts.
    ok!(open(c"dlink/g", R | libc::O_NOFOLLOW, 0));
    ok!(open(c"f", R | libc::O_NOFOLLOW, 0));
}

fn path_only_descriptor() {
    scratch();
    put(c"f", b"abc", 0o000);
    let fd = ok!(open(c"f", libc::O_PATH, 0));
    err!(read(fd, &mut [0]), EBADF);
    err!(write(fd, b"x"), EBADF);
    eq!(ok!(fstat(fd)).st_size, 3);
    ok!(call!(SYS_symlinkat, c"nowhere", libc::AT_FDCWD, c"link"));
    let link = ok!(open(c"link", libc::O_PATH | libc::O_NOFOLLOW, 0));
    eq!(ok!(fstat(link)).st_mode & libc::S_IFMT, libc::S_IFLNK);
    let directory = ok!(open(c".", libc::O_PATH | D, 0));
    ok!(call!(SYS_openat, directory, c"f", R, 0));
    err!(call!(SYS_getdents64, directory, [0u8; 64].as_ptr(), 64), EBADF);
    ok!(call!(SYS_fchdir, directory));
}

fn close_on_exec_flag() {
    scratch();
    let fd = ok!(open(c"f", W | C | libc::O_CLOEXEC, 0o644));
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    let fd = ok!(open(c"f", W, 0));
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(0));
}

fn create_through_dangling_link() {
    scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    ok!(call!(SYS_symlinkat, c"d/target", libc::AT_FDCWD, c"link"));
    err!(open(c"link", W, 0), ENOENT);
    let fd = ok!(open(c"link", W | C, 0o644));
    eq!(write(fd, b"via link"), Ok(8));
    eq!(get(c"d/target"), Ok(b"via link".to_vec()));
}

fn trailing_slash() {
    scratch();
    put(c"f", b"", 0o644);
    err!(open(c"f/", R, 0), ENOTDIR);
    err!(open(c"new/", W | C, 0o644), EISDIR);
    ok!(call!(SYS_mkdir, c"d", 0o755));
    ok!(open(c"d/", R, 0));
    ok!(open(c"d//", R, 0));
    ok!(open(c"d/.", R, 0));
    ok!(open(c"d/../d/./", R, 0));
    err!(open(c"f/.", R, 0), ENOTDIR);
    err!(open(c"f/..", R, 0), ENOTDIR);
}

fn open_directory_for_writing() {
    scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    err!(open(c"d", W, 0), EISDIR);
    err!(open(c"d", libc::O_RDWR, 0), EISDIR);
    err!(open(c"d", R | C, 0o644), EISDIR);
    let fd = ok!(open(c"d", R, 0));
    err!(read(fd, &mut [0; 16]), EISDIR);
}

fn open_relative_to_descriptor() {
    scratch();
    ok!(call!(SYS_mkdir, c"d", 0o755));
    put(c"d/f", b"1", 0o644);
    let d = ok!(open(c"d", R | D, 0));
    let f = ok!(call!(SYS_openat, d, c"f", R, 0)) as i32;
    eq!(read(f, &mut [0; 2]), Ok(1));
    err!(call!(SYS_openat, f, c"f", R, 0), ENOTDIR);
    err!(call!(SYS_openat, 999, c"f", R, 0), EBADF);
    err!(call!(SYS_openat, -1, c"f", R, 0), EBADF);
    // An absolute path does not look at the descriptor.
    ok!(call!(SYS_openat, 999, c"/", R, 0));
    // The directory may be removed while open: nothing can be made in it.
    ok!(call!(SYS_unlinkat, d, c"f", 0));
    ok!(call!(SYS_rmdir, c"d"));
    err!(call!(SYS_openat, d, c"g", W | C, 0o644), ENOENT);
}

fn lowest_descriptor_is_given() {
    scratch();
    let fds: Vec<i32> = (0..10).map(|_| ok!(open(c".", R, 0))).collect();
    check!(fds.windows(2).all(|w| w[1] == w[0] + 1));
    ok!(close(fds[7]));
    ok!(close(fds[3]));
    eq!(open(c".", R, 0), Ok(fds[3]));
    eq!(open(c".", R, 0), Ok(fds[7]));
    eq!(open(c".", R, 0), Ok(fds[9] + 1));
}

fn descriptor_limit() {
    let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &limit, 0));
    let mut opened = vec![];
    loop {
        match open(c"/", R, 0) {
            Ok(fd) => opened.push(fd),
            Err(e) => {
                err!(Err::<i32, _>(e), EMFILE);
                break;
            }
        }
    }
    eq!(opened.last(), Some(&39));
    err!(call!(SYS_dup, 0), EMFILE);
    err!(call!(SYS_dup2, 0, 40), EBADF);
    err!(call!(SYS_fcntl, 0, libc::F_DUPFD, 40), EINVAL);
    err!(guest_programs::sys::pipe(0), EMFILE);
    ok!(close(opened[0]));
    eq!(open(c"/", R, 0), Ok(opened[0]));
}

fn nonblocking_fifo() {
    scratch();
    ok!(call!(SYS_mknodat, libc::AT_FDCWD, c"fifo", libc::S_IFIFO | 0o600, 0));
    eq!(ok!(stat(c"fifo")).st_mode, libc::S_IFIFO | 0o600);
    err!(open(c"fifo", W | libc::O_NONBLOCK, 0), ENXIO);
    let reader = ok!(open(c"fifo", R | libc::O_NONBLOCK, 0));
    eq!(read(reader, &mut [0]), Ok(0));
    let writer = ok!(open(c"fifo", W | libc::O_NONBLOCK, 0));
    err!(read(reader, &mut [0]), EAGAIN);
    eq!(write(writer, b"q"), Ok(1));
    eq!(read(reader, &mut [0]), Ok(1));
    // Each side's open waits for the other.
    ok!(call!(SYS_mknodat, libc::AT_FDCWD, c"other", libc::S_IFIFO | 0o600, 0));
    let pid = guest_programs::process::child(|| {
        let fd = ok!(open(c"other", W, 0));
        eq!(write(fd, b"yes"), Ok(3));
    });
    let reader = ok!(open(c"other", R, 0));
    eq!(guest_programs::sys::read_all(reader), Ok(b"yes".to_vec()));
    eq!(guest_programs::process::wait(pid), guest_programs::End::Exit(0));
}

fn unnamed_temporary_file() {
    scratch();
    let fd = ok!(open(c".", libc::O_TMPFILE | libc::O_RDWR, 0o600));
    eq!(write(fd, b"secret"), Ok(6));
    eq!(ok!(fstat(fd)).st_nlink, 0);
    eq!(guest_programs::fs::names(c"."), Vec::<String>::new());
}

fn devices_of_dev() {
    guest_programs::fs::need_dev();
    let null = ok!(open(c"/dev/null", libc::O_RDWR, 0));
    eq!(write(null, b"gone"), Ok(4));
    eq!(read(null, &mut [1; 4]), Ok(0));
    let zero = ok!(open(c"/dev/zero", libc::O_RDWR, 0));
    let mut buf = [9u8; 10_000];
    eq!(read(zero, &mut buf), Ok(10_000));
    check!(buf.iter().all(|b| *b == 0));
    eq!(write(zero, &buf), Ok(10_000));
    let full = ok!(open(c"/dev/full", libc::O_RDWR, 0));
    err!(write(full, b"x"), ENOSPC);
    eq!(read(full, &mut buf), Ok(10_000));
    let st = ok!(fstat(null));
    eq!((st.st_mode & libc::S_IFMT, st.st_rdev), (libc::S_IFCHR, libc::makedev(1, 3)));
    // The null device stays at its place.
    eq!(call!(SYS_lseek, null, 100, libc::SEEK_SET), Ok(0));
}

fn open_by_unprivileged() {
    scratch();
    put(c"private", b"x", 0o600);
    put(c"public", b"x", 0o644);
    put(c"group", b"x", 0o640);
    ok!(call!(SYS_fchownat, libc::AT_FDCWD, c"group", 0, 1000, 0));
    ok!(call!(SYS_mkdir, c"closed", 0o700));
    put(c"closed/f", b"x", 0o644);
    in_child(|| {
        ok!(call!(SYS_setgroups, 0, 0));
        ok!(call!(SYS_setresgid, 1000, 1000, 1000));
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(open(c"private", R, 0), EACCES);
        ok!(open(c"public", R, 0));
        err!(open(c"public", W, 0), EACCES);
        ok!(open(c"group", R, 0));
        err!(open(c"group", libc::O_RDWR, 0), EACCES);
        err!(open(c"closed/f", R, 0), EACCES);
        err!(open(c"new", W | C, 0o644), EACCES);
        err!(call!(SYS_unlink, c"public"), EACCES);
        err!(call!(SYS_mkdir, c"n", 0o755), EACCES);
        err!(call!(SYS_chmod, c"public", 0o777), EPERM);
        err!(call!(SYS_chown, c"public", 1000, 1000), EPERM);
    });
    // Root is not stopped by modes.
    put(c"none", b"x", 0o000);
    ok!(open(c"none", libc::O_RDWR, 0));
}

fn creat_is_open() {
    scratch();
    put(c"f", b"old", 0o644);
    let fd = ok!(call!(SYS_creat, c"f", 0o600)) as i32;
    eq!(write(fd, b"n"), Ok(1));
    err!(read(fd, &mut [0]), EBADF);
    eq!(get(c"f"), Ok(b"n".to_vec()));
    let fd = ok!(call!(SYS_open, c"f", R, 0)) as i32;
    eq!(read(fd, &mut [0; 4]), Ok(1));
}
