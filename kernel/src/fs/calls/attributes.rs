//! Changing what is known of a file, and its size.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::fs::caller::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Caller, UserPath};
use crate::fs::file::{FileKind, OpenFile};
use crate::fs::inode::{Access, Inode, InodeKind, mode, now};
use crate::fs::mapping;
use crate::fs::path::Path;
use crate::fs::table::{Fd, open_file, usable_file};
use crate::mm::UserAddr;
use crate::process::credentials::{Gid, Uid};
use crate::process::{Credentials, Resource, current};
use crate::syscall::{Call, SysResult};

pub fn umask(call: &mut Call<'_>) -> SysResult {
    Ok(current().process.fs().set_umask(call.uint(0)).into())
}

/// The place a path in user memory leads to, and who asks.
fn find(directory: i32, path: UserAddr, flags: u32) -> KResult<(Path, Caller)> {
    let path = UserPath::read(path)?;
    let caller = Caller::current();
    let place = caller.resolve_flags(directory, path.as_bytes(), flags)?;
    Ok((place, caller))
}

pub fn chmod(call: &mut Call<'_>) -> SysResult {
    let (place, caller) = find(AT_FDCWD, call.user(0), 0)?;
    place.mount.check_writable()?;
    set_mode(place.inode(), call.uint(1), &caller.who)
}

pub fn fchmodat(call: &mut Call<'_>) -> SysResult {
    let (place, caller) = find(call.int(0), call.user(1), 0)?;
    place.mount.check_writable()?;
    set_mode(place.inode(), call.uint(2), &caller.who)
}

pub fn fchmod(call: &mut Call<'_>) -> SysResult {
    let file = usable_file(Fd(call.int(0)))?;
    check_mount(&file)?;
    set_mode(file.inode(), call.uint(1), &current().process.credentials())
}

fn check_mount(file: &OpenFile) -> KResult<()> {
    file.path().map_or(Ok(()), |path| path.mount.check_writable())
}

/// Says whether anything about the file can be changed: not if the kernel makes it up.
fn check_changeable(inode: &Inode) -> KResult<()> {
    match inode.kind {
        InodeKind::Dynamic(_) | InodeKind::DynamicDirectory(_) | InodeKind::DynamicLink(_) => {
            Err(Errno::EPERM)
        }
        _ => Ok(()),
    }
}

fn set_mode(inode: &Inode, permissions: u32, who: &Credentials) -> SysResult {
    check_changeable(inode)?;
    inode.check_owner(who)?;
    let mut permissions = permissions & mode::PERMISSIONS;
    if who.fsuid != Uid(0) && !who.in_group(inode.gid()) {
        permissions &= !mode::SET_GID;
    }
    inode.set_permissions(permissions);
    Ok(0)
}

pub fn chown(call: &mut Call<'_>) -> SysResult {
    own_path(AT_FDCWD, call.user(0), (call.uint(1), call.uint(2)), 0)
}

pub fn lchown(call: &mut Call<'_>) -> SysResult {
    own_path(AT_FDCWD, call.user(0), (call.uint(1), call.uint(2)), AT_SYMLINK_NOFOLLOW)
}

pub fn fchownat(call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(4);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    own_path(call.int(0), call.user(1), (call.uint(2), call.uint(3)), flags)
}

pub fn fchown(call: &mut Call<'_>) -> SysResult {
    let file = usable_file(Fd(call.int(0)))?;
    check_mount(&file)?;
    set_owner(file.inode(), (call.uint(1), call.uint(2)), &current().process.credentials())
}

fn own_path(directory: i32, path: UserAddr, owner: (u32, u32), flags: u32) -> SysResult {
    let (place, caller) = find(directory, path, flags)?;
    place.mount.check_writable()?;
    set_owner(place.inode(), owner, &caller.who)
}

/// Stands for "leave as it is".
const NOBODY: u32 = u32::MAX;

