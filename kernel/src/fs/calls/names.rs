//! Making, removing and moving names.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::errno::{Errno, KResult};
use crate::fs::caller::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, Caller, UserPath};
use crate::fs::device::DeviceNumber;
use crate::fs::directory::Directory;
use crate::fs::inode::{Inode, InodeKind, SocketName, mode};
use crate::fs::mount::MountFlags;
use crate::fs::namespace::{self, RenameSide, rename_flags};
use crate::fs::open::new_inode;
use crate::fs::pipe::Pipe;
use crate::fs::regular::Regular;
use crate::fs::walk::{Final, Last, ParentOf};
use crate::mm::UserAddr;
use crate::process::credentials::Uid;
use crate::syscall::{Call, SysResult};

/// Makes a new file whose name is the last part of `path`; `wants_directory` says whether a slash may follow it.
fn make(
    caller: &Caller,
    parent: &ParentOf<'_>,
    mode: u32,
    make_kind: impl FnOnce() -> KResult<InodeKind>,
) -> KResult<()> {
    let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
    if parent.wants_directory && mode & mode::TYPE != mode::DIRECTORY {
        let exists = crate::fs::walk::lookup(&parent.directory.dentry, name)?.is_some();
        return Err(if exists { Errno::EEXIST } else { Errno::ENOENT });
    }
    let directory = parent.directory.inode();
    let with = new_inode(caller, directory, mode);
    namespace::create(&parent.directory, name, &caller.who, || {
        Inode::new(&directory.superblock, make_kind()?, with)
    })
    .map(drop)
}

pub fn mkdir(call: &mut Call<'_>) -> SysResult {
    make_directory(AT_FDCWD, call.user(0), call.uint(1))
}

pub fn mkdirat(call: &mut Call<'_>) -> SysResult {
    make_directory(call.int(0), call.user(1), call.uint(2))
}

fn make_directory(directory: i32, path: UserAddr, permissions: u32) -> SysResult {
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    let parent = caller.parent(directory, path.as_bytes())?;
    let permissions = permissions & !caller.context.umask() & 0o1777;
    make(&caller, &parent, mode::DIRECTORY | permissions, || Ok(InodeKind::Directory(Directory::new())))?;
    Ok(0)
}

pub fn mknod(call: &mut Call<'_>) -> SysResult {
    make_node(AT_FDCWD, call.user(0), call.uint(1), call.uint(2))
}

pub fn mknodat(call: &mut Call<'_>) -> SysResult {
    make_node(call.int(0), call.user(1), call.uint(2), call.uint(3))
}

