//! The file systems that exist from the start.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::context::FsContext;
use super::dentry::Dentry;
use super::device::DeviceNumber;
use super::directory::Directory;
use super::inode::{Inode, InodeKind, NewInode, mode};
use super::mount::{self, Mount, MountFlags};
use super::name::Name;
use super::namespace;
use super::path::Path;
use super::superblock::{FsKind, Superblock, UNLIMITED};
use super::{memory_device, proc};
use crate::errno::{Errno, KResult};
use crate::mm::frames;
use crate::process::Credentials;
use crate::process::credentials::{Gid, Uid};
use crate::sync::Once;

struct Trees {
    root: Path,
    /// The one file system of device files, wherever it is mounted.
    devices: Arc<Dentry>,
    /// The one of pseudo terminals.
    terminals: Arc<Dentry>,
}

static TREES: Once<Trees> = Once::new();

fn trees() -> &'static Trees {
    match TREES.get() {
        Some(trees) => trees,
        None => panic!("files were used before they were there"),
    }
}

/// The place that everything hangs from.
pub fn root() -> Path {
    trees().root.clone()
}

impl FsContext {
    /// A view of everything, from the top.
    pub fn initial() -> Arc<Self> {
        Self::new(root())
    }
}

/// Group of terminals (`tty` in Debian's `/etc/group`).
const TTY_GROUP: Gid = Gid(5);

const DEVICES: &[(&str, u32, DeviceNumber)] = &[
    ("null", 0o666, DeviceNumber::new(1, 3)),
    ("zero", 0o666, DeviceNumber::new(1, 5)),
    ("full", 0o666, DeviceNumber::new(1, 7)),
    ("random", 0o666, DeviceNumber::new(1, 8)),
    ("urandom", 0o666, DeviceNumber::new(1, 9)),
    ("kmsg", 0o644, DeviceNumber::new(1, 11)),
    ("tty", 0o666, DeviceNumber::new(5, 0)),
    ("console", 0o600, DeviceNumber::new(5, 1)),
    ("ptmx", 0o666, DeviceNumber::new(5, 2)),
    ("ttyS0", 0o660, DeviceNumber::new(4, 64)),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// A file system in memory with an empty top directory.
///
/// # Errors
/// ENOSPC if not even that may be in it.
pub fn new_tree(superblock: &Arc<Superblock>, permissions: u32, uid: Uid, gid: Gid) -> KResult<Arc<Dentry>> {
    let with = NewInode { mode: mode::DIRECTORY | permissions, uid, gid };
    Ok(Dentry::nameless(Inode::new(superblock, InodeKind::Directory(Directory::new()), with)?))
}

/// Makes the first file systems and mounts them: an empty one in memory, `/dev`, `/dev/pts`, `/proc`.
///
/// # Panics
/// If there is not even memory for that.
pub fn init() {
    if let Err(error) = build() {
        panic!("the first file systems cannot be made: {error}");
    }
}

/// From now on the first file system may take half of the memory that is free, beyond what is in it: it has been filled.
pub fn limit_root() {
    let superblock = &root().mount.superblock;
    let half = frames::totals().1 / 2;
    superblock.set_limits(Some(superblock.page_usage().0 + half), Some(superblock.inode_usage().0 + half));
}

fn build() -> KResult<()> {
    let who = Credentials::root();
    let superblock = Superblock::new(FsKind::Tmpfs, UNLIMITED, UNLIMITED);
    let top = new_tree(&superblock, 0o755, Uid(0), Gid(0))?;
    let root = Mount::new(superblock, top, b"rootfs", MountFlags::empty());
    mount::attach_root(&root);

    let device_files = Superblock::new(FsKind::Devtmpfs, UNLIMITED, UNLIMITED);
    device_files.add_user();
    let devices = new_tree(&device_files, 0o755, Uid(0), Gid(0))?;
    let pseudo = Superblock::new(FsKind::Devpts, UNLIMITED, UNLIMITED);
    pseudo.add_user();
    let terminals = new_tree(&pseudo, 0o755, Uid(0), Gid(0))?;
    TREES.call_once(|| Trees { root: root.top(), devices: devices.clone(), terminals: terminals.clone() });

    let in_devices = Mount::new(device_files, devices, b"devtmpfs", MountFlags::NO_SUID);
    for &(name, permissions, number) in DEVICES {
        let gid = if number.major == 1 { Gid(0) } else { TTY_GROUP };
        let with = NewInode { mode: mode::CHARACTER | permissions, uid: Uid(0), gid };
        make_device(&in_devices.top(), name.as_bytes(), InodeKind::Character(number), with)?;
    }
    for &(name, target) in LINKS {
        make_link(&in_devices.top(), name.as_bytes(), target.as_bytes(), &who)?;
    }
    let in_terminals = Mount::new(pseudo, terminals, b"devpts", MountFlags::NO_SUID | MountFlags::NO_EXEC);
    let with = NewInode { mode: mode::CHARACTER | 0o666, uid: Uid(0), gid: Gid(0) };
    make_device(&in_terminals.top(), b"ptmx", InodeKind::Character(DeviceNumber::new(5, 2)), with)?;
    mount_new(&in_devices, &root.top(), b"dev", &who)?;
    mount_new(&in_terminals, &in_devices.top(), b"pts", &who)?;
    let flags = MountFlags::NO_SUID | MountFlags::NO_DEV | MountFlags::NO_EXEC;
    mount_new(&proc::new_mount(b"proc", flags), &root.top(), b"proc", &who)?;
    memory_device::register();
    Ok(())
}

fn mount_new(what: &Arc<Mount>, parent: &Path, name: &[u8], who: &Credentials) -> KResult<()> {
    let superblock = &parent.mount.superblock;
    let dentry = namespace::create(parent, name, who, || {
        let with = NewInode { mode: mode::DIRECTORY | 0o755, uid: Uid(0), gid: Gid(0) };
        Inode::new(superblock, InodeKind::Directory(Directory::new()), with)
    })?;
    mount::attach(what, Path { mount: parent.mount.clone(), dentry })
}

fn make_device(parent: &Path, name: &[u8], kind: InodeKind, with: NewInode) -> KResult<()> {
    let superblock = &parent.mount.superblock;
    namespace::create(parent, name, &Credentials::root(), || Inode::new(superblock, kind, with)).map(drop)
}

fn make_link(parent: &Path, name: &[u8], target: &[u8], who: &Credentials) -> KResult<()> {
    let with = NewInode { mode: mode::SYMLINK | 0o777, uid: Uid(0), gid: Gid(0) };
    let superblock = &parent.mount.superblock;
    let kind = InodeKind::Symlink(Box::from(target));
    namespace::create(parent, name, who, || Inode::new(superblock, kind, with)).map(drop)
}

/// The device files, to be mounted once more.
pub fn device_files() -> Arc<Dentry> {
    trees().devices.clone()
}

/// The pseudo terminals, to be mounted once more.
pub fn pseudo_terminals() -> Arc<Dentry> {
    trees().terminals.clone()
}

fn terminals_directory() -> &'static Arc<Dentry> {
    &trees().terminals
}

