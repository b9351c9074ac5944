//! Error numbers (Linux include/uapi/asm-generic/errno-base.h and errno.h).

use core::fmt;
use core::num::NonZero;

/// A Linux error number.
///
/// A whole word and never 0, so that a result is returned in registers: a [`KResult`] of nothing in one, of a word or a
/// pointer in two. With any other size it would lie in the caller's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Errno(NonZero<u64>);

/// The result of anything that fails with an error number.
pub type KResult<T> = Result<T, Errno>;

impl Errno {
    /// The positive number.
    pub const fn number(self) -> i32 {
        self.0.get() as i32
    }

    /// The error with this number; none for 0 and what is no error's number.
    pub const fn from_number(number: i32) -> Option<Self> {
        if number > 0 && number < 4096 { Some(Self::new(number as u64)) } else { None }
    }

    const fn new(number: u64) -> Self {
        Self(NonZero::new(number).unwrap())
    }

    /// What a system call leaves in RAX.
    pub const fn to_rax(self) -> u64 {
        self.0.get().wrapping_neg()
    }

    /// Whether this is one of the kernel's own codes that ask for a restart after a signal.
    pub const fn is_restart(self) -> bool {
        matches!(
            self,
            Self::ERESTARTSYS | Self::ERESTARTNOINTR | Self::ERESTARTNOHAND | Self::ERESTART_RESTARTBLOCK
        )
    }
}

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self::new($number);)*
        }
        impl fmt::Debug for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(other) => write!(f, "Errno({other})"),
                }
            }
        }
        impl fmt::Display for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // A table is far smaller than the code of a match with a call for each text.
                const TEXTS: &[(Errno, &str)] = &[$((Errno::$name, $text)),*];
                match TEXTS.iter().find(|(errno, _)| errno == self) {
                    Some((_, text)) => f.write_str(text),
                    None => write!(f, "error {}", self.0),
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such file or directory";
    ESRCH = 3, "no such process";
    EINTR = 4, "interrupted system call";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "argument list too long";
    ENOEXEC = 8, "exec format error";
    EBADF = 9, "bad file descriptor";
    ECHILD = 10, "no child processes";
    EAGAIN = 11, "resource temporarily unavailable";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    ENOTBLK = 15, "block device required";
    EBUSY = 16, "device or resource busy";
    EEXIST = 17, "file exists";
    EXDEV = 18, "invalid cross-device link";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in system";
    EMFILE = 24, "too many open files";
    ENOTTY = 25, "inappropriate ioctl for device";
    ETXTBSY = 26, "text file busy";
    EFBIG = 27, "file too large";
    ENOSPC = 28, "no space left on device";
    ESPIPE = 29, "illegal seek";
    EROFS = 30, "read-only file system";
    EMLINK = 31, "too many links";
    EPIPE = 32, "broken pipe";
    EDOM = 33, "numerical argument out of domain";
    ERANGE = 34, "numerical result out of range";
    EDEADLK = 35, "resource deadlock avoided";
    ENAMETOOLONG = 36, "file name too long";
    ENOLCK = 37, "no locks available";
    ENOSYS = 38, "function not implemented";
    ENOTEMPTY = 39, "directory not empty";
    ELOOP = 40, "too many levels of symbolic links";
    ENODATA = 61, "no data available";
    ETIME = 62, "timer expired";
    EPROTO = 71, "protocol error";
    EOVERFLOW = 75, "value too large for defined data type";
    ELIBBAD = 80, "accessing a corrupted shared library";
    EUSERS = 87, "too many users";
    ENOTSOCK = 88, "socket operation on non-socket";
    EDESTADDRREQ = 89, "destination address required";
    EMSGSIZE = 90, "message too long";
    EPROTOTYPE = 91, "protocol wrong type for socket";
    ENOPROTOOPT = 92, "protocol not available";
    EPROTONOSUPPORT = 93, "protocol not supported";
    ESOCKTNOSUPPORT = 94, "socket type not supported";
    EOPNOTSUPP = 95, "operation not supported";
    EAFNOSUPPORT = 97, "address family not supported by protocol";
    EADDRINUSE = 98, "address already in use";
    EADDRNOTAVAIL = 99, "cannot assign requested address";
    ENETDOWN = 100, "network is down";
    ENETUNREACH = 101, "network is unreachable";
    ECONNABORTED = 103, "software caused connection abort";
    ECONNRESET = 104, "connection reset by peer";
    ENOBUFS = 105, "no buffer space available";
    EISCONN = 106, "transport endpoint is already connected";
    ENOTCONN = 107, "transport endpoint is not connected";
    ESHUTDOWN = 108, "cannot send after transport endpoint shutdown";
    ETOOMANYREFS = 109, "too many references";
    ETIMEDOUT = 110, "connection timed out";
    ECONNREFUSED = 111, "connection refused";
    EHOSTUNREACH = 113, "no route to host";
    EALREADY = 114, "operation already in progress";
    EINPROGRESS = 115, "operation now in progress";
    ECANCELED = 125, "operation canceled";
    EOWNERDEAD = 130, "owner died";
    ENOTRECOVERABLE = 131, "state not recoverable";
    ERESTARTSYS = 512, "restart if the handler allows it";
    ERESTARTNOINTR = 513, "restart always";
    ERESTARTNOHAND = 514, "restart unless a handler runs";
    ERESTART_RESTARTBLOCK = 516, "restart by restart_syscall";
}

impl From<platform::OutOfFrames> for Errno {
    fn from(_: platform::OutOfFrames) -> Self {
        Self::ENOMEM
    }
}