fn make_node(directory: i32, path: UserAddr, mode: u32, device: u32) -> SysResult {
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    let kind = match mode & mode::TYPE {
        0 => mode::REGULAR,
        kind @ (mode::REGULAR | mode::CHARACTER | mode::BLOCK | mode::FIFO | mode::SOCKET) => kind,
        mode::DIRECTORY => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let parent = caller.parent(directory, path.as_bytes())?;
    if matches!(kind, mode::CHARACTER | mode::BLOCK) && caller.who.fsuid != Uid(0) {
        return Err(Errno::EPERM);
    }
    let mode = kind | (mode & mode::PERMISSIONS & !caller.context.umask());
    let number = DeviceNumber::decode(device);
    make(&caller, &parent, mode, || {
        Ok(match kind {
            mode::CHARACTER => InodeKind::Character(number),
            mode::BLOCK => InodeKind::Block(number),
            mode::FIFO => InodeKind::Fifo(Box::<Pipe>::default()),
            mode::SOCKET => InodeKind::Socket(SocketName::default()),
            _ => InodeKind::Regular(Regular::new()),
        })
    })?;
    Ok(0)
}

pub fn symlink(call: &mut Call<'_>) -> SysResult {
    make_symlink(call.user(0), AT_FDCWD, call.user(1))
}

pub fn symlinkat(call: &mut Call<'_>) -> SysResult {
    make_symlink(call.user(0), call.int(1), call.user(2))
}

fn make_symlink(target: UserAddr, directory: i32, path: UserAddr) -> SysResult {
    let target = UserPath::read(target)?;
    if target.as_bytes().is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    let parent = caller.parent(directory, path.as_bytes())?;
    make(&caller, &parent, mode::SYMLINK | 0o777, || Ok(InodeKind::Symlink(Box::from(target.as_bytes()))))?;
    Ok(0)
}

pub fn link(call: &mut Call<'_>) -> SysResult {
    make_link((AT_FDCWD, call.user(0)), (AT_FDCWD, call.user(1)), 0)
}

pub fn linkat(call: &mut Call<'_>) -> SysResult {
    make_link((call.int(0), call.user(1)), (call.int(2), call.user(3)), call.uint(4))
}

fn make_link(old: (i32, UserAddr), new: (i32, UserAddr), flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::current();
    let (old_path, new_path) = (UserPath::read(old.1)?, UserPath::read(new.1)?);
    if flags & AT_EMPTY_PATH != 0 && old_path.as_bytes().is_empty() && caller.who.fsuid != Uid(0) {
        return Err(Errno::ENOENT);
    }
    let mut how = flags & AT_EMPTY_PATH;
    if flags & AT_SYMLINK_FOLLOW == 0 {
        how |= AT_SYMLINK_NOFOLLOW;
    }
    let file = caller.resolve_flags(old.0, old_path.as_bytes(), how)?;
    let parent = caller.parent(new.0, new_path.as_bytes())?;
    let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
    if parent.wants_directory {
        let exists = crate::fs::walk::lookup(&parent.directory.dentry, name)?.is_some();
        return Err(if exists { Errno::EEXIST } else { Errno::ENOENT });
    }
    namespace::link(&file, &parent.directory, name, &caller.who)?;
    Ok(0)
}

pub fn unlink(call: &mut Call<'_>) -> SysResult {
    remove_file(AT_FDCWD, call.user(0))
}

pub fn rmdir(call: &mut Call<'_>) -> SysResult {
    remove_directory(AT_FDCWD, call.user(0))
}

const AT_REMOVEDIR: u32 = 0x200;

pub fn unlinkat(call: &mut Call<'_>) -> SysResult {
    match call.uint(2) {
        0 => remove_file(call.int(0), call.user(1)),
        AT_REMOVEDIR => remove_directory(call.int(0), call.user(1)),
        _ => Err(Errno::EINVAL),
    }
}

fn remove_file(directory: i32, path: UserAddr) -> SysResult {
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    let parent = caller.parent(directory, path.as_bytes())?;
    let Last::Name(name) = &parent.last else { return Err(Errno::EISDIR) };
    namespace::unlink(&parent.directory, name, &caller.who, parent.wants_directory)?;
    Ok(0)
}

fn remove_directory(directory: i32, path: UserAddr) -> SysResult {
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    let parent = caller.parent(directory, path.as_bytes())?;
    match &parent.last {
        Last::Name(name) => namespace::remove_directory(&parent.directory, name, &caller.who)?,
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    }
    Ok(0)
}

pub fn rename(call: &mut Call<'_>) -> SysResult {
    move_name((AT_FDCWD, call.user(0)), (AT_FDCWD, call.user(1)), 0)
}

pub fn renameat(call: &mut Call<'_>) -> SysResult {
    move_name((call.int(0), call.user(1)), (call.int(2), call.user(3)), 0)
}

pub fn renameat2(call: &mut Call<'_>) -> SysResult {
    move_name((call.int(0), call.user(1)), (call.int(2), call.user(3)), call.uint(4))
}

fn move_name(old: (i32, UserAddr), new: (i32, UserAddr), flags: u32) -> SysResult {
    let known = rename_flags::NO_REPLACE | rename_flags::EXCHANGE;
    if flags & !known != 0 || flags == known {
        return Err(Errno::EINVAL);
    }
    let (old_path, new_path) = (UserPath::read(old.1)?, UserPath::read(new.1)?);
    let caller = Caller::current();
    let from = caller.parent(old.0, old_path.as_bytes())?;
    let to = caller.parent(new.0, new_path.as_bytes())?;
    if !Arc::ptr_eq(&from.directory.mount, &to.directory.mount) {
        return Err(Errno::EXDEV);
    }
    let Last::Name(old_name) = &from.last else { return Err(Errno::EBUSY) };
    let Last::Name(new_name) = &to.last else {
        return Err(if flags & rename_flags::NO_REPLACE != 0 { Errno::EEXIST } else { Errno::EBUSY });
    };
    let old = RenameSide { parent: &from.directory, name: old_name, wants_directory: from.wants_directory };
    let new = RenameSide { parent: &to.directory, name: new_name, wants_directory: to.wants_directory };
    namespace::rename(old, new, flags, &caller.who)?;
    Ok(0)
}

pub fn readlink(call: &mut Call<'_>) -> SysResult {
    read_link(AT_FDCWD, call.user(0), call.user(1), call.int(2))
}

pub fn readlinkat(call: &mut Call<'_>) -> SysResult {
    read_link(call.int(0), call.user(1), call.user(2), call.int(3))
}

fn read_link(directory: i32, path: UserAddr, to: UserAddr, size: i32) -> SysResult {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    // An empty path means a link opened by O_PATH.
    let place = if path.as_bytes().is_empty() {
        caller.resolve_flags(directory, b"", AT_EMPTY_PATH)?
    } else {
        caller.resolve(directory, path.as_bytes(), Final::Stay)?
    };
    let inode = place.inode();
    let length = match &inode.kind {
        InodeKind::Symlink(target) => copy(target, to, size)?,
        InodeKind::DynamicLink(link) => copy(&link.target()?, to, size)?,
        _ if path.as_bytes().is_empty() => return Err(Errno::ENOENT),
        _ => return Err(Errno::EINVAL),
    };
    if !place.mount.flags().contains(MountFlags::NO_ATIME) {
        inode.touch_accessed();
    }
    Ok(length as u64)
}

fn copy(target: &[u8], to: UserAddr, size: usize) -> KResult<usize> {
    let part = &target[..target.len().min(size)];
    to.write_bytes(part)?;
    Ok(part.len())
}
