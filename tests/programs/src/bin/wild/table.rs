//! Every system call that takes a pointer, with arguments that are harmless but for the bad pointer put among them.

/// An argument.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A plain value.
    V(i64),
    /// Descriptors of various kinds; the readable ones have something to read.
    File,
    Dir,
    PipeOut,
    PipeIn,
    Stream,
    Datagram,
    Epoll,
    Timer,
    Event,
    Tty,
    /// A path.
    Path,
    /// Structures of so many bytes that the kernel reads or writes whole.
    In(usize),
    Out(usize),
    /// Buffers of which a part may be transferred.
    InBuf(usize),
    OutBuf(usize),
    /// As In and Out, but null means "none".
    OptIn(usize),
    OptOut(usize),
    /// Structures that the kernel reads first and writes later; null may mean "none".
    InOut(usize),
    OptInOut(usize),
    /// A 32-bit length that is read and written.
    Length(u32),
}

use Arg::*;

impl Arg {
    /// For pointers: size, whether the kernel writes there, whether null is allowed.
    pub fn pointer(self) -> Option<(usize, bool, bool)> {
        match self {
            Path => Some((64, false, false)),
            In(n) | InBuf(n) => Some((n, false, false)),
            Out(n) | OutBuf(n) | InOut(n) => Some((n, true, false)),
            OptIn(n) => Some((n, false, true)),
            OptOut(n) | OptInOut(n) => Some((n, true, true)),
            Length(_) => Some((4, true, false)),
            _ => None,
        }
    }
}

/// A call and its arguments; `also` lists errors other than EFAULT that are as good (0: success too).
pub struct Call {
    pub name: &'static str,
    pub nr: i64,
    pub args: &'static [Arg],
    pub also: &'static [i32],
}

macro_rules! calls {
    ($($nr:ident($($arg:expr),*) $(or $($also:ident)|+)?;)*) => {
        &[$(Call { name: stringify!($nr), nr: libc::$nr, args: &[$($arg),*], also: &[$($(libc::$also),+)?] }),*]
    };
}

const HERE: Arg = V(libc::AT_FDCWD as i64);

pub const FILES: &[Call] = calls! {
    SYS_open(Path, V(0), V(0));
    SYS_openat(HERE, Path, V(0), V(0));
    SYS_creat(Path, V(0o644));
    SYS_stat(Path, Out(144));
    SYS_lstat(Path, Out(144));
    SYS_fstat(File, Out(144));
    SYS_newfstatat(HERE, Path, Out(144), V(0));
    SYS_statx(HERE, Path, V(0), V(0xfff), Out(256));
    SYS_access(Path, V(0));
    SYS_faccessat(HERE, Path, V(0));
    SYS_faccessat2(HERE, Path, V(0), V(0));
    SYS_chdir(Path) or ENOTDIR;
    SYS_chroot(Path) or ENOTDIR;
    SYS_mkdir(Path, V(0o755));
    SYS_mkdirat(HERE, Path, V(0o755));
    SYS_rmdir(Path);
    SYS_unlink(Path);
    SYS_unlinkat(HERE, Path, V(0));
    SYS_rename(Path, Path);
    SYS_renameat(HERE, Path, HERE, Path);
    SYS_renameat2(HERE, Path, HERE, Path, V(0));
    SYS_link(Path, Path) or EEXIST;
    SYS_linkat(HERE, Path, HERE, Path, V(0)) or EEXIST;
    SYS_symlink(Path, Path);
    SYS_symlinkat(Path, HERE, Path);
    SYS_readlink(Path, OutBuf(100), V(100)) or EINVAL;
    SYS_readlinkat(HERE, Path, OutBuf(100), V(100)) or EINVAL;
    SYS_chmod(Path, V(0o644));
    SYS_fchmodat(HERE, Path, V(0o644));
    SYS_chown(Path, V(0), V(0));
    SYS_lchown(Path, V(0), V(0));
    SYS_fchownat(HERE, Path, V(0), V(0), V(0));
    SYS_truncate(Path, V(8192));
    SYS_utimensat(HERE, Path, OptIn(32), V(0));
    SYS_utimes(Path, OptIn(32));
    SYS_utime(Path, OptIn(16));
    SYS_futimesat(HERE, Path, OptIn(32));
    SYS_mknod(Path, V(0o100644), V(0));
    SYS_mknodat(HERE, Path, V(0o100644), V(0));
    SYS_statfs(Path, Out(120));
    SYS_fstatfs(File, Out(120));
    SYS_getcwd(OutBuf(1), V(4096));
    SYS_getdents64(Dir, OutBuf(4096), V(4096));
    SYS_getdents(Dir, OutBuf(4096), V(4096)) or ENOSYS;
    SYS_mount(Path, Path, Path, V(0), OptIn(1)) or ENODEV | ENOTDIR | EINVAL;
    SYS_umount2(Path, V(0)) or EINVAL;
    SYS_getxattr(Path, In(16), OutBuf(16), V(16)) or ENOTSUP | ENODATA | ENOSYS | ERANGE;
    SYS_listxattr(Path, OutBuf(16), V(16)) or EXIT_SUCCESS | ENOTSUP | ENOSYS | ERANGE;
    SYS_name_to_handle_at(HERE, Path, Out(8), Out(4), V(0)) or EOVERFLOW | EOPNOTSUPP | ENOSYS | EINVAL;
    SYS_openat2(HERE, Path, In(24), V(24)) or ENOSYS;
};