fn set_owner(inode: &Inode, (uid, gid): (u32, u32), who: &Credentials) -> SysResult {
    check_changeable(inode)?;
    let uid = (uid != NOBODY).then_some(Uid(uid));
    let gid = (gid != NOBODY).then_some(Gid(gid));
    if who.fsuid != Uid(0) {
        let owns = who.fsuid == inode.uid();
        let uid_stays = uid.is_none_or(|uid| uid == inode.uid());
        let gid_allowed = gid.is_none_or(|gid| gid == inode.gid() || who.in_group(gid));
        if (uid.is_some() && !(owns && uid_stays)) || (gid.is_some() && !(owns && gid_allowed)) {
            return Err(Errno::EPERM);
        }
    }
    inode.set_owner(uid, gid);
    let bits = inode.mode();
    if (uid.is_some() || gid.is_some()) && !inode.is_directory() && bits & 0o6000 != 0 {
        let keep_group = bits & 0o010 == 0;
        let cleared = if keep_group { mode::SET_UID } else { mode::SET_UID | mode::SET_GID };
        inode.set_permissions(bits & mode::PERMISSIONS & !cleared);
    }
    Ok(0)
}

/// A time as `utimensat(2)` is given it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TimeArgument {
    seconds: i64,
    /// Nanoseconds, or one of the two below; for the older calls, microseconds.
    fraction: i64,
}

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;
const NANOSECONDS: i64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum NewTime {
    Now,
    Keep,
    At(i64),
}

impl NewTime {
    fn at(seconds: i64, nanoseconds: i64) -> Self {
        // Times further away than can be kept become the furthest.
        Self::At(seconds.saturating_mul(NANOSECONDS).saturating_add(nanoseconds))
    }

    fn value(self) -> Option<i64> {
        match self {
            Self::Now => Some(now()),
            Self::Keep => None,
            Self::At(time) => Some(time),
        }
    }
}

fn set_times(inode: &Inode, [accessed, modified]: [NewTime; 2], who: &Credentials) -> SysResult {
    if accessed == NewTime::Keep && modified == NewTime::Keep {
        return Ok(0);
    }
    check_changeable(inode)?;
    if inode.check_owner(who).is_err() {
        // Whoever may write may say that it was used now, but nothing else.
        if accessed != NewTime::Now || modified != NewTime::Now {
            return Err(Errno::EPERM);
        }
        inode.check(Access::WRITE, who)?;
    }
    inode.set_times(accessed.value(), modified.value());
    Ok(0)
}

pub fn utimensat(call: &mut Call<'_>) -> SysResult {
    let (directory, path, times, flags) = (call.int(0), call.user(1), call.user(2), call.uint(3));
    let times = if times.is_null() {
        [NewTime::Now; 2]
    } else {
        let [accessed, modified] = times.read::<[TimeArgument; 2]>()?;
        let check = |time: TimeArgument| match time.fraction {
            UTIME_NOW => Ok(NewTime::Now),
            UTIME_OMIT => Ok(NewTime::Keep),
            0..NANOSECONDS => Ok(NewTime::at(time.seconds, time.fraction)),
            _ => Err(Errno::EINVAL),
        };
        [check(accessed)?, check(modified)?]
    };
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if path.is_null() && directory != AT_FDCWD {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let file = usable_file(Fd(directory))?;
        check_mount(&file)?;
        return set_times(file.inode(), times, &current().process.credentials());
    }
    set_path_times(directory, path, times, flags)
}

fn set_path_times(directory: i32, path: UserAddr, times: [NewTime; 2], flags: u32) -> SysResult {
    let (place, caller) = find(directory, path, flags)?;
    place.mount.check_writable()?;
    set_times(place.inode(), times, &caller.who)
}

fn read_microseconds(times: UserAddr) -> KResult<[NewTime; 2]> {
    if times.is_null() {
        return Ok([NewTime::Now; 2]);
    }
    let [accessed, modified] = times.read::<[TimeArgument; 2]>()?;
    let check = |time: TimeArgument| match time.fraction {
        0..1_000_000 => Ok(NewTime::at(time.seconds, time.fraction * 1000)),
        _ => Err(Errno::EINVAL),
    };
    Ok([check(accessed)?, check(modified)?])
}

