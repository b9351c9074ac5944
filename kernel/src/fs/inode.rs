//! A file, by whatever names it goes.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use super::device::DeviceNumber;
use super::directory::Directory;
use super::dynamic::{DynamicDirectory, DynamicFile, DynamicLink};
use super::locks::FileLocks;
use super::pipe::Pipe;
use super::regular::Regular;
use super::superblock::Superblock;
use crate::errno::{Errno, KResult};
use crate::process::Credentials;
use crate::process::credentials::{Gid, Uid};
use crate::sync::SpinLock;

/// The bits of `st_mode`.
pub mod mode {
    /// Type of the file.
    pub const TYPE: u32 = 0o170_000;
    /// Socket.
    pub const SOCKET: u32 = 0o140_000;
    /// Symbolic link.
    pub const SYMLINK: u32 = 0o120_000;
    /// Regular file.
    pub const REGULAR: u32 = 0o100_000;
    /// Block device.
    pub const BLOCK: u32 = 0o060_000;
    /// Directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// Character device.
    pub const CHARACTER: u32 = 0o020_000;
    /// Pipe with a name.
    pub const FIFO: u32 = 0o010_000;
    /// Set user on execution.
    pub const SET_UID: u32 = 0o4000;
    /// Set group on execution.
    pub const SET_GID: u32 = 0o2000;
    /// Only owners may remove.
    pub const STICKY: u32 = 0o1000;
    /// All that `chmod(2)` sets.
    pub const PERMISSIONS: u32 = 0o7777;
}

/// What a file is.
pub enum InodeKind {
    /// Bytes.
    Regular(Regular),
    /// Names of other files.
    Directory(Directory),
    /// The path it leads to.
    Symlink(Box<[u8]>),
    /// A character device.
    Character(DeviceNumber),
    /// A block device.
    Block(DeviceNumber),
    /// A pipe, with a name or without.
    Fifo(Box<Pipe>),
    /// A socket, bound to this name or without one.
    Socket(SocketName),
    /// A file whose content is made when it is read.
    Dynamic(Box<dyn DynamicFile>),
    /// A directory whose entries are made when they are looked for.
    DynamicDirectory(Box<dyn DynamicDirectory>),
    /// A link whose target is made when it is followed.
    DynamicLink(Box<dyn DynamicLink>),
    /// Any other file without a name.
    Anonymous,
}

bitflags::bitflags! {
    /// Access asked for, as in `access(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Access: u32 {
        /// Execute, or search a directory.
        const EXECUTE = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// A name in the tree that a socket may be bound to.
#[derive(Default)]
pub struct SocketName(SpinLock<Option<Weak<dyn Any + Send + Sync>>>);

impl SocketName {
    /// The name of `socket`.
    pub fn of(socket: Weak<dyn Any + Send + Sync>) -> Self {
        Self(SpinLock::new(Some(socket)))
    }

    /// The socket, while it exists.
    pub fn socket<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.lock().as_ref()?.upgrade()?.downcast().ok()
    }
}

/// A file.
pub struct Inode {
    /// Its number in its file system.
    pub number: u64,
    /// Its file system.
    pub superblock: Arc<Superblock>,
    /// What it is.
    pub kind: InodeKind,
    /// Locks that programs have put on it.
    pub locks: FileLocks,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    links: AtomicU32,
    linkable: AtomicBool,
    /// Nanoseconds since 1970, as are the others.
    accessed: AtomicI64,
    modified: AtomicI64,
    changed: AtomicI64,
    born: i64,
}

/// The times of a file, in nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Last read.
    pub accessed: i64,
    /// Last change of content.
    pub modified: i64,
    /// Last change of anything.
    pub changed: i64,
    /// Made.
    pub born: i64,
}

/// Now, as files keep it.
#[inline]
pub fn now() -> i64 {
    crate::time::realtime().0 as i64
}

/// What a new file starts with.
#[derive(Clone, Copy, Debug)]
pub struct NewInode {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
}

impl Inode {
    /// A new file with one link (a directory: two).
    ///
    /// # Errors
    /// ENOSPC if the file system has as many as it may.
    pub fn new(superblock: &Arc<Superblock>, kind: InodeKind, with: NewInode) -> KResult<Arc<Self>> {
        superblock.charge_inode()?;
        let number = superblock.new_number();
        Ok(Arc::new(Self::build(superblock.clone(), number, kind, with)))
    }

    /// A file with a number of the caller's choice, not counted as one the file system keeps.
    pub fn uncounted(
        superblock: &Arc<Superblock>,
        number: u64,
        kind: InodeKind,
        with: NewInode,
    ) -> Arc<Self> {
        // Taken back when it is dropped.
        let _ = superblock.charge_inode();
        Arc::new(Self::build(superblock.clone(), number, kind, with))
    }

    fn build(superblock: Arc<Superblock>, number: u64, kind: InodeKind, with: NewInode) -> Self {
        let now = now();
        let links = if with.mode & mode::TYPE == mode::DIRECTORY { 2 } else { 1 };
        Self {
            number,
            superblock,
            kind,
            locks: FileLocks::new(),
            mode: AtomicU32::new(with.mode),
            uid: AtomicU32::new(with.uid.0),
            gid: AtomicU32::new(with.gid.0),
            links: AtomicU32::new(links),
            linkable: AtomicBool::new(false),
            accessed: AtomicI64::new(now),
            modified: AtomicI64::new(now),
            changed: AtomicI64::new(now),
            born: now,
        }
    }

    /// Type and permissions.
    #[inline]
    pub fn mode(&self) -> u32 {
        self.mode.load(Ordering::Relaxed)
    }