pub const TRANSFERS: &[Call] = calls! {
    SYS_read(PipeOut, OutBuf(16), V(16));
    SYS_read(File, OutBuf(4096), V(4096));
    SYS_read(Event, OutBuf(8), V(8));
    SYS_write(PipeIn, InBuf(16), V(16));
    SYS_write(File, InBuf(4096), V(4096));
    SYS_pread64(File, OutBuf(16), V(16), V(0));
    SYS_pwrite64(File, InBuf(16), V(16), V(0));
    SYS_readv(PipeOut, In(16), V(1));
    SYS_writev(PipeIn, In(16), V(1));
    SYS_preadv(File, In(16), V(1), V(0), V(0));
    SYS_pwritev(File, In(16), V(1), V(0), V(0));
    SYS_sendfile(PipeIn, File, OptInOut(8), V(4));
    SYS_copy_file_range(File, OptInOut(8), File, OptInOut(8), V(4), V(0)) or EINVAL;
    SYS_splice(File, OptInOut(8), PipeIn, V(0), V(4), V(0)) or ENOSYS | EINVAL;
    SYS_vmsplice(PipeIn, In(16), V(1), V(0)) or ENOSYS | EBADF;
    SYS_pipe(Out(8));
    SYS_pipe2(Out(8), V(0));
    SYS_fcntl(File, V(5), Out(32)) or EINVAL;
    SYS_fcntl(File, V(6), In(32)) or EINVAL;
    SYS_ioctl(PipeOut, V(0x541b), Out(4));
    SYS_ioctl(PipeOut, V(0x5421), In(4));
    SYS_ioctl(Tty, V(0x5401), Out(36));
    SYS_ioctl(Tty, V(0x5402), In(36));
    SYS_ioctl(Tty, V(0x5413), Out(8));
    SYS_ioctl(Tty, V(0x5414), In(8));
    SYS_ioctl(Tty, V(0x540f), Out(4)) or ENOTTY;
    SYS_ioctl(Tty, V(0x8004_5430), Out(4));
    SYS_memfd_create(Path, V(0));
};

pub const MEMORY: &[Call] = calls! {
    SYS_munmap(In(4096), V(4096)) or EINVAL | EXIT_SUCCESS;
    SYS_mincore(In(4096), V(4096), Out(1)) or ENOMEM | EINVAL;
    SYS_mremap(In(4096), V(4096), V(8192), V(1)) or EINVAL;
    SYS_mprotect(In(4096), V(4096), V(1)) or ENOMEM | EINVAL;
    SYS_madvise(In(4096), V(4096), V(4)) or ENOMEM | EINVAL;
    SYS_msync(In(4096), V(4096), V(4)) or ENOMEM | EINVAL;
    SYS_mlock(In(4096), V(4096)) or ENOMEM | EINVAL;
    SYS_get_mempolicy(OptOut(4), OptOut(8), V(64), V(0), V(0)) or ENOSYS | EINVAL;
    SYS_process_vm_readv(V(1), In(16), V(1), In(16), V(1), V(0)) or ENOSYS | EPERM | ESRCH | EINVAL | EXIT_SUCCESS;
};

