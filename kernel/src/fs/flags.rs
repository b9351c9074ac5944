//! Flags of `open(2)` (arch/x86's numbers, include/uapi/asm-generic/fcntl.h).

/// The bits that say how the file is accessed.
pub const O_ACCMODE: u32 = 3;
/// For reading.
pub const O_RDONLY: u32 = 0;
/// For writing.
pub const O_WRONLY: u32 = 1;
/// For both.
pub const O_RDWR: u32 = 2;
/// Make it if it does not exist.
pub const O_CREAT: u32 = 0o100;
/// Fail if it exists.
pub const O_EXCL: u32 = 0o200;
/// Do not make it the controlling terminal.
pub const O_NOCTTY: u32 = 0o400;
/// Make it empty.
pub const O_TRUNC: u32 = 0o1000;
/// Write at the end.
pub const O_APPEND: u32 = 0o2000;
/// Do not wait.
pub const O_NONBLOCK: u32 = 0o4000;
/// Write data through.
pub const O_DSYNC: u32 = 0o10000;
/// Send SIGIO.
pub const O_ASYNC: u32 = 0o20000;
/// Bypass caches.
pub const O_DIRECT: u32 = 0o40000;
/// Allow large files.
pub const O_LARGEFILE: u32 = 0o100000;
/// Fail if it is no directory.
pub const O_DIRECTORY: u32 = 0o200000;
/// Fail if the last part is a symbolic link.
pub const O_NOFOLLOW: u32 = 0o400000;
/// Do not keep the time of access.
pub const O_NOATIME: u32 = 0o1000000;
/// Close at `execve(2)`.
pub const O_CLOEXEC: u32 = 0o2000000;
/// Write everything through.
pub const O_SYNC: u32 = 0o4010000;
/// Only a place in the tree.
pub const O_PATH: u32 = 0o10000000;
/// A file without a name in the directory given.
pub const O_TMPFILE: u32 = 0o20000000 | O_DIRECTORY;

/// What `fcntl(F_SETFL)` may change.
pub const SETTABLE: u32 = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;
/// What an open file does not keep.
pub const NOT_KEPT: u32 = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;
