//! From where a process looks at the tree.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use super::path::Path;
use crate::sync::SpinLock;

struct Places {
    root: Path,
    cwd: Path,
}

/// Root directory, working directory and file mode mask: what `CLONE_FS` shares.
pub struct FsContext {
    places: SpinLock<Places>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context at the top of `root`.
    pub fn new(root: Path) -> Arc<Self> {
        let cwd = root.clone();
        Arc::new(Self { places: SpinLock::new(Places { root, cwd }), umask: AtomicU32::new(0o022) })
    }

    /// A copy that goes its own way: for `fork(2)`.
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        let places = self.places.lock();
        let places = Places { root: places.root.clone(), cwd: places.cwd.clone() };
        Arc::new(Self { places: SpinLock::new(places), umask: AtomicU32::new(self.umask()) })
    }

    /// Root directory.
    #[inline]
    pub fn root(&self) -> Path {
        self.places.lock().root.clone()
    }

    /// Working directory.
    #[inline]
    pub fn cwd(&self) -> Path {
        self.places.lock().cwd.clone()
    }

    /// Sets the root directory.
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut self.places.lock().root, root);
        drop(old);
    }

    /// Sets the working directory.
    pub fn set_cwd(&self, cwd: Path) {
        let old = core::mem::replace(&mut self.places.lock().cwd, cwd);
        drop(old);
    }

    /// Permissions that new files do not get.
    #[inline]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the mask; returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }
}
