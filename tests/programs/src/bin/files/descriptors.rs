//! dup, fcntl, locks, ioctl.

use guest_programs::fs::{get, put, scratch};
use guest_programs::process::{End, child, in_child, wait};
use guest_programs::sync::Gate;
use guest_programs::sys::{close, lseek, open, pipe, read, write, zeroed};
use guest_programs::{Case, call, cases, check, eq, err, ok};

pub const CASES: &[Case] = cases![
    dup_shares_the_open_file,
    dup2_replaces,
    dup3_flags,
    dup_at_least,
    descriptor_flags,
    status_flags,
    fcntl_errors,
    flock_excludes,
    flock_belongs_to_the_open_file,
    record_locks,
    record_locks_end_with_process_or_close,
    ioctl_basics,
    close_range_closes,
];

fn file() -> i32 {
    scratch();
    put(c"f", b"0123456789", 0o644);
    ok!(open(c"f", libc::O_RDWR, 0))
}

fn dup_shares_the_open_file() {
    let fd = file();
    let other = ok!(call!(SYS_dup, fd)) as i32;
    eq!(lseek(fd, 4, libc::SEEK_SET), Ok(4));
    let mut byte = [0];
    eq!((read(other, &mut byte), byte), (Ok(1), *b"4"));
    ok!(call!(SYS_fcntl, fd, libc::F_SETFL, libc::O_APPEND));
    check!(ok!(call!(SYS_fcntl, other, libc::F_GETFL)) as i32 & libc::O_APPEND != 0);
    ok!(close(fd));
    eq!(read(other, &mut byte), Ok(1));
}

fn dup2_replaces() {
    let fd = file();
    let (out, inn) = ok!(pipe(0));
    eq!(call!(SYS_dup2, fd, inn), Ok(inn as usize));
    // That was the pipe's only write end.
    eq!(read(out, &mut [0]), Ok(0));
    eq!(call!(SYS_dup2, fd, fd), Ok(fd as usize));
    eq!(call!(SYS_dup2, fd, 50), Ok(50));
    err!(call!(SYS_dup2, 999, 51), EBADF);
    err!(call!(SYS_dup2, 999, 999), EBADF);
    err!(call!(SYS_dup2, fd, -1), EBADF);
    // A failed one does not close its target.
    err!(call!(SYS_dup2, 999, 50), EBADF);
    eq!(call!(SYS_fcntl, 50, libc::F_GETFD), Ok(0));
}

fn dup3_flags() {
    let fd = file();
    eq!(call!(SYS_dup3, fd, 60, libc::O_CLOEXEC), Ok(60));
    eq!(call!(SYS_fcntl, 60, libc::F_GETFD), Ok(1));
    eq!(call!(SYS_dup2, fd, 60), Ok(60));
    eq!(call!(SYS_fcntl, 60, libc::F_GETFD), Ok(0));
    err!(call!(SYS_dup3, fd, fd, 0), EINVAL);
    err!(call!(SYS_dup3, fd, 61, libc::O_APPEND), EINVAL);
}

fn dup_at_least() {
    let fd = file();
    eq!(call!(SYS_fcntl, fd, libc::F_DUPFD, 100), Ok(100));
    eq!(call!(SYS_fcntl, fd, libc::F_DUPFD, 100), Ok(101));
    eq!(call!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 100), Ok(102));
    eq!(call!(SYS_fcntl, 102, libc::F_GETFD), Ok(1));
    err!(call!(SYS_fcntl, fd, libc::F_DUPFD, -1), EINVAL);
}

fn descriptor_flags() {
    let fd = file();
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(0));
    eq!(call!(SYS_fcntl, fd, libc::F_SETFD, 1), Ok(0));
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(1));
    // The flag is the descriptor's own.
    let other = ok!(call!(SYS_dup, fd));
    eq!(call!(SYS_fcntl, other, libc::F_GETFD), Ok(0));
}

