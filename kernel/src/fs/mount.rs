//! Which file system is seen where.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use super::dentry::Dentry;
use super::path::Path;
use super::superblock::Superblock;
use crate::errno::{Errno, KResult};
use crate::sync::SpinLock;

bitflags::bitflags! {
    /// Restrictions of a mount (`mount(2)`'s numbers).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountFlags: u32 {
        /// Nothing is changed through it.
        const READ_ONLY = 1;
        /// Set-user and set-group bits do nothing.
        const NO_SUID = 2;
        /// Device files lead nowhere.
        const NO_DEV = 4;
        /// Nothing is executed.
        const NO_EXEC = 8;
        /// Times of access are not kept.
        const NO_ATIME = 1024;
        /// Times of access of directories are not kept.
        const NO_DIRATIME = 2048;
        /// Times of access are kept now and then.
        const RELATIME = 1 << 21;
    }
}

/// A file system, or a part of one, seen somewhere.
pub struct Mount {
    /// Its number in `/proc/PID/mountinfo`.
    pub id: u32,
    /// The file system.
    pub superblock: Arc<Superblock>,
    /// What is seen at the place.
    pub root: Arc<Dentry>,
    /// What `mount(2)` was told to mount.
    pub source: Box<[u8]>,
    flags: AtomicU32,
    at: SpinLock<Option<Path>>,
}

static MOUNTS: SpinLock<Vec<Arc<Mount>>> = SpinLock::new(Vec::new());

impl Mount {
    /// A mount that is not seen anywhere yet.
    pub fn new(
        superblock: Arc<Superblock>,
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
    ) -> Arc<Self> {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        superblock.add_user();
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            superblock,
            root,
            source: Box::from(source),
            flags: AtomicU32::new(flags.bits()),
            at: SpinLock::new(None),
        })
    }

    /// Its top.
    pub fn top(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// Its restrictions.
    #[inline]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Sets its restrictions.
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Says whether something may be changed through it.
    ///
    /// # Errors
    /// EROFS.
    #[inline]
    pub fn check_writable(&self) -> KResult<()> {
        if self.flags().contains(MountFlags::READ_ONLY) { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// The place it covers; none for the first file system and for one taken away.
    pub fn mounted_at(&self) -> Option<Path> {
        self.at.lock().clone()
    }

    /// Its options as `/proc/mounts` lists them.
    pub fn options(&self) -> String {
        let flags = self.flags();
        let mut options = String::from(if flags.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" });
        for (flag, text) in [
            (MountFlags::NO_SUID, ",nosuid"),
            (MountFlags::NO_DEV, ",nodev"),
            (MountFlags::NO_EXEC, ",noexec"),
            (MountFlags::NO_ATIME, ",noatime"),
            (MountFlags::NO_DIRATIME, ",nodiratime"),
        ] {
            if flags.contains(flag) {
                options.push_str(text);
            }
        }
        if !flags.contains(MountFlags::NO_ATIME) {
            options.push_str(",relatime");
        }
        options
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.superblock.remove_user() {
            let mut top = self.root.clone();
            while let Some(parent) = top.parent() {
                top = parent;
            }
            top.dismantle();
        }
    }
}

/// What is mounted on `place` itself.
pub fn mounted_on(place: &Path) -> Option<Arc<Mount>> {
    let mounts = MOUNTS.lock();
    mounts.iter().find(|mount| mount.at.lock().as_ref().is_some_and(|at| at.is(place))).cloned()
}

/// All mounts, in the order in which they were made.
pub fn all() -> Vec<Arc<Mount>> {
    MOUNTS.lock().clone()
}

/// Makes `mount` the first: the one nothing lies below.
pub fn attach_root(mount: &Arc<Mount>) {
    MOUNTS.lock().push(mount.clone());
}

/// Covers `place` with `mount`. What is mounted there already is covered too.
///
/// # Errors
/// ENOENT if the place was removed meanwhile, ENOMEM.
pub fn attach(mount: &Arc<Mount>, mut place: Path) -> KResult<()> {
    place.cross_mounts();
    let mut mounts = MOUNTS.lock();
    if place.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    mounts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    place.dentry.add_mount();
    *mount.at.lock() = Some(place);
    mounts.push(mount.clone());
    Ok(())
}

/// How [`detach`] treats a mount in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detach {
    /// Refuses.
    IfUnused,
    /// Takes it out of sight; it goes when its last user does.
    Lazily,
}

/// Takes the mount whose top is `top` away, and with [`Detach::Lazily`] those on it too.
///
/// # Errors
/// EINVAL if it is no mount's top, or the first one's; EBUSY if it is in use.
pub fn detach(top: Path, how: Detach) -> KResult<()> {
    if !top.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let mut gone = Vec::new();
    {
        let mut mounts = MOUNTS.lock();
        let Some(index) = mounts.iter().position(|mount| Arc::ptr_eq(mount, &top.mount)) else {
            return Err(Errno::EINVAL);
        };
        if top.mount.at.lock().is_none() {
            return Err(Errno::EINVAL);
        }
        // The table and the caller hold it; whoever else does uses it.
        if how == Detach::IfUnused && Arc::strong_count(&top.mount) > 2 {
            return Err(Errno::EBUSY);
        }
        gone.try_reserve(mounts.len()).map_err(|_| Errno::ENOMEM)?;
        gone.push(mounts.remove(index));
        let mut next = 0;
        while next < gone.len() {
            let mut index = 0;
            while index < mounts.len() {
                let below =
                    mounts[index].at.lock().as_ref().is_some_and(|at| Arc::ptr_eq(&at.mount, &gone[next]));
                if below { gone.push(mounts.remove(index)) } else { index += 1 }
            }
            next += 1;
        }
    }
    for mount in gone {
        let at = mount.at.lock().take();
        if let Some(at) = at {
            at.dentry.remove_mount();
        }
    }
    Ok(())
}

/// Makes `new` what `/` means and puts the old one at `put_old` (`pivot_root(2)`): both mounts change places.
pub fn pivot(old_root: &Path, new: &Path, put_old: Path) -> KResult<()> {
    let mounts = MOUNTS.lock();
    let old_at = old_root.mount.at.lock().take();
    let new_at = new.mount.at.lock().take();
    if let Some(at) = &new_at {
        at.dentry.remove_mount();
    }
    put_old.dentry.add_mount();
    *old_root.mount.at.lock() = Some(put_old);
    *new.mount.at.lock() = old_at;
    drop(mounts);
    drop(new_at);
    Ok(())
}
