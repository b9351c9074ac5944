//! Making, removing and moving names.
//!
//! Each directory has a lock of its own. Where several are needed, they are taken from the root down; two that do not
//! lie above one another are taken in either order, which only a rename does, and renames take [`RENAME`] first.

use alloc::sync::Arc;

use super::dentry::Dentry;
use super::directory::{Directory, Entries};
use super::inode::{Access, Inode, InodeKind, mode};
use super::name::Name;
use super::path::Path;
use super::walk::lookup;
use crate::errno::{Errno, KResult};
use crate::process::Credentials;
use crate::process::credentials::Uid;
use crate::sync::SpinLock;

/// Held during a rename: which directory lies above which does not change meanwhile.
static RENAME: SpinLock<()> = SpinLock::new(());

/// Flags of `renameat2(2)`.
pub mod rename_flags {
    /// Fails if the new name exists.
    pub const NO_REPLACE: u32 = 1;
    /// Both names change places.
    pub const EXCHANGE: u32 = 2;
}

fn directory_of(inode: &Inode) -> KResult<&Directory> {
    match &inode.kind {
        InodeKind::Directory(directory) => Ok(directory),
        // Directories made on demand know all names they will ever have.
        InodeKind::DynamicDirectory(_) => Err(Errno::ENOENT),
        _ => Err(Errno::ENOTDIR),
    }
}

/// Says whether `who` may make names in `parent`.
fn check_may_change(parent: &Path, who: &Credentials) -> KResult<()> {
    parent.mount.check_writable()?;
    parent.inode().check(Access::WRITE | Access::EXECUTE, who)
}