pub const PROCESSES: &[Call] = calls! {
    SYS_execve(Path, OptIn(8), OptIn(8));
    SYS_execveat(HERE, Path, OptIn(8), OptIn(8), V(0));
    SYS_wait4(V(-1), OptOut(4), V(1), OptOut(144)) or ECHILD;
    SYS_waitid(V(0), V(0), OptOut(128), V(5), OptOut(144)) or ECHILD;
    SYS_clone3(In(64), V(64)) or EINVAL | ENOSYS;
    SYS_getrusage(V(0), Out(144));
    SYS_times(OptOut(32));
    SYS_getrlimit(V(4), Out(16));
    SYS_setrlimit(V(4), In(16));
    SYS_prlimit64(V(0), V(4), OptIn(16), OptOut(16));
    SYS_prctl(V(15), InBuf(16), V(0), V(0), V(0));
    SYS_prctl(V(16), Out(16), V(0), V(0), V(0));
    SYS_prctl(V(2), Out(4), V(0), V(0), V(0));
    SYS_prctl(V(37), Out(4), V(0), V(0), V(0));
    SYS_arch_prctl(V(0x1003), Out(8));
    SYS_arch_prctl(V(0x1004), Out(8));
    SYS_set_robust_list(In(24), V(24)) or EXIT_SUCCESS;
    SYS_get_robust_list(V(0), Out(8), Out(8));
    SYS_set_tid_address(In(4)) or EXIT_SUCCESS;
    SYS_sched_getaffinity(V(0), V(128), Out(8));
    SYS_sched_setaffinity(V(0), V(8), In(8)) or EINVAL;
    SYS_sched_getparam(V(0), Out(4)) or EINVAL;
    SYS_sched_setparam(V(0), In(4)) or EINVAL;
    SYS_sched_setscheduler(V(0), V(0), In(4)) or EINVAL;
    SYS_sched_rr_get_interval(V(0), Out(16));
    SYS_sched_getattr(V(0), Out(48), V(48), V(0)) or EINVAL | ENOSYS;
    SYS_sched_setattr(V(0), In(48), V(0)) or EINVAL | ENOSYS;
    SYS_getcpu(OptOut(4), OptOut(4), V(0));
    SYS_getgroups(V(0), V(0)) or EXIT_SUCCESS;
    SYS_setgroups(V(2), In(8));
    SYS_getresuid(Out(4), Out(4), Out(4));
    SYS_getresgid(Out(4), Out(4), Out(4));
    SYS_capget(In(8), OptOut(24)) or EINVAL | EXIT_SUCCESS;
    SYS_capset(In(8), In(24)) or EINVAL | EPERM;
    SYS_rseq(In(32), V(32), V(0), V(0)) or EINVAL | ENOSYS | EBUSY | EPERM;
};

pub const SIGNALS: &[Call] = calls! {
    SYS_rt_sigaction(V(10), OptIn(32), OptOut(32), V(8));
    SYS_rt_sigprocmask(V(0), OptIn(8), OptOut(8), V(8));
    SYS_rt_sigpending(Out(8), V(8));
    SYS_rt_sigtimedwait(In(8), OptOut(128), OptIn(16), V(8)) or EAGAIN;
    SYS_rt_sigsuspend(In(8), V(8));
    SYS_rt_sigqueueinfo(V(1), V(10), In(128)) or EPERM;
    SYS_rt_tgsigqueueinfo(V(1), V(1), V(10), In(128)) or EPERM;
    SYS_sigaltstack(OptIn(24), OptOut(24)) or ENOMEM;
    SYS_signalfd4(V(-1), In(8), V(8), V(0));
    SYS_signalfd(V(-1), In(8), V(8));
};

pub const TIMES: &[Call] = calls! {
    SYS_clock_gettime(V(1), Out(16));
    SYS_clock_getres(V(1), OptOut(16));
    SYS_clock_settime(V(0), In(16)) or EINVAL;
    SYS_clock_nanosleep(V(1), V(0), In(16), OptOut(16)) or EXIT_SUCCESS;
    SYS_nanosleep(In(16), OptOut(16)) or EXIT_SUCCESS;
    SYS_gettimeofday(OptOut(16), OptOut(8));
    SYS_settimeofday(OptIn(16), V(0)) or EINVAL;
    SYS_time(OptOut(8));
    SYS_getitimer(V(0), Out(32));
    SYS_setitimer(V(0), OptIn(32), OptOut(32));
    SYS_timer_create(V(1), OptIn(64), Out(4)) or EINVAL;
    SYS_timerfd_settime(Timer, V(0), In(32), OptOut(32));
    SYS_timerfd_gettime(Timer, Out(32));
    SYS_adjtimex(Out(208)) or ENOSYS | EPERM | EINVAL;
};

