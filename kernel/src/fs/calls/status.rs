//! What is known of a file.

use alloc::sync::Arc;

use platform::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::fs::caller::{AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, Caller, UserPath};
use crate::fs::inode::{Access, Inode, InodeKind};
use crate::fs::name::NAME_MAX;
use crate::fs::path::Path;
use crate::fs::superblock::{Superblock, UNLIMITED};
use crate::fs::table::{Fd, open_file};
use crate::mm::{UserAddr, frames};
use crate::syscall::{Call, SysResult};

const NANOSECONDS: i64 = 1_000_000_000;

/// `struct stat` of x86-64.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: i64,
    blksize: i64,
    blocks: i64,
    times: [[i64; 2]; 3],
    unused: [i64; 3],
}

const _: () = assert!(size_of::<Stat>() == 144);

fn seconds(time: i64) -> [i64; 2] {
    [time.div_euclid(NANOSECONDS), time.rem_euclid(NANOSECONDS)]
}

impl Stat {
    fn of(inode: &Inode) -> Self {
        let times = inode.times();
        Self {
            dev: inode.superblock.device.encode(),
            ino: inode.number,
            nlink: inode.links().into(),
            mode: inode.mode(),
            uid: inode.uid().0,
            gid: inode.gid().0,
            pad: 0,
            rdev: inode.device().encode(),
            size: inode.size() as i64,
            blksize: PAGE_SIZE as i64,
            blocks: inode.blocks() as i64,
            times: [seconds(times.accessed), seconds(times.modified), seconds(times.changed)],
            unused: [0; 3],
        }
    }
}

fn tell(inode: &Inode, to: UserAddr) -> SysResult {
    to.write(&Stat::of(inode)).map(|()| 0)
}

pub fn stat(call: &mut Call<'_>) -> SysResult {
    tell(&*find(AT_FDCWD, call.user(0), 0)?, call.user(1))
}

pub fn lstat(call: &mut Call<'_>) -> SysResult {
    tell(&*find(AT_FDCWD, call.user(0), AT_SYMLINK_NOFOLLOW)?, call.user(1))
}

pub fn fstat(call: &mut Call<'_>) -> SysResult {
    tell(open_file(Fd(call.int(0)))?.inode(), call.user(1))
}

pub fn newfstatat(call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    tell(&*find(call.int(0), call.user(1), flags)?, call.user(2))
}

/// The file at a path, or with [`AT_EMPTY_PATH`] and an empty path the descriptor's own.
fn find(directory: i32, path: UserAddr, flags: u32) -> KResult<Arc<Inode>> {
    if flags & AT_EMPTY_PATH != 0 && directory != AT_FDCWD && (path.is_null() || path.read::<u8>()? == 0) {
        return Ok(open_file(Fd(directory))?.inode().clone());
    }
    let path = UserPath::read(path)?;
    let place = Caller::current().resolve_flags(directory, path.as_bytes(), flags)?;
    Ok(place.dentry.inode.clone())
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StatxTime {
    seconds: i64,
    nanoseconds: u32,
    reserved: i32,
}

impl StatxTime {
    fn new(time: i64) -> Self {
        let [seconds, nanoseconds] = seconds(time);
        Self { seconds, nanoseconds: nanoseconds as u32, reserved: 0 }
    }
}

/// `struct statx`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    born: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    mount_id: u64,
    direct_io: [u32; 2],
    spare: [u64; 12],
}

const _: () = assert!(size_of::<Statx>() == 256);

/// All that is told: the basic fields, the time of birth.
const STATX_KNOWN: u32 = 0x7ff | 0x800;
const STATX_MNT_ID: u32 = 0x1000;
const STATX_RESERVED: u32 = 1 << 31;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

pub fn statx(call: &mut Call<'_>) -> SysResult {
    let (flags, mask) = (call.uint(2), call.uint(3));
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    if mask & STATX_RESERVED != 0 || flags & !known != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let path = call.user(1);
    let path = if path.is_null() && flags & AT_EMPTY_PATH != 0 { None } else { Some(UserPath::read(path)?) };
    let bytes = path.as_ref().map_or(&b""[..], UserPath::as_bytes);
    let place: Path = Caller::current().resolve_flags(call.int(0), bytes, flags)?;
    let inode = place.inode();
    let (times, device, rdev) = (inode.times(), inode.superblock.device, inode.device());
    call.user(4)
        .write(&Statx {
            mask: STATX_KNOWN | STATX_MNT_ID,
            blksize: PAGE_SIZE as u32,
            attributes: if place.is_mount_root() { STATX_ATTR_MOUNT_ROOT } else { 0 },
            nlink: inode.links(),
            uid: inode.uid().0,
            gid: inode.gid().0,
            mode: inode.mode() as u16,
            pad: 0,
            ino: inode.number,
            size: inode.size(),
            blocks: inode.blocks(),
            attributes_mask: STATX_ATTR_MOUNT_ROOT,
            accessed: StatxTime::new(times.accessed),
            born: StatxTime::new(times.born),
            changed: StatxTime::new(times.changed),
            modified: StatxTime::new(times.modified),
            rdev_major: rdev.major,
            rdev_minor: rdev.minor,
            dev_major: device.major,
            dev_minor: device.minor,
            mount_id: place.mount.id.into(),
            direct_io: [0; 2],
            spare: [0; 12],
        })
        .map(|()| 0)
}