/// Says whether `who` may take the name of `child` out of `parent`.
fn check_may_remove(parent: &Path, child: &Inode, who: &Credentials) -> KResult<()> {
    check_may_change(parent, who)?;
    let directory = parent.inode();
    let sticky = directory.mode() & mode::STICKY != 0;
    if sticky && who.fsuid != Uid(0) && who.fsuid != child.uid() && who.fsuid != directory.uid() {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Makes the new name `name` in `parent` for the file that `make` makes.
///
/// # Errors
/// EEXIST, ENOENT if the directory is gone, EROFS, EACCES, ENAMETOOLONG, ENOMEM, and those of `make`.
pub fn create(
    parent: &Path,
    name: &[u8],
    who: &Credentials,
    make: impl FnOnce() -> KResult<Arc<Inode>>,
) -> KResult<Arc<Dentry>> {
    if lookup(&parent.dentry, name)?.is_some() {
        return Err(Errno::EEXIST);
    }
    let directory = directory_of(parent.inode())?;
    check_may_change(parent, who)?;
    let key = Name::new(name)?;
    let dentry = Dentry::new(&parent.dentry, key.clone(), make()?);
    let mut entries = directory.lock();
    if entries.removed {
        return Err(Errno::ENOENT);
    }
    if entries.names.get(name).is_some() {
        return Err(Errno::EEXIST);
    }
    entries.names.insert(key, dentry.clone())?;
    drop(entries);
    if dentry.inode.is_directory() {
        parent.inode().add_link();
    }
    parent.inode().touch_modified();
    Ok(dentry)
}

/// Makes the new name `name` in `parent` for a file that exists.
///
/// # Errors
/// As [`create`]; EXDEV across mounts, EPERM for a directory, ENOENT for a file whose last name is gone unless it was
/// made without one.
pub fn link(file: &Path, parent: &Path, name: &[u8], who: &Credentials) -> KResult<()> {
    if !Arc::ptr_eq(&file.mount, &parent.mount) {
        return Err(Errno::EXDEV);
    }
    let inode = file.inode();
    if inode.is_directory() {
        return Err(Errno::EPERM);
    }
    if inode.links() == 0 && !inode.is_linkable() {
        return Err(Errno::ENOENT);
    }
    let mut counted = false;
    let made = create(parent, name, who, || {
        inode.add_link();
        counted = true;
        Ok(inode.clone())
    });
    match made {
        Ok(_) => {
            inode.touch_changed();
            Ok(())
        }
        Err(error) => {
            if counted {
                inode.remove_link();
            }
            Err(error)
        }
    }
}

/// Removes the name `name` of a file that is no directory.
///
/// # Errors
/// ENOENT, EISDIR, EBUSY for a mount point, EROFS, EACCES, EPERM; ENOTDIR if only a directory would do.
pub fn unlink(parent: &Path, name: &[u8], who: &Credentials, wants_directory: bool) -> KResult<()> {
    let victim = lookup(&parent.dentry, name)?.ok_or(Errno::ENOENT)?;
    if wants_directory {
        return Err(if victim.inode.is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    let directory = directory_of(parent.inode()).map_err(|_| Errno::EPERM)?;
    check_may_remove(parent, &victim.inode, who)?;
    if victim.inode.is_directory() {
        return Err(Errno::EISDIR);
    }
    if victim.is_mount_point() {
        return Err(Errno::EBUSY);
    }
    take_name(&mut directory.lock(), name, &victim)?;
    victim.inode.remove_link();
    victim.inode.touch_changed();
    parent.inode().touch_modified();
    Ok(())
}

/// Takes the entry out if it still leads to `victim`.
fn take_name(entries: &mut Entries, name: &[u8], victim: &Arc<Dentry>) -> KResult<()> {
    match entries.names.get(name) {
        Some(found) if Arc::ptr_eq(found, victim) => {
            // The caller holds another reference: this one is not the last, so nothing is dropped under the lock.
            entries.names.remove(name);
            victim.set_removed();
            Ok(())
        }
        _ => Err(Errno::ENOENT),
    }
}

/// Removes the empty directory `name`.
///
/// # Errors
/// As [`unlink`]; ENOTDIR, ENOTEMPTY.
pub fn remove_directory(parent: &Path, name: &[u8], who: &Credentials) -> KResult<()> {
    let victim = lookup(&parent.dentry, name)?.ok_or(Errno::ENOENT)?;
    let directory = directory_of(parent.inode()).map_err(|_| Errno::EPERM)?;
    check_may_remove(parent, &victim.inode, who)?;
    let content = match &victim.inode.kind {
        InodeKind::Directory(content) => content,
        InodeKind::DynamicDirectory(_) => return Err(Errno::EBUSY),
        _ => return Err(Errno::ENOTDIR),
    };
    if victim.is_mount_point() {
        return Err(Errno::EBUSY);
    }
    {
        let mut entries = directory.lock();
        let mut inner = content.lock();
        if !inner.names.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        take_name(&mut entries, name, &victim)?;
        inner.removed = true;
    }
    victim.inode.set_links(0);
    victim.inode.touch_changed();
    parent.inode().remove_link();
    parent.inode().touch_modified();
    Ok(())
}

/// One side of a rename.
#[derive(Clone, Copy)]
pub struct RenameSide<'a> {
    /// The directory.
    pub parent: &'a Path,
    /// The name in it.
    pub name: &'a [u8],
    /// A slash followed the name.
    pub wants_directory: bool,
}

/// Renames `old` to `new` (`renameat2(2)`).
///
/// # Errors
/// EXDEV, ENOENT, EEXIST, EINVAL when a directory would come below itself, ENOTEMPTY, ENOTDIR, EISDIR, EBUSY for mount
/// points, EROFS, EACCES, EPERM, ENAMETOOLONG, ENOMEM.
pub fn rename(old: RenameSide<'_>, new: RenameSide<'_>, flags: u32, who: &Credentials) -> KResult<()> {
    if !Arc::ptr_eq(&old.parent.mount, &new.parent.mount) {
        return Err(Errno::EXDEV);
    }
    old.parent.mount.check_writable()?;
    let exchange = flags & rename_flags::EXCHANGE != 0;
    let guard = RENAME.lock();
    let source = lookup(&old.parent.dentry, old.name)?.ok_or(Errno::ENOENT)?;
    let target = lookup(&new.parent.dentry, new.name)?;
    if flags & rename_flags::NO_REPLACE != 0 && target.is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange {
        let target = target.as_ref().ok_or(Errno::ENOENT)?;
        if new.wants_directory && !target.inode.is_directory() {
            return Err(Errno::ENOTDIR);
        }
    }
    if !source.inode.is_directory() && (old.wants_directory || (!exchange && new.wants_directory)) {
        return Err(Errno::ENOTDIR);
    }
    if source.is_ancestor_of(&new.parent.dentry) {
        return Err(Errno::EINVAL);
    }
    if target.as_ref().is_some_and(|target| target.is_ancestor_of(&old.parent.dentry)) {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    let old_directory = directory_of(old.parent.inode()).map_err(|_| Errno::EPERM)?;
    let new_directory = directory_of(new.parent.inode()).map_err(|_| Errno::EPERM)?;
    if let Some(target) = &target
        && Arc::ptr_eq(&target.inode, &source.inode)
    {
        return Ok(());
    }
    check_may_remove(old.parent, &source.inode, who)?;
    match &target {
        Some(target) => check_may_remove(new.parent, &target.inode, who)?,
        None => check_may_change(new.parent, who)?,
    }
    if let Some(target) = &target
        && !exchange
    {
        match (source.inode.is_directory(), target.inode.is_directory()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
    }
    let same_parent = Arc::ptr_eq(&old.parent.dentry, &new.parent.dentry);
    if !same_parent {
        // A directory that gets another parent is changed itself: its "..".
        for moved in [Some(&source), target.as_ref().filter(|_| exchange)].into_iter().flatten() {
            if moved.inode.is_directory() {
                moved.inode.check(Access::WRITE, who)?;
            }
        }
    }
    if source.is_mount_point() || target.as_ref().is_some_and(|target| target.is_mount_point()) {
        return Err(Errno::EBUSY);
    }
    let sides = Sides { old, new, source: &source, target: target.as_ref() };
    let unlinked = {
        let first_is_old = same_parent
            || old.parent.dentry.is_ancestor_of(&new.parent.dentry)
            || !new.parent.dentry.is_ancestor_of(&old.parent.dentry);
        if same_parent {
            let mut entries = old_directory.lock();
            sides.apply(&mut entries, None, exchange)
        } else if first_is_old {
            let mut from = old_directory.lock();
            let mut to = new_directory.lock();
            sides.apply(&mut from, Some(&mut to), exchange)
        } else {
            let mut to = new_directory.lock();
            let mut from = old_directory.lock();
            sides.apply(&mut from, Some(&mut to), exchange)
        }
    };
    drop(guard);
    let unlinked = unlinked?;
    sides.settle(exchange, same_parent);
    drop(unlinked);
    Ok(())
}

struct Sides<'a> {
    old: RenameSide<'a>,
    new: RenameSide<'a>,
    source: &'a Arc<Dentry>,
    target: Option<&'a Arc<Dentry>>,
}

impl Sides<'_> {
    /// Changes the directories, which are locked; `to` is none if both are the same. Returns what is to be dropped.
    fn apply(
        &self,
        from: &mut Entries,
        to: Option<&mut Entries>,
        exchange: bool,
    ) -> KResult<[Option<super::dentry::Link>; 2]> {
        let leads_to = |entries: &Entries, name: &[u8], dentry: Option<&Arc<Dentry>>| match (
            entries.names.get(name),
            dentry,
        ) {
            (None, None) => true,
            (Some(found), Some(dentry)) => Arc::ptr_eq(found, dentry),
            _ => false,
        };
        let old_key = Name::new(self.old.name)?;
        let new_key = Name::new(self.new.name)?;
        let destination: &Entries = to.as_deref().unwrap_or(from);
        if from.removed
            || destination.removed
            || !leads_to(from, self.old.name, Some(self.source))
            || !leads_to(destination, self.new.name, self.target)
        {
            return Err(Errno::ENOENT);
        }
        if exchange {
            let Some(target) = self.target else { return Err(Errno::ENOENT) };
            if let Some(slot) = from.names.get_mut(self.old.name) {
                *slot = target.clone();
            }
            if let Some(slot) = to.unwrap_or(from).names.get_mut(self.new.name) {
                *slot = self.source.clone();
            }
            let first = self.source.relink(&self.new.parent.dentry, new_key);
            let second = target.relink(&self.old.parent.dentry, old_key);
            return Ok([Some(first), Some(second)]);
        }
        match self.target {
            Some(target) => {
                if let InodeKind::Directory(content) = &target.inode.kind {
                    let mut inner = content.lock();
                    if !inner.names.is_empty() {
                        return Err(Errno::ENOTEMPTY);
                    }
                    inner.removed = true;
                }
                if let Some(slot) = to.unwrap_or(from).names.get_mut(self.new.name) {
                    *slot = self.source.clone();
                }
                target.set_removed();
            }
            None => to.unwrap_or(from).names.insert(new_key.clone(), self.source.clone())?,
        }
        from.names.remove(self.old.name);
        Ok([Some(self.source.relink(&self.new.parent.dentry, new_key)), None])
    }

    /// Counts links and notes times, after the fact.
    fn settle(&self, exchange: bool, same_parent: bool) {
        let source_is_directory = self.source.inode.is_directory();
        let target_is_directory = self.target.is_some_and(|target| target.inode.is_directory());
        let (old, new) = (self.old.parent.inode(), self.new.parent.inode());
        if exchange {
            if !same_parent && source_is_directory != target_is_directory {
                let (gains, loses) = if source_is_directory { (new, old) } else { (old, new) };
                gains.add_link();
                loses.remove_link();
            }
        } else {
            if source_is_directory && !same_parent {
                old.remove_link();
                new.add_link();
            }
            if target_is_directory {
                new.remove_link();
            }
            if let Some(target) = self.target {
                if target_is_directory { target.inode.set_links(0) } else { target.inode.remove_link() }
            }
        }
        if let Some(target) = self.target {
            target.inode.touch_changed();
        }
        self.source.inode.touch_changed();
        old.touch_modified();
        if !same_parent {
            new.touch_modified();
        }
    }
}