fn status_flags() {
    let fd = file();
    let flags = |fd: i32| ok!(call!(SYS_fcntl, fd, libc::F_GETFL)) as i32;
    eq!(flags(fd) & libc::O_ACCMODE, libc::O_RDWR);
    // The access mode cannot be changed; flags of creation are not kept.
    ok!(call!(
        SYS_fcntl,
        fd,
        libc::F_SETFL,
        libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK | libc::O_CREAT
    ));
    eq!(
        flags(fd) & (libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK | libc::O_CREAT),
        libc::O_RDWR | libc::O_APPEND | libc::O_NONBLOCK
    );
    eq!(write(fd, b"x"), Ok(1));
    eq!(get(c"f"), Ok(b"0123456789x".to_vec()));
    let writer = ok!(open(c"f", libc::O_WRONLY | libc::O_TRUNC | libc::O_CREAT, 0));
    eq!(flags(writer) & (libc::O_ACCMODE | libc::O_TRUNC | libc::O_CREAT), libc::O_WRONLY);
    let (out, inn) = ok!(pipe(libc::O_NONBLOCK));
    eq!((flags(out) & 0o4003, flags(inn) & 0o4003), (libc::O_NONBLOCK, libc::O_NONBLOCK | libc::O_WRONLY));
}

fn fcntl_errors() {
    let fd = file();
    err!(call!(SYS_fcntl, fd, 9999, 0), EINVAL);
    err!(call!(SYS_fcntl, 999, libc::F_GETFD), EBADF);
    err!(call!(SYS_fcntl, fd, libc::F_GETLK, guest_programs::mem::KERNEL), EFAULT);
}

fn flock_excludes() {
    let fd = file();
    let other = ok!(open(c"f", libc::O_RDONLY, 0));
    let flock = |fd: i32, how: i32| call!(SYS_flock, fd, how);
    eq!(flock(fd, libc::LOCK_SH), Ok(0));
    eq!(flock(other, libc::LOCK_SH | libc::LOCK_NB), Ok(0));
    err!(flock(other, libc::LOCK_EX | libc::LOCK_NB), EAGAIN);
    eq!(flock(fd, libc::LOCK_UN), Ok(0));
    eq!(flock(other, libc::LOCK_EX | libc::LOCK_NB), Ok(0));
    err!(flock(fd, libc::LOCK_SH | libc::LOCK_NB), EAGAIN);
    err!(flock(fd, 77), EINVAL);
    err!(flock(999, libc::LOCK_SH), EBADF);
    // A waiter gets it when it is given back.
    let got = Gate::new();
    let pid = child(|| {
        let mine = ok!(open(c"f", libc::O_RDONLY, 0));
        eq!(flock(mine, libc::LOCK_EX), Ok(0));
        got.open();
    });
    check!(!got.is_open());
    eq!(flock(other, libc::LOCK_UN), Ok(0));
    got.pass();
    eq!(wait(pid), End::Exit(0));
}

fn flock_belongs_to_the_open_file() {
    let fd = file();
    eq!(call!(SYS_flock, fd, libc::LOCK_EX), Ok(0));
    in_child(|| {
        // Inherited with the open file: locking again is no conflict, unlocking unlocks for both.
        eq!(call!(SYS_flock, fd, libc::LOCK_EX | libc::LOCK_NB), Ok(0));
        ok!(close(fd));
    });
    let other = ok!(open(c"f", libc::O_RDONLY, 0));
    err!(call!(SYS_flock, other, libc::LOCK_SH | libc::LOCK_NB), EAGAIN);
    ok!(close(fd));
    eq!(call!(SYS_flock, other, libc::LOCK_SH | libc::LOCK_NB), Ok(0));
}

fn lock(kind: i32, start: i64, len: i64) -> libc::flock {
    let mut lock: libc::flock = zeroed();
    (lock.l_type, lock.l_whence, lock.l_start, lock.l_len) = (kind as i16, libc::SEEK_SET as i16, start, len);
    lock
}