fn decimal(number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut left = number;
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return &buffer[at..];
        }
    }
}

/// Makes `/dev/pts/N` for a new pseudo terminal. If it cannot be made, the terminal is not found there.
pub fn add_pty(index: u32, uid: Uid, gid: Gid, permissions: u32) {
    let with = NewInode { mode: mode::CHARACTER | permissions, uid, gid };
    if let Err(error) = make_pty(index, with) {
        log::warn!("/dev/pts/{index} cannot be made: {error}");
    }
}

fn make_pty(index: u32, with: NewInode) -> KResult<()> {
    let directory = terminals_directory();
    let mut buffer = [0; 10];
    insert_device(
        directory,
        decimal(index, &mut buffer),
        InodeKind::Character(DeviceNumber::new(136, index)),
        with,
    )
}

/// Makes `/dev/NAME` for a terminal.
///
/// # Errors
/// ENOMEM; EEXIST.
pub fn add_terminal(name: &[u8], number: DeviceNumber) -> KResult<()> {
    let with = NewInode { mode: mode::CHARACTER | 0o660, uid: Uid(0), gid: TTY_GROUP };
    insert_device(&trees().devices, name, InodeKind::Character(number), with)
}

/// Makes `/dev/NAME` for a disk.
///
/// # Errors
/// ENOMEM; EEXIST.
pub fn add_disk(name: &[u8], number: DeviceNumber, gid: Gid) -> KResult<()> {
    let with = NewInode { mode: mode::BLOCK | 0o660, uid: Uid(0), gid };
    insert_device(&trees().devices, name, InodeKind::Block(number), with)
}

fn insert_device(directory: &Arc<Dentry>, name: &[u8], kind: InodeKind, with: NewInode) -> KResult<()> {
    let inode = Inode::new(&directory.inode.superblock, kind, with)?;
    let name = Name::new(name)?;
    let dentry = Dentry::new(directory, name.clone(), inode);
    let InodeKind::Directory(entries) = &directory.inode.kind else { return Err(Errno::ENOTDIR) };
    let mut entries = entries.lock();
    if entries.names.get(name.as_bytes()).is_some() {
        return Err(Errno::EEXIST);
    }
    entries.names.insert(name, dentry)
}

/// Removes `/dev/pts/N` of a pseudo terminal that is gone.
pub fn remove_pty(index: u32) {
    let mut buffer = [0; 10];
    let name = decimal(index, &mut buffer);
    if let InodeKind::Directory(entries) = &terminals_directory().inode.kind {
        let gone = entries.lock().names.remove(name);
        if let Some(dentry) = gone {
            dentry.set_removed();
            dentry.inode.set_links(0);
        }
    }
}
