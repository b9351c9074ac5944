//! A file system as such: its kind, its device number, and how full it is.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::device::DeviceNumber;
use crate::errno::{Errno, KResult};

/// Kinds of file systems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsKind {
    /// Files in memory.
    Tmpfs,
    /// The same, with the kernel's device files in it.
    Devtmpfs,
    /// Pseudo terminals.
    Devpts,
    /// What the kernel tells about itself.
    Proc,
    /// Pipes without a name.
    Pipes,
    /// Sockets without a name.
    Sockets,
    /// Other files without a name.
    Anonymous,
}

impl FsKind {
    /// Its name in `mount(2)` and `/proc/mounts`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Devtmpfs => "devtmpfs",
            Self::Devpts => "devpts",
            Self::Proc => "proc",
            Self::Pipes => "pipefs",
            Self::Sockets => "sockfs",
            Self::Anonymous => "anon_inodefs",
        }
    }

    /// Its number in `statfs(2)` (include/uapi/linux/magic.h).
    pub const fn magic(self) -> u64 {
        match self {
            Self::Tmpfs | Self::Devtmpfs => 0x0102_1994,
            Self::Devpts => 0x1cd1,
            Self::Proc => 0x9fa0,
            Self::Pipes => 0x5049_5045,
            Self::Sockets => 0x534f_434b,
            Self::Anonymous => 0x0904_1934,
        }
    }
}

/// No limit on pages or files.
pub const UNLIMITED: u64 = u64::MAX;

/// A file system.
pub struct Superblock {
    /// What it is.
    pub kind: FsKind,
    /// `st_dev` of its files.
    pub device: DeviceNumber,
    next_inode: AtomicU64,
    pages: AtomicU64,
    inodes: AtomicU64,
    page_limit: AtomicU64,
    inode_limit: AtomicU64,
    /// Mounts that show it.
    users: AtomicU32,
}

impl Superblock {
    /// A file system with nothing in it, of at most so many pages and files.
    pub fn new(kind: FsKind, page_limit: u64, inode_limit: u64) -> Arc<Self> {
        static NEXT_DEVICE: AtomicU32 = AtomicU32::new(1);
        Arc::new(Self {
            kind,
            device: DeviceNumber::new(0, NEXT_DEVICE.fetch_add(1, Ordering::Relaxed)),
            next_inode: AtomicU64::new(1),
            pages: AtomicU64::new(0),
            inodes: AtomicU64::new(0),
            page_limit: AtomicU64::new(page_limit),
            inode_limit: AtomicU64::new(inode_limit),
            users: AtomicU32::new(0),
        })
    }

    /// One more holds it: a mount, or whoever keeps it for ever.
    pub(super) fn add_user(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// One holds it no longer; says whether that was the last.
    pub(super) fn remove_user(&self) -> bool {
        self.users.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A number for a new file.
    #[inline]
    pub(super) fn new_number(&self) -> u64 {
        self.next_inode.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts one more file.
    pub(super) fn charge_inode(&self) -> KResult<()> {
        charge(&self.inodes, &self.inode_limit, 1)
    }

    /// A file is gone.
    pub(super) fn release_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts more pages.
    ///
    /// # Errors
    /// ENOSPC.
    #[inline]
    pub(super) fn charge_pages(&self, count: u64) -> KResult<()> {
        charge(&self.pages, &self.page_limit, count)
    }

    /// Pages are gone.
    pub(super) fn release_pages(&self, count: u64) {
        if count != 0 {
            self.pages.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// Pages in use, and how many there may be.
    pub fn page_usage(&self) -> (u64, u64) {
        (self.pages.load(Ordering::Relaxed), self.page_limit.load(Ordering::Relaxed))
    }

    /// Files in use, and how many there may be.
    pub fn inode_usage(&self) -> (u64, u64) {
        (self.inodes.load(Ordering::Relaxed), self.inode_limit.load(Ordering::Relaxed))
    }

    /// Sets other limits (a remount); less than what is in use only stops further growth.
    pub fn set_limits(&self, pages: Option<u64>, inodes: Option<u64>) {
        if let Some(pages) = pages {
            self.page_limit.store(pages, Ordering::Relaxed);
        }
        if let Some(inodes) = inodes {
            self.inode_limit.store(inodes, Ordering::Relaxed);
        }
    }
}

fn charge(used: &AtomicU64, limit: &AtomicU64, count: u64) -> KResult<()> {
    let before = used.fetch_add(count, Ordering::Relaxed);
    if before + count > limit.load(Ordering::Relaxed) {
        used.fetch_sub(count, Ordering::Relaxed);
        return Err(Errno::ENOSPC);
    }
    Ok(())
}