pub const WAITING: &[Call] = calls! {
    SYS_poll(Out(16), V(2), V(0));
    SYS_ppoll(Out(16), V(2), OptInOut(16), OptIn(8), V(8)) or EXIT_SUCCESS;
    SYS_select(V(64), OptInOut(8), OptInOut(8), OptInOut(8), OptInOut(16)) or EBADF | EXIT_SUCCESS;
    SYS_pselect6(V(64), OptInOut(8), OptInOut(8), OptInOut(8), OptInOut(16), OptIn(16)) or EBADF | EXIT_SUCCESS;
    SYS_epoll_ctl(Epoll, V(1), PipeOut, In(12));
    SYS_epoll_wait(Epoll, Out(12), V(1), V(0));
    SYS_epoll_pwait(Epoll, Out(12), V(1), V(0), OptIn(8), V(8));
    SYS_epoll_pwait2(Epoll, Out(12), V(1), In(16), OptIn(8), V(8)) or ENOSYS | EXIT_SUCCESS;
    SYS_futex(In(4), V(0), V(1), OptIn(16), V(0), V(0)) or EAGAIN | EINVAL;
    SYS_futex(In(4), V(1), V(1), V(0), V(0), V(0)) or EINVAL;
    SYS_futex(In(4), V(128), V(1), OptIn(16), V(0), V(0)) or EAGAIN | EINVAL;
    SYS_futex(In(4), V(3), V(1), V(1), In(4), V(0)) or EINVAL;
    SYS_futex(In(4), V(4), V(1), V(1), In(4), V(0)) or EINVAL;
    SYS_futex(In(4), V(5), V(1), V(1), Out(4), V(0)) or EINVAL;
};

pub const SOCKETS: &[Call] = calls! {
    SYS_socketpair(V(1), V(1), V(0), Out(8));
    SYS_bind(Stream, In(16), V(16)) or EINVAL;
    SYS_connect(Stream, In(16), V(16)) or EISCONN | EINVAL;
    SYS_getsockname(Stream, Out(2), Length(110));
    SYS_getpeername(Stream, Out(2), Length(110));
    SYS_getsockopt(Stream, V(1), V(3), Out(4), Length(4));
    SYS_setsockopt(Stream, V(1), V(7), In(4), V(4));
    SYS_sendto(Stream, InBuf(16), V(16), V(0), V(0), V(0));
    SYS_sendto(Datagram, InBuf(16), V(16), V(0), V(0), V(0));
    SYS_recvfrom(Stream, OutBuf(16), V(16), V(0), V(0), V(0));
    SYS_recvfrom(Datagram, OutBuf(16), V(16), V(0x40), V(0), V(0)) or EAGAIN;
    SYS_sendmsg(Stream, In(56), V(0));
    SYS_recvmsg(Stream, InOut(56), V(0x40)) or EXIT_SUCCESS | EAGAIN;
    SYS_sendmmsg(Stream, InOut(64), V(1), V(0)) or ENOSYS;
    SYS_recvmmsg(Stream, InOut(64), V(1), V(0x40), V(0)) or EXIT_SUCCESS | EAGAIN | ENOSYS;
};

pub const SYSTEM: &[Call] = calls! {
    SYS_uname(Out(390));
    SYS_sysinfo(Out(112));
    SYS_sethostname(In(8), V(8));
    SYS_setdomainname(In(8), V(8));
    SYS_getrandom(OutBuf(16), V(16), V(0));
    SYS_syslog(V(3), OutBuf(16), V(16)) or ENOSYS | EPERM | EINVAL | EXIT_SUCCESS;
    SYS_swapon(Path, V(0)) or ENOSYS | EINVAL | EPERM;
    SYS_pivot_root(Path, Path) or ENOSYS | EINVAL | EPERM | ENOTDIR | EBUSY;
    SYS_init_module(In(16), V(16), Path) or ENOSYS | EPERM | ENOEXEC;
    SYS_add_key(Path, Path, OptIn(4), V(4), V(-3)) or ENOSYS | EPERM | ENODEV | EACCES | EINVAL;
    SYS_bpf(V(0), In(48), V(48)) or ENOSYS | EPERM | EINVAL | E2BIG;
    SYS_perf_event_open(In(112), V(0), V(-1), V(-1), V(0)) or ENOSYS | EPERM | EINVAL | ENOENT | EACCES | E2BIG | EOPNOTSUPP;
    SYS_io_setup(V(1), Out(8)) or ENOSYS | EINVAL;
    SYS_io_uring_setup(V(1), Out(120)) or ENOSYS | EPERM | EINVAL;
    SYS_mq_open(Path, V(0x42), V(0o600), OptIn(64)) or ENOSYS | EINVAL | EACCES | ENOENT;
    SYS_shmctl(V(0), V(2), Out(112)) or ENOSYS | EINVAL | EIDRM;
    SYS_semop(V(0), In(6), V(1)) or ENOSYS | EINVAL | EIDRM;
    SYS_msgsnd(V(0), In(16), V(8), V(0)) or ENOSYS | EINVAL | EIDRM;
    SYS_ptrace(V(4), V(1), V(0), In(8)) or ENOSYS | ESRCH | EIO | EPERM;
};