fn record_locks() {
    let fd = file();
    let me = guest_programs::sys::getpid();
    eq!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_WRLCK, 2, 4)), Ok(0));
    in_child(|| {
        err!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_RDLCK, 5, 10)), EAGAIN | EACCES);
        eq!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_WRLCK, 6, 10)), Ok(0));
        let mut query = lock(libc::F_WRLCK, 0, 0);
        eq!(call!(SYS_fcntl, fd, libc::F_GETLK, &mut query), Ok(0));
        eq!((i32::from(query.l_type), query.l_start, query.l_len, query.l_pid), (libc::F_WRLCK, 2, 4, me));
        let mut query = lock(libc::F_WRLCK, 0, 2);
        eq!(call!(SYS_fcntl, fd, libc::F_GETLK, &mut query), Ok(0));
        eq!(i32::from(query.l_type), libc::F_UNLCK);
    });
    // Unlocking the middle splits it.
    eq!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_UNLCK, 3, 1)), Ok(0));
    in_child(|| {
        eq!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_WRLCK, 3, 1)), Ok(0));
        err!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_WRLCK, 2, 1)), EAGAIN | EACCES);
    });
    err!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(99, 0, 0)), EINVAL);
    let reader = ok!(open(c"f", libc::O_RDONLY, 0));
    err!(call!(SYS_fcntl, reader, libc::F_SETLK, &lock(libc::F_WRLCK, 0, 0)), EBADF);
}

fn record_locks_end_with_process_or_close() {
    let fd = file();
    let (locked, gate) = (Gate::new(), Gate::new());
    let pid = child(|| {
        eq!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_WRLCK, 0, 0)), Ok(0));
        locked.open();
        gate.pass();
    });
    locked.pass();
    err!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_RDLCK, 0, 1)), EAGAIN | EACCES);
    gate.open();
    // Waits until the holder is gone.
    eq!(call!(SYS_fcntl, fd, libc::F_SETLKW, &lock(libc::F_WRLCK, 0, 1)), Ok(0));
    eq!(wait(pid), End::Exit(0));
    // Closing any descriptor of the file gives up this process's locks.
    let other = ok!(open(c"f", libc::O_RDONLY, 0));
    ok!(close(other));
    in_child(|| eq!(call!(SYS_fcntl, fd, libc::F_SETLK, &lock(libc::F_WRLCK, 0, 0)), Ok(0)));
}

fn ioctl_basics() {
    let fd = file();
    err!(call!(SYS_ioctl, fd, libc::TCGETS, [0u8; 64].as_mut_ptr()), ENOTTY);
    err!(call!(SYS_ioctl, fd, 0xdead, 0), ENOTTY);
    let (out, inn) = ok!(pipe(0));
    eq!(write(inn, b"four"), Ok(4));
    let mut n = 0i32;
    eq!(call!(SYS_ioctl, out, libc::FIONREAD, &mut n), Ok(0));
    eq!(n, 4);
    let on = 1i32;
    eq!(call!(SYS_ioctl, out, libc::FIONBIO, &on), Ok(0));
    check!(ok!(call!(SYS_fcntl, out, libc::F_GETFL)) as i32 & libc::O_NONBLOCK != 0);
    eq!(call!(SYS_ioctl, fd, libc::FIOCLEX, 0), Ok(0));
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(1));
    eq!(call!(SYS_ioctl, fd, libc::FIONCLEX, 0), Ok(0));
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(0));
}

fn close_range_closes() {
    let fd = file();
    for to in 100..110 {
        ok!(call!(SYS_dup2, fd, to));
    }
    eq!(call!(SYS_close_range, 102, 105, 0), Ok(0));
    let open = |fd: i32| call!(SYS_fcntl, fd, libc::F_GETFD).is_ok();
    eq!(
        (100..110).map(open).collect::<Vec<_>>(),
        [true, true, false, false, false, false, true, true, true, true]
    );
    eq!(call!(SYS_close_range, 107, 108, 4), Ok(0));
    eq!((call!(SYS_fcntl, 107, libc::F_GETFD), call!(SYS_fcntl, 109, libc::F_GETFD)), (Ok(1), Ok(0)));
    eq!(call!(SYS_close_range, 106, u32::MAX, 0), Ok(0));
    check!(!open(109));
    err!(call!(SYS_close_range, 5, 4, 0), EINVAL);
    err!(call!(SYS_close_range, 5, 6, 1), EINVAL);
}
