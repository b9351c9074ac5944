//! A directory in memory.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::dentry::Dentry;
use super::name_table::NameTable;
use crate::sync::{SpinGuard, SpinLock};

/// What a directory holds.
#[derive(Default)]
pub struct Entries {
    /// The names.
    pub names: NameTable<Arc<Dentry>>,
    /// The directory was removed: nothing can be made in it.
    pub removed: bool,
}

/// A directory in memory: the names themselves, not a copy of what is elsewhere. So a name that is not here does not
/// exist.
#[derive(Default)]
pub struct Directory(SpinLock<Entries>);

impl Directory {
    /// With no entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries. Locks of several directories are taken from the root down; see [`super::namespace`].
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, Entries> {
        self.0.lock()
    }

    /// What `name` leads to.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.0.lock().names.get(name).cloned()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.lock().names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, when its file system is gone.
    pub(super) fn take_all(&self) -> Vec<Arc<Dentry>> {
        let mut entries = self.0.lock();
        entries.removed = true;
        entries.names.take_all()
    }
}
