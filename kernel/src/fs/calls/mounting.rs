//! Mounting and unmounting.

use alloc::sync::Arc;

use crate::errno::{Errno, KResult};
use crate::fs::caller::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, Caller, UserPath};
use crate::fs::mount::{self, Detach, Mount, MountFlags};
use crate::fs::path::Path;
use crate::fs::superblock::{FsKind, Superblock, UNLIMITED};
use crate::fs::{proc, tree};
use crate::mm::{UserAddr, frames};
use crate::process::credentials::{Gid, Uid};
use crate::syscall::{Call, SysResult};

const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
const MS_SILENT: u64 = 32768;
const MS_PROPAGATION: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;
const MS_MAGIC: u64 = 0xc0ed_0000;
const MS_MAGIC_MASK: u64 = 0xffff_0000;

fn check_privileged(caller: &Caller) -> KResult<()> {
    if caller.who.is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

pub fn mount(call: &mut Call<'_>) -> SysResult {
    let mut flags = call.raw(3);
    if flags & MS_MAGIC_MASK == MS_MAGIC {
        flags &= !MS_MAGIC_MASK;
    }
    let source = optional(call.user(0))?;
    let source = source.as_ref().map(UserPath::as_bytes);
    let target = UserPath::read(call.user(1))?;
    let caller = Caller::current();
    let place = caller.resolve_flags(AT_FDCWD, target.as_bytes(), 0)?;
    check_privileged(&caller)?;
    let restrictions = MountFlags::from_bits_truncate(flags as u32);
    if flags & MS_REMOUNT != 0 {
        return remount(&place, restrictions, call.user(4));
    }
    if flags & MS_BIND != 0 {
        return bind(&caller, source, place);
    }
    if flags & MS_PROPAGATION != 0 {
        // Mounts are seen in one view only, so there is nobody to propagate them to.
        return if place.is_mount_root() { Ok(0) } else { Err(Errno::EINVAL) };
    }
    if flags & MS_MOVE != 0 {
        return Err(Errno::EINVAL);
    }
    let _ = flags & MS_SILENT;
    let kind = UserPath::read(call.user(2))?;
    let new = new_mount(kind.as_bytes(), source.unwrap_or(b"none"), restrictions, call.user(4))?;
    if new.root.inode.is_directory() && !place.inode().is_directory() {
        return Err(Errno::ENOTDIR);
    }
    mount::attach(&new, place)?;
    Ok(0)
}

fn optional(string: UserAddr) -> KResult<Option<UserPath>> {
    if string.is_null() { Ok(None) } else { UserPath::read(string).map(Some) }
}

fn new_mount(kind: &[u8], source: &[u8], flags: MountFlags, data: UserAddr) -> KResult<Arc<Mount>> {
    match kind {
        b"tmpfs" | b"ramfs" => {
            let options = TmpfsOptions::read(data)?;
            let half = frames::totals().0 / 2;
            let (pages, inodes) = if kind == b"ramfs" {
                (UNLIMITED, UNLIMITED)
            } else {
                (options.pages.unwrap_or(half), options.inodes.unwrap_or(half))
            };
            let superblock = Superblock::new(FsKind::Tmpfs, pages, inodes);
            let top = tree::new_tree(&superblock, options.permissions, options.uid, options.gid)?;
            Ok(Mount::new(superblock, top, source, flags))
        }
        b"proc" => Ok(proc::new_mount(source, flags)),
        b"devtmpfs" => {
            let top = tree::device_files();
            Ok(Mount::new(top.inode.superblock.clone(), top, source, flags))
        }
        b"devpts" => {
            let top = tree::pseudo_terminals();
            Ok(Mount::new(top.inode.superblock.clone(), top, source, flags))
        }
        _ => Err(Errno::ENODEV),
    }
}

/// What `mount -o` says about a file system in memory.
struct TmpfsOptions {
    pages: Option<u64>,
    inodes: Option<u64>,
    permissions: u32,
    uid: Uid,
    gid: Gid,
}

impl TmpfsOptions {
    fn read(data: UserAddr) -> KResult<Self> {
        let mut options = Self { pages: None, inodes: None, permissions: 0o1777, uid: Uid(0), gid: Gid(0) };
        if data.is_null() {
            return Ok(options);
        }
        let text = data.read_string(4096, Errno::EINVAL)?;
        let text = core::str::from_utf8(&text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => options.pages = some_or_unlimited(size(value)?.div_ceil(4096)),
                "nr_blocks" => options.pages = some_or_unlimited(size(value)?),
                "nr_inodes" => options.inodes = some_or_unlimited(size(value)?),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.permissions = mode & 0o7777;
                }
                "uid" => options.uid = Uid(value.parse().map_err(|_| Errno::EINVAL)?),
                "gid" => options.gid = Gid(value.parse().map_err(|_| Errno::EINVAL)?),
                "huge" | "mpol" | "inode32" | "inode64" | "noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// Zero means no limit.
fn some_or_unlimited(value: u64) -> Option<u64> {
    Some(if value == 0 { UNLIMITED } else { value })
}

/// A size with an optional unit: `k`, `m`, `g`, or `%` of memory.
fn size(text: &str) -> KResult<u64> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1 << 30),
        Some(b'%') => (&text[..text.len() - 1], frames::totals().0 * 4096 / 100),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok().and_then(|value| value.checked_mul(factor)).ok_or(Errno::EINVAL)
}

fn remount(place: &Path, flags: MountFlags, data: UserAddr) -> SysResult {
    if !place.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if place.mount.superblock.kind == FsKind::Tmpfs && !data.is_null() {
        let options = TmpfsOptions::read(data)?;
        place.mount.superblock.set_limits(options.pages, options.inodes);
    }
    place.mount.set_flags(flags);
    Ok(0)
}

fn bind(caller: &Caller, source: Option<&[u8]>, place: Path) -> SysResult {
    let source = source.filter(|path| !path.is_empty()).ok_or(Errno::EINVAL)?;
    let from = caller.resolve_flags(AT_FDCWD, source, 0)?;
    if from.inode().is_directory() != place.inode().is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let shown = from.mount.clone();
    let new = Mount::new(shown.superblock.clone(), from.dentry.clone(), &shown.source, shown.flags());
    drop(shown);
    mount::attach(&new, place)?;
    Ok(0)
}

const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;

pub fn umount2(call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(1);
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 || flags & MNT_EXPIRE != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::current();
    let path = UserPath::read(call.user(0))?;
    let how = if flags & UMOUNT_NOFOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    check_privileged(&caller)?;
    let top = caller.resolve_flags(AT_FDCWD, path.as_bytes(), how)?;
    let detach = if flags & MNT_DETACH != 0 { Detach::Lazily } else { Detach::IfUnused };
    mount::detach(top, detach)?;
    Ok(0)
}

pub fn pivot_root(call: &mut Call<'_>) -> SysResult {
    let (new, old) = (UserPath::read(call.user(0))?, UserPath::read(call.user(1))?);
    let caller = Caller::current();
    check_privileged(&caller)?;
    let new = caller.resolve_flags(AT_FDCWD, new.as_bytes(), 0)?;
    let put_old = caller.resolve_flags(AT_FDCWD, old.as_bytes(), 0)?;
    let root = caller.context.root();
    if !new.inode().is_directory() || !put_old.inode().is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if Arc::ptr_eq(&new.mount, &root.mount) || Arc::ptr_eq(&put_old.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    // The first file system lies below everything and cannot be put elsewhere.
    if !new.is_mount_root() || !root.is_mount_root() || root.mount.mounted_at().is_none() {
        return Err(Errno::EINVAL);
    }
    mount::pivot(&root, &new, put_old)?;
    for process in crate::process::tree::processes() {
        let context = process.fs();
        if context.root().is(&root) {
            context.set_root(new.clone());
        }
        if context.cwd().is(&root) {
            context.set_cwd(new.clone());
        }
    }
    Ok(0)
}
