//! A place in the tree as a program sees it: a name in a mounted file system.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::dentry::Dentry;
use super::inode::Inode;
use super::mount::Mount;
use crate::errno::{Errno, KResult};

/// A name in a mounted file system.
#[derive(Clone)]
pub struct Path {
    /// Through which mount it is seen.
    pub mount: Arc<Mount>,
    /// The name.
    pub dentry: Arc<Dentry>,
}

/// A path spelled out.
pub struct Spelled {
    /// The bytes, from the root on.
    pub bytes: Vec<u8>,
    /// The root was met on the way up.
    pub reachable: bool,
    /// The name is gone.
    pub removed: bool,
}

impl Path {
    /// The file.
    #[inline]
    pub fn inode(&self) -> &Arc<Inode> {
        &self.dentry.inode
    }

    /// Whether both are the same place.
    #[inline]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }

    /// Whether it is the top of its mount.
    #[inline]
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, &self.mount.root)
    }

    /// Goes to what is mounted here, and on that, and so on.
    #[inline]
    pub fn cross_mounts(&mut self) {
        while self.dentry.is_mount_point() {
            let Some(mount) = super::mount::mounted_on(self) else { return };
            self.dentry = mount.root.clone();
            self.mount = mount;
        }
    }

    /// Goes up one directory, across mounts, but not above `root`.
    pub fn go_up(&mut self, root: &Self) {
        loop {
            if self.is(root) {
                return;
            }
            if !self.is_mount_root() {
                if let Some(parent) = self.dentry.parent() {
                    self.dentry = parent;
                    self.cross_mounts();
                }
                return;
            }
            let Some(below) = self.mount.mounted_at() else { return };
            *self = below;
        }
    }

    /// Spells it out as seen from `root`.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn spell(&self, root: &Self) -> KResult<Spelled> {
        let removed = self.dentry.is_removed();
        let mut names = Vec::new();
        let mut at = self.clone();
        let reachable = loop {
            if at.is(root) {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.mounted_at() {
                    Some(below) => at = below,
                    None => break false,
                }
                continue;
            }
            names.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            names.push(at.dentry.name());
            match at.dentry.parent() {
                Some(parent) => at.dentry = parent,
                None => break false,
            }
        };
        let mut bytes = Vec::new();
        let length = names.iter().map(|name| name.as_bytes().len() + 1).sum::<usize>().max(1);
        bytes.try_reserve(length).map_err(|_| Errno::ENOMEM)?;
        for name in names.iter().rev() {
            bytes.push(b'/');
            bytes.extend_from_slice(name.as_bytes());
        }
        if bytes.is_empty() {
            bytes.push(b'/');
        }
        Ok(Spelled { bytes, reachable, removed })
    }
}

impl Spelled {
    /// As links in `/proc` show it.
    pub fn for_display(mut self) -> Vec<u8> {
        if self.removed {
            self.bytes.extend_from_slice(b" (deleted)");
        }
        self.bytes
    }
}