/// `struct statfs` of x86-64.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Statfs {
    kind: u64,
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: u64,
    name_length: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

const _: () = assert!(size_of::<Statfs>() == 120);
const ST_VALID: u64 = 0x20;
const ST_RELATIME: u64 = 0x1000;

fn tell_filesystem(superblock: &Superblock, flags: u64, to: UserAddr) -> SysResult {
    let keeps_files = matches!(superblock.kind.name(), "tmpfs" | "devtmpfs");
    let (used, limit) = superblock.page_usage();
    let (files, file_limit) = superblock.inode_usage();
    // Without a limit of its own a file system is bounded by memory.
    let (free_frames, all_frames) = {
        let (total, free) = frames::totals();
        (free, total)
    };
    let limit = if limit == UNLIMITED { all_frames } else { limit };
    let free = limit.saturating_sub(used).min(free_frames);
    let file_limit = if file_limit == UNLIMITED { all_frames.max(files) } else { file_limit };
    let of = |value: u64| if keeps_files { value } else { 0 };
    to.write(&Statfs {
        kind: superblock.kind.magic(),
        block_size: PAGE_SIZE,
        blocks: of(limit),
        blocks_free: of(free),
        blocks_available: of(free),
        files: of(file_limit),
        files_free: of(file_limit.saturating_sub(files)),
        id: superblock.device.encode(),
        name_length: NAME_MAX as u64,
        fragment_size: PAGE_SIZE,
        flags,
        spare: [0; 4],
    })
    .map(|()| 0)
}

fn tell_mount(place: &Path, to: UserAddr) -> SysResult {
    let flags = u64::from(place.mount.flags().bits() & 0xf) | ST_VALID | ST_RELATIME;
    tell_filesystem(&place.mount.superblock, flags, to)
}

pub fn statfs(call: &mut Call<'_>) -> SysResult {
    let path = UserPath::read(call.user(0))?;
    let place = Caller::current().resolve_flags(AT_FDCWD, path.as_bytes(), 0)?;
    tell_mount(&place, call.user(1))
}

pub fn fstatfs(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    match file.path() {
        Some(place) => tell_mount(place, call.user(1)),
        None => tell_filesystem(&file.inode().superblock, ST_VALID, call.user(1)),
    }
}

const AT_EACCESS: u32 = 0x200;

pub fn access(call: &mut Call<'_>) -> SysResult {
    check_access(AT_FDCWD, call.user(0), call.uint(1), 0)
}

pub fn faccessat(call: &mut Call<'_>) -> SysResult {
    check_access(call.int(0), call.user(1), call.uint(2), 0)
}

pub fn faccessat2(call: &mut Call<'_>) -> SysResult {
    check_access(call.int(0), call.user(1), call.uint(2), call.uint(3))
}

fn check_access(directory: i32, path: UserAddr, mode: u32, flags: u32) -> SysResult {
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = UserPath::read(path)?;
    let mut caller = Caller::current();
    if flags & AT_EACCESS == 0 && (caller.who.fsuid != caller.who.uid || caller.who.fsgid != caller.who.gid) {
        let mut real = (*caller.who).clone();
        real.fsuid = real.uid;
        real.fsgid = real.gid;
        caller.who = Arc::new(real);
    }
    let place = caller.resolve_flags(directory, path.as_bytes(), flags)?;
    let inode = place.inode();
    let access = Access::from_bits_truncate(mode);
    if access.contains(Access::WRITE) {
        let is_special = matches!(
            inode.kind,
            InodeKind::Character(_) | InodeKind::Block(_) | InodeKind::Fifo(_) | InodeKind::Socket(_)
        );
        if !is_special {
            place.mount.check_writable()?;
        }
    }
    let no_exec = place.mount.flags().contains(crate::fs::mount::MountFlags::NO_EXEC);
    if access.contains(Access::EXECUTE) && no_exec && matches!(inode.kind, InodeKind::Regular(_)) {
        return Err(Errno::EACCES);
    }
    inode.check(access, &caller.who)?;
    Ok(0)
}
