//! A file's place in the tree of names.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::inode::{Inode, InodeKind};
use super::name::Name;
use crate::errno::KResult;
use crate::sync::SpinLock;

/// Where a [`Dentry`] hangs. Changes when it is renamed.
pub struct Link {
    /// The directory; none for the root of a file system.
    pub parent: Option<Arc<Dentry>>,
    /// The name there.
    pub name: Name,
}

/// One name of a file. The directory it is in holds it, and it holds the directory.
pub struct Dentry {
    /// The file.
    pub inode: Arc<Inode>,
    link: SpinLock<Link>,
    /// How many file systems are mounted here, in whatever view of the tree.
    mounts: AtomicU32,
    removed: AtomicBool,
}

impl Dentry {
    /// A name in the directory `parent`; the caller enters it there.
    pub fn new(parent: &Arc<Self>, name: Name, inode: Arc<Inode>) -> Arc<Self> {
        Self::with(Link { parent: Some(parent.clone()), name }, inode)
    }

    /// The root of a file system, or a file without a place (called `name` where a name is asked for).
    ///
    /// # Errors
    /// ENAMETOOLONG.
    pub fn root(name: &[u8], inode: Arc<Inode>) -> KResult<Arc<Self>> {
        Ok(Self::with(Link { parent: None, name: Name::new(name)? }, inode))
    }

    /// A file without a place and without a name.
    pub fn nameless(inode: Arc<Inode>) -> Arc<Self> {
        Self::with(Link { parent: None, name: Name::EMPTY }, inode)
    }

    fn with(link: Link, inode: Arc<Inode>) -> Arc<Self> {
        Arc::new(Self {
            inode,
            link: SpinLock::new(link),
            mounts: AtomicU32::new(0),
            removed: AtomicBool::new(false),
        })
    }

    /// The directory it is in.
    #[inline]
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.link.lock().parent.clone()
    }

    /// Its name.
    pub fn name(&self) -> Name {
        self.link.lock().name.clone()
    }

    /// Moves it elsewhere; returns where it was, to be dropped without locks held.
    pub(super) fn relink(&self, parent: &Arc<Self>, name: Name) -> Link {
        core::mem::replace(&mut *self.link.lock(), Link { parent: Some(parent.clone()), name })
    }

    /// Whether something may be mounted on it.
    #[inline]
    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Relaxed) != 0
    }

    pub(super) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the name is gone.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    pub(super) fn set_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    /// Whether `other` is this or lies below it in the same file system. The caller keeps renames out.
    pub(super) fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(self, &dentry) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Lets go of everything below it, which would otherwise hold itself: its file system is gone.
    pub(super) fn dismantle(&self) {
        let mut left = match &self.inode.kind {
            InodeKind::Directory(directory) => directory.take_all(),
            _ => return,
        };
        while let Some(dentry) = left.pop() {
            dentry.set_removed();
            if let InodeKind::Directory(directory) = &dentry.inode.kind {
                left.append(&mut directory.take_all());
            }
        }
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // A long chain of removed directories would drop itself recursively, deeper than a kernel stack is.
        let mut parent = self.link.get_mut().parent.take();
        while let Some(mut last) = parent.and_then(Arc::into_inner) {
            parent = last.link.get_mut().parent.take();
        }
    }
}
