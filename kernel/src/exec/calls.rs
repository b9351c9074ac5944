//! The system calls.

use alloc::vec::Vec;

use super::execute;
use super::program::{AT_CURRENT_DIRECTORY, Program, Start, copy};
use super::strings::{Budget, StringList};
use crate::errno::{Errno, KResult};
use crate::fs::{self, Fd, OnExec};
use crate::mm::UserAddr;
use crate::process::{Resource, current};
use crate::syscall::{Call, Handler, SysResult, numbers as nr};

/// This subsystem's system calls.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[(nr::EXECVE, execve), (nr::EXECVEAT, execveat)];

/// The longest path, its NUL included.
const PATH_MAX: usize = 4096;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;

/// `execve(2)`
fn execve(call: &mut Call<'_>) -> SysResult {
    let path = call.user(0).read_string(PATH_MAX, Errno::ENAMETOOLONG)?;
    run(call, AT_CURRENT_DIRECTORY, path, (1, 2), 0)
}

/// `execveat(2)`
fn execveat(call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(4);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = call.user(1).read_string(PATH_MAX, Errno::ENAMETOOLONG)?;
    run(call, call.int(0), path, (2, 3), flags)
}

fn run(
    call: &mut Call<'_>,
    directory: i32,
    path: Vec<u8>,
    (arguments, environment): (usize, usize),
    flags: u32,
) -> SysResult {
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let file = fs::open_executable(directory, &path, flags)?;
    let (file_name, name_stays) = if directory == AT_CURRENT_DIRECTORY || path.starts_with(b"/") {
        (path, true)
    } else {
        let on_exec = current().process.files().on_exec(Fd(directory))?;
        (name_through(directory, &path)?, on_exec == OnExec::Keep)
    };
    let (arguments, environment) = strings(call.user(arguments), call.user(environment), &file_name)?;
    let mut start = Start { file_name, arguments, environment, name_stays };
    let program = Program::find(file, &mut start)?;
    *call.frame = execute(&program, &start)?;
    Ok(0)
}

/// Copies arguments and environment of a new program.
fn strings(
    arguments: UserAddr,
    environment: UserAddr,
    file_name: &[u8],
) -> KResult<(StringList, StringList)> {
    let limit = current().process.limits.lock().get(Resource::Stack).soft;
    let mut budget = Budget::for_stack(limit);
    budget.take(file_name.len() + 1)?;
    let environment = StringList::from_user(environment, &mut budget)?;
    let mut arguments = StringList::from_user(arguments, &mut budget)?;
    if arguments.is_empty() {
        // Programs rely on there being one, as Linux has it since 5.18.
        budget.take(1)?;
        arguments.push(b"")?;
    }
    Ok((arguments, environment))
}

/// A path to what `path` means in the open directory (or, if empty, to the open file) `descriptor`.
fn name_through(descriptor: i32, path: &[u8]) -> KResult<Vec<u8>> {
    let mut name = copy(b"/dev/fd/")?;
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = descriptor.unsigned_abs();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    for part in [&digits[first..], slash, path] {
        name.try_reserve(part.len()).map_err(|_| Errno::ENOMEM)?;
        name.extend_from_slice(part);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_have_names() {
        assert_eq!(name_through(3, b"").unwrap(), b"/dev/fd/3");
        assert_eq!(name_through(120, b"bin/sh").unwrap(), b"/dev/fd/120/bin/sh");
        assert_eq!(name_through(0, b"x").unwrap(), b"/dev/fd/0/x");
        assert_eq!(name_through(i32::MAX, b"").unwrap(), b"/dev/fd/2147483647");
    }
}
