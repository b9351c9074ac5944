//! Tests of the tree of names and of what is in files, on trees of their own.

mod files;
mod names;
mod pipes;
mod tables;
mod unpacking;
mod walks;

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::context::FsContext;
use super::dentry::Dentry;
use super::directory::Directory;
use super::inode::{Inode, InodeKind, NewInode, mode};
use super::mount::{Mount, MountFlags};
use super::namespace::{self, RenameSide};
use super::path::Path;
use super::regular::Regular;
use super::superblock::{FsKind, Superblock, UNLIMITED};
use super::tree::new_tree;
use super::walk::{Final, Last, Walker};
use crate::errno::{Errno, KResult};
use crate::process::Credentials;
use crate::process::credentials::{Gid, Uid};

/// A tree with nothing in it, and who looks at it.
struct Tree {
    context: Arc<FsContext>,
    who: Credentials,
}

fn someone(uid: u32) -> Credentials {
    let (uid, gid) = (Uid(uid), Gid(uid));
    Credentials {
        uid,
        euid: uid,
        suid: uid,
        fsuid: uid,
        gid,
        egid: gid,
        sgid: gid,
        fsgid: gid,
        groups: [].into(),
    }
}

fn new_mount() -> Arc<Mount> {
    let superblock = Superblock::new(FsKind::Tmpfs, UNLIMITED, UNLIMITED);
    let top = new_tree(&superblock, 0o755, Uid(0), Gid(0)).unwrap();
    Mount::new(superblock, top, b"test", MountFlags::empty())
}

impl Tree {
    fn new() -> Self {
        Self { context: FsContext::new(new_mount().top()), who: Credentials::root() }
    }

    fn as_user(&self, uid: u32) -> Self {
        Self { context: self.context.clone(), who: someone(uid) }
    }

    fn walk(&self, path: &str) -> KResult<Path> {
        Walker::new(&self.context, &self.who).walk(None, path.as_bytes(), Final::Follow)
    }

    fn inode(&self, path: &str) -> KResult<Arc<Inode>> {
        Walker::new(&self.context, &self.who)
            .walk(None, path.as_bytes(), Final::Stay)
            .map(|place| place.inode().clone())
    }

    fn make(&self, path: &str, mode: u32, kind: InodeKind) -> KResult<Arc<Dentry>> {
        let parent = Walker::new(&self.context, &self.who).walk_to_parent(None, path.as_bytes())?;
        let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
        let with = NewInode { mode, uid: self.who.fsuid, gid: self.who.fsgid };
        namespace::create(&parent.directory, name, &self.who, || {
            Inode::new(&parent.directory.inode().superblock, kind, with)
        })
    }

    fn mkdir(&self, path: &str) -> KResult<()> {
        self.make(path, mode::DIRECTORY | 0o755, InodeKind::Directory(Directory::new())).map(drop)
    }

    fn touch(&self, path: &str) -> KResult<()> {
        self.make(path, mode::REGULAR | 0o644, InodeKind::Regular(Regular::new())).map(drop)
    }

    fn symlink(&self, target: &str, path: &str) -> KResult<()> {
        self.make(path, mode::SYMLINK | 0o777, InodeKind::Symlink(Box::from(target.as_bytes()))).map(drop)
    }

    fn unlink(&self, path: &str) -> KResult<()> {
        let parent = Walker::new(&self.context, &self.who).walk_to_parent(None, path.as_bytes())?;
        let Last::Name(name) = &parent.last else { return Err(Errno::EISDIR) };
        namespace::unlink(&parent.directory, name, &self.who, parent.wants_directory)
    }

    fn rmdir(&self, path: &str) -> KResult<()> {
        let parent = Walker::new(&self.context, &self.who).walk_to_parent(None, path.as_bytes())?;
        let Last::Name(name) = &parent.last else { return Err(Errno::EINVAL) };
        namespace::remove_directory(&parent.directory, name, &self.who)
    }

    fn link(&self, old: &str, new: &str) -> KResult<()> {
        let file = Walker::new(&self.context, &self.who).walk(None, old.as_bytes(), Final::Stay)?;
        let parent = Walker::new(&self.context, &self.who).walk_to_parent(None, new.as_bytes())?;
        let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
        namespace::link(&file, &parent.directory, name, &self.who)
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> KResult<()> {
        let from = Walker::new(&self.context, &self.who).walk_to_parent(None, old.as_bytes())?;
        let to = Walker::new(&self.context, &self.who).walk_to_parent(None, new.as_bytes())?;
        let (Last::Name(old_name), Last::Name(new_name)) = (&from.last, &to.last) else {
            return Err(Errno::EBUSY);
        };
        let old =
            RenameSide { parent: &from.directory, name: old_name, wants_directory: from.wants_directory };
        let new = RenameSide { parent: &to.directory, name: new_name, wants_directory: to.wants_directory };
        namespace::rename(old, new, flags, &self.who)
    }

    fn spelled(&self, path: &str) -> alloc::string::String {
        let spelled = self.walk(path).unwrap().spell(&self.context.root()).unwrap();
        alloc::string::String::from_utf8(spelled.for_display()).unwrap()
    }
}
