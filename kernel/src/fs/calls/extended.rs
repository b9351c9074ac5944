//! Extended attributes: no file system here has any.

use crate::errno::Errno;
use crate::fs::caller::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, Caller, UserPath};
use crate::fs::table::{Fd, usable_file};
use crate::syscall::{Call, SysResult};

/// Setting, reading and removing one.
pub fn refuse(_call: &mut Call<'_>) -> SysResult {
    Err(Errno::EOPNOTSUPP)
}

fn list_path(call: &Call<'_>, flags: u32) -> SysResult {
    let path = UserPath::read(call.user(0))?;
    Caller::current().resolve_flags(AT_FDCWD, path.as_bytes(), flags)?;
    Ok(0)
}

pub fn list(call: &mut Call<'_>) -> SysResult {
    list_path(call, 0)
}

pub fn list_link(call: &mut Call<'_>) -> SysResult {
    list_path(call, AT_SYMLINK_NOFOLLOW)
}

pub fn list_open(call: &mut Call<'_>) -> SysResult {
    usable_file(Fd(call.int(0))).map(|_| 0)
}
