//! Directories in `/proc` whose entries are known beforehand.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::superblock;
use crate::errno::{Errno, KResult};
use crate::fs::dynamic::{DynamicDirectory, DynamicFile, DynamicLink, Listed};
use crate::fs::inode::{Inode, InodeKind, NewInode, mode};
use crate::fs::path::Path;
use crate::process::credentials::{Gid, Uid};

/// What a directory is about: a process, or the system.
pub trait About: Clone + Send + Sync + 'static {
    /// Who owns its files.
    fn owner(&self) -> (Uid, Gid);

    /// Whether that still exists; if not, nothing is in the directory.
    fn exists(&self) -> bool;
}

impl About for () {
    fn owner(&self) -> (Uid, Gid) {
        (Uid(0), Gid(0))
    }

    fn exists(&self) -> bool {
        true
    }
}

/// What an entry is.
pub enum What<S> {
    /// A file with this content.
    Text(fn(&S) -> KResult<Vec<u8>>),
    /// The same, and how it takes what is written to it.
    Settable(fn(&S) -> KResult<Vec<u8>>, fn(&S, &[u8]) -> KResult<()>),
    /// A link with this target.
    Link(fn(&S) -> KResult<Vec<u8>>),
    /// A link with this target that leads somewhere by itself.
    Jump(fn(&S) -> KResult<Vec<u8>>, fn(&S) -> KResult<Option<Path>>),
    /// A directory; gets the number of its inode.
    Directory(fn(&S, u64) -> Box<dyn DynamicDirectory>),
}

/// An entry.
pub struct Item<S: 'static> {
    /// Its name.
    pub name: &'static str,
    /// Its permissions.
    pub permissions: u32,
    /// What it is.
    pub what: What<S>,
}

impl<S> Item<S> {
    fn mode(&self) -> u32 {
        let kind = match self.what {
            What::Text(_) | What::Settable(..) => mode::REGULAR,
            What::Link(_) | What::Jump(..) => mode::SYMLINK,
            What::Directory(_) => mode::DIRECTORY,
        };
        kind | self.permissions
    }
}

/// A directory whose entries are known beforehand. The inode number of entry `n` is `base + n`.
pub struct Fixed<S: 'static> {
    about: S,
    base: u64,
    items: &'static [Item<S>],
}

impl<S: About> Fixed<S> {
    /// A directory with these entries.
    pub fn new(about: S, base: u64, items: &'static [Item<S>]) -> Self {
        Self { about, base, items }
    }

    /// The file called `name`.
    pub fn find(&self, name: &[u8]) -> Option<Arc<Inode>> {
        if !self.about.exists() {
            return None;
        }
        let index = self.items.iter().position(|item| item.name.as_bytes() == name)?;
        let number = self.base + index as u64;
        Some(make(&self.items[index], &self.about, number))
    }

    /// Lists entries from the one numbered `from` on; says whether it came to the end.
    pub fn list_items(&self, from: usize, place: u64, emit: &mut dyn FnMut(&Listed<'_>) -> bool) -> bool {
        self.items.iter().enumerate().skip(from).all(|(index, item)| {
            emit(&Listed {
                name: item.name.as_bytes(),
                inode: self.base + index as u64,
                mode: item.mode(),
                next: place + index as u64 + 1,
            })
        })
    }
}

impl<S: About> DynamicDirectory for Fixed<S> {
    fn lookup(&self, name: &[u8]) -> KResult<Option<Arc<Inode>>> {
        Ok(if !self.about.exists() { None } else { self.find(name) })
    }

    fn list(&self, from: u64, emit: &mut dyn FnMut(&Listed<'_>) -> bool) -> KResult<()> {
        if !self.about.exists() {
            return Err(Errno::ENOENT);
        }
        self.list_items((from - 2) as usize, 2, emit);
        Ok(())
    }
}

fn make<S: About>(item: &'static Item<S>, about: &S, number: u64) -> Arc<Inode> {
    let kind = match item.what {
        What::Text(_) | What::Settable(..) => {
            InodeKind::Dynamic(Box::new(Told { item, about: about.clone() }))
        }
        What::Link(_) | What::Jump(..) => {
            InodeKind::DynamicLink(Box::new(Told { item, about: about.clone() }))
        }
        What::Directory(directory) => InodeKind::DynamicDirectory(directory(about, number)),
    };
    inode(number, kind, item.mode(), about.owner())
}

/// A file of this file system.
pub fn inode(number: u64, kind: InodeKind, mode: u32, (uid, gid): (Uid, Gid)) -> Arc<Inode> {
    Inode::uncounted(superblock(), number, kind, NewInode { mode, uid, gid })
}

struct Told<S: 'static> {
    item: &'static Item<S>,
    about: S,
}

impl<S: About> DynamicFile for Told<S> {
    fn content(&self) -> KResult<Vec<u8>> {
        match self.item.what {
            What::Text(content) | What::Settable(content, _) => content(&self.about),
            _ => Err(Errno::EINVAL),
        }
    }

    fn store(&self, bytes: &[u8]) -> KResult<()> {
        match self.item.what {
            What::Settable(_, store) => store(&self.about, bytes),
            _ => Err(Errno::EIO),
        }
    }
}

impl<S: About> DynamicLink for Told<S> {
    fn target(&self) -> KResult<Vec<u8>> {
        match self.item.what {
            What::Link(target) | What::Jump(target, _) => target(&self.about),
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self) -> KResult<Option<Path>> {
        match self.item.what {
            What::Jump(_, follow) => follow(&self.about),
            _ => Ok(None),
        }
    }
}