    /// Owner.
    #[inline]
    pub fn uid(&self) -> Uid {
        Uid(self.uid.load(Ordering::Relaxed))
    }

    /// Group.
    #[inline]
    pub fn gid(&self) -> Gid {
        Gid(self.gid.load(Ordering::Relaxed))
    }

    /// How many names it has.
    #[inline]
    pub fn links(&self) -> u32 {
        self.links.load(Ordering::Relaxed)
    }

    pub(super) fn set_links(&self, links: u32) {
        self.links.store(links, Ordering::Relaxed);
    }

    /// Whether a file that was made without a name may get one.
    pub fn is_linkable(&self) -> bool {
        self.linkable.load(Ordering::Relaxed)
    }

    pub(super) fn set_linkable(&self, linkable: bool) {
        self.linkable.store(linkable, Ordering::Relaxed);
    }

    pub(super) fn add_link(&self) {
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_link(&self) {
        let _ = self.links.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |links| links.checked_sub(1));
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, InodeKind::Directory(_) | InodeKind::DynamicDirectory(_))
    }

    /// Whether it is a symbolic link of any kind.
    #[inline]
    pub fn is_symlink(&self) -> bool {
        matches!(self.kind, InodeKind::Symlink(_) | InodeKind::DynamicLink(_))
    }

    /// Size in bytes, as `st_size` gives it.
    pub fn size(&self) -> u64 {
        match &self.kind {
            InodeKind::Regular(file) => file.size(),
            InodeKind::Directory(directory) => 40 + 20 * directory.len() as u64,
            InodeKind::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    /// Memory in use, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        match &self.kind {
            InodeKind::Regular(file) => file.pages() * 8,
            _ => 0,
        }
    }

    /// The device it stands for.
    pub fn device(&self) -> DeviceNumber {
        match self.kind {
            InodeKind::Character(number) | InodeKind::Block(number) => number,
            _ => DeviceNumber::default(),
        }
    }

    /// Its times.
    pub fn times(&self) -> Times {
        Times {
            accessed: self.accessed.load(Ordering::Relaxed),
            modified: self.modified.load(Ordering::Relaxed),
            changed: self.changed.load(Ordering::Relaxed),
            born: self.born,
        }
    }

    /// Its content was changed now.
    #[inline]
    pub fn touch_modified(&self) {
        let now = now();
        self.modified.store(now, Ordering::Relaxed);
        self.changed.store(now, Ordering::Relaxed);
    }

    /// Something beside its content was changed now.
    pub fn touch_changed(&self) {
        self.changed.store(now(), Ordering::Relaxed);
    }

    /// It was read now. Kept as `relatime` mounts do: only the first time after a change.
    #[inline]
    pub fn touch_accessed(&self) {
        let accessed = self.accessed.load(Ordering::Relaxed);
        if accessed <= self.modified.load(Ordering::Relaxed)
            || accessed <= self.changed.load(Ordering::Relaxed)
        {
            self.accessed.store(now(), Ordering::Relaxed);
        }
    }

    /// Sets times of access and modification, those given.
    pub fn set_times(&self, accessed: Option<i64>, modified: Option<i64>) {
        if let Some(time) = accessed {
            self.accessed.store(time, Ordering::Relaxed);
        }
        if let Some(time) = modified {
            self.modified.store(time, Ordering::Relaxed);
        }
        self.touch_changed();
    }

    /// Sets the permissions, whoever asks.
    pub fn set_permissions(&self, permissions: u32) {
        let kind = self.mode() & mode::TYPE;
        self.mode.store(kind | (permissions & mode::PERMISSIONS), Ordering::Relaxed);
        self.touch_changed();
    }

    /// Sets the owner and group, those given, whoever asks.
    pub fn set_owner(&self, uid: Option<Uid>, gid: Option<Gid>) {
        if let Some(uid) = uid {
            self.uid.store(uid.0, Ordering::Relaxed);
        }
        if let Some(gid) = gid {
            self.gid.store(gid.0, Ordering::Relaxed);
        }
        self.touch_changed();
    }

    /// Whether `who` may do all of `access`.
    ///
    /// # Errors
    /// EACCES.
    #[inline]
    pub fn check(&self, access: Access, who: &Credentials) -> KResult<()> {
        let bits = self.mode();
        if who.fsuid == Uid(0) {
            // The superuser may do all but execute what nobody may.
            let fine = !access.contains(Access::EXECUTE) || bits & 0o111 != 0 || self.is_directory();
            return if fine { Ok(()) } else { Err(Errno::EACCES) };
        }
        let granted = if self.uid() == who.fsuid {
            bits >> 6
        } else if who.in_group(self.gid()) {
            bits >> 3
        } else {
            bits
        };
        if access.bits() & !granted == 0 { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether `who` may do what only the owner may.
    ///
    /// # Errors
    /// EPERM.
    pub fn check_owner(&self, who: &Credentials) -> KResult<()> {
        if who.fsuid == Uid(0) || who.fsuid == self.uid() { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Takes away what executing the file would give, after a write by someone unprivileged.
    pub fn strip_set_id(&self, who: &Credentials) {
        let bits = self.mode();
        let mut stripped = bits & !mode::SET_UID;
        // Without group execution the bit means mandatory locking, as far as anybody remembers.
        if bits & 0o010 != 0 {
            stripped &= !mode::SET_GID;
        }
        if stripped != bits && who.fsuid != Uid(0) {
            self.mode.store(stripped, Ordering::Relaxed);
        }
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        if let InodeKind::Regular(file) = &self.kind {
            self.superblock.release_pages(file.pages());
        }
        self.superblock.release_inode();
    }
}