pub fn utimes(call: &mut Call<'_>) -> SysResult {
    set_path_times(AT_FDCWD, call.user(0), read_microseconds(call.user(1))?, 0)
}

pub fn futimesat(call: &mut Call<'_>) -> SysResult {
    let times = read_microseconds(call.user(2))?;
    if call.user(1).is_null() && call.int(0) != AT_FDCWD {
        let file = usable_file(Fd(call.int(0)))?;
        check_mount(&file)?;
        return set_times(file.inode(), times, &current().process.credentials());
    }
    set_path_times(call.int(0), call.user(1), times, 0)
}

pub fn utime(call: &mut Call<'_>) -> SysResult {
    let times = call.user(1);
    let times = if times.is_null() {
        [NewTime::Now; 2]
    } else {
        times.read::<[i64; 2]>()?.map(|seconds| NewTime::at(seconds, 0))
    };
    set_path_times(AT_FDCWD, call.user(0), times, 0)
}

/// Says whether the running process may let a file grow to `size`; if not, it gets SIGXFSZ.
fn check_limit(inode: &Inode, size: u64) -> KResult<()> {
    let limit = current().process.limits.lock().get(Resource::FileSize).soft;
    if size > limit && size > inode.size() {
        crate::signal::send_to_current(crate::signal::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

fn resize(inode: &Inode, size: i64, who: &Credentials) -> SysResult {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let InodeKind::Regular(file) = &inode.kind else { return Err(Errno::EINVAL) };
    check_limit(inode, size)?;
    mapping::set_file_size(inode, file, size)?;
    inode.touch_modified();
    inode.strip_set_id(who);
    Ok(0)
}

pub fn truncate(call: &mut Call<'_>) -> SysResult {
    if call.long(1) < 0 {
        return Err(Errno::EINVAL);
    }
    let (place, caller) = find(AT_FDCWD, call.user(0), 0)?;
    let inode = place.inode();
    if inode.is_directory() {
        return Err(Errno::EISDIR);
    }
    inode.check(Access::WRITE, &caller.who)?;
    place.mount.check_writable()?;
    resize(inode, call.long(1), &caller.who)
}

pub fn ftruncate(call: &mut Call<'_>) -> SysResult {
    if call.long(1) < 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(Fd(call.int(0)))?;
    file.check_writable().map_err(|_| Errno::EINVAL)?;
    resize(file.inode(), call.long(1), &current().process.credentials())
}

const FALLOC_KEEP_SIZE: u32 = 1;
const FALLOC_PUNCH_HOLE: u32 = 2;
const FALLOC_ZERO_RANGE: u32 = 0x10;

pub fn fallocate(call: &mut Call<'_>) -> SysResult {
    let (how, offset, length) = (call.uint(1), call.long(2), call.long(3));
    let file = open_file(Fd(call.int(0)))?;
    let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
        return Err(Errno::EINVAL);
    };
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    if how & !(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    file.check_writable()?;
    let inode = file.inode();
    let regular = match (file.regular(), file.kind()) {
        (Some(regular), _) => regular,
        (None, FileKind::Pipe) => return Err(Errno::ESPIPE),
        (None, FileKind::Directory) => return Err(Errno::EISDIR),
        (None, _) => return Err(Errno::ENODEV),
    };
    let forget = |first, end| {
        if regular.is_mapped() {
            mapping::forget_pages(inode, first, end);
        }
    };
    let keep_size = how & FALLOC_KEEP_SIZE != 0;
    match how & !FALLOC_KEEP_SIZE {
        FALLOC_PUNCH_HOLE if keep_size => regular.punch(&inode.superblock, offset, length, forget)?,
        FALLOC_ZERO_RANGE | 0 => {
            if !keep_size {
                check_limit(inode, offset.saturating_add(length))?;
            }
            if how & FALLOC_ZERO_RANGE != 0 {
                regular.punch(&inode.superblock, offset, length, forget)?;
            }
            regular.allocate(&inode.superblock, offset, length, keep_size)?;
        }
        _ => return Err(Errno::EOPNOTSUPP),
    }
    inode.touch_modified();
    Ok(0)
}
