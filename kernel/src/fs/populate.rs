//! Makes the files that an archive describes.

use alloc::boxed::Box;
use alloc::sync::Arc;

use platform::{PAGE_SIZE, PhysAddr};

use super::context::FsContext;
use super::cpio::Entry;
use super::device::DeviceNumber;
use super::directory::Directory;
use super::initramfs::{EntryError, aligned_pages};
use super::inode::{Inode, InodeKind, NewInode, SocketName, mode};
use super::io::IoSrc;
use super::namespace;
use super::path::Path;
use super::pipe::Pipe;
use super::regular::{Regular, WriteAt};
use super::walk::{Final, Last, Walker, lookup};
use crate::errno::{Errno, KResult};
use crate::mm::{Page, direct, frames};
use crate::process::Credentials;
use crate::process::credentials::{Gid, Uid};
use litemap::LiteMap;

/// Where an entry's data are.
pub enum Source {
    /// In an image whose pages may become the file's.
    Image(&'static [u8]),
    /// They come later, by [`fill`].
    Later,
}

/// What tells files of an archive apart: number, device, and which archive.
type FileId = (u32, (u32, u32));

/// Makes files, from the root on.
pub struct Populator {
    context: Arc<FsContext>,
    who: Credentials,
    /// Files that have more than one name.
    linked: LiteMap<FileId, Path>,
    entries: usize,
    pages_in_place: usize,
}

impl Default for Populator {
    fn default() -> Self {
        Self::new()
    }
}

impl Populator {
    /// Nothing made yet.
    pub fn new() -> Self {
        Self::within(FsContext::initial())
    }

    /// The same, below the root of `context`.
    pub fn within(context: Arc<FsContext>) -> Self {
        Self { context, who: Credentials::root(), linked: LiteMap::new(), entries: 0, pages_in_place: 0 }
    }

    /// Entries made so far.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Pages that stayed where the archive had them.
    pub fn pages_in_place(&self) -> usize {
        self.pages_in_place
    }

    /// Makes one entry. Returns the file if it is a regular one, to be filled.
    ///
    /// # Errors
    /// The entry's name and what is wrong.
    pub fn add(&mut self, entry: &Entry<'_>, source: Source) -> Result<Option<Arc<Inode>>, EntryError> {
        self.entries += 1;
        let made = self.make(entry).and_then(|file| {
            if let (Some(inode), Source::Image(data)) = (&file, source) {
                self.pages_in_place += place(inode, data)?;
                set_time(inode, entry);
            }
            Ok(file)
        });
        made.map_err(|error| EntryError { name: entry.name.to_vec(), error })
    }

    fn make(&mut self, entry: &Entry<'_>) -> KResult<Option<Arc<Inode>>> {
        let path = entry.name.strip_prefix(b"/").unwrap_or(entry.name);
        let is_directory = entry.mode & mode::TYPE == mode::DIRECTORY;
        let parent = match self.walker().walk_to_parent(None, if path.is_empty() { b"." } else { path }) {
            Err(Errno::ENOENT) => {
                self.make_parents(path)?;
                self.walker().walk_to_parent(None, path)?
            }
            other => other?,
        };
        let name = match parent.last {
            Last::Name(name) => name,
            // The top itself, as "." or "/".
            _ => {
                set_attributes(parent.directory.inode(), entry);
                return Ok(None);
            }
        };
        let directory = parent.directory;
        if let Some(existing) = lookup(&directory.dentry, &name)? {
            if is_directory {
                let mut place = Path { mount: directory.mount.clone(), dentry: existing };
                place.cross_mounts();
                if place.inode().is_directory() {
                    set_attributes(place.inode(), entry);
                    return Ok(None);
                }
            }
            // A later archive replaces what an earlier one made.
            namespace::unlink(&directory, &name, &self.who, false)?;
        }
        let id = (entry.ino, entry.device);
        if entry.nlink > 1
            && !is_directory
            && let Some(first) = self.linked.get(&id)
        {
            namespace::link(first, &directory, &name, &self.who)?;
            return Ok(
                Some(first.inode().clone()).filter(|inode| matches!(inode.kind, InodeKind::Regular(_)))
            );
        }
        let superblock = &directory.inode().superblock;
        let with = NewInode { mode: entry.mode, uid: Uid(entry.uid), gid: Gid(entry.gid) };
        let dentry =
            namespace::create(&directory, &name, &self.who, || Inode::new(superblock, kind(entry)?, with))?;
        set_time(&dentry.inode, entry);
        let inode = dentry.inode.clone();
        if entry.nlink > 1 && !is_directory {
            self.linked.insert(id, Path { mount: directory.mount.clone(), dentry });
        }
        Ok(Some(inode).filter(|inode| matches!(inode.kind, InodeKind::Regular(_))))
    }

    fn walker(&self) -> Walker<'_> {
        Walker::new(&self.context, &self.who)
    }

    /// Makes the directories that the archive leaves out.
    fn make_parents(&self, path: &[u8]) -> KResult<()> {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let part = &path[..end];
            if part.is_empty() || self.walker().walk(None, part, Final::Follow).is_ok() {
                continue;
            }
            let parent = self.walker().walk_to_parent(None, part)?;
            let Last::Name(name) = parent.last else { continue };
            let superblock = &parent.directory.inode().superblock;
            let with = NewInode { mode: mode::DIRECTORY | 0o755, uid: Uid(0), gid: Gid(0) };
            namespace::create(&parent.directory, &name, &self.who, || {
                Inode::new(superblock, InodeKind::Directory(Directory::new()), with)
            })?;
        }
        Ok(())
    }
}

fn kind(entry: &Entry<'_>) -> KResult<InodeKind> {
    let number = DeviceNumber::new(entry.rdev.0, entry.rdev.1);
    Ok(match entry.mode & mode::TYPE {
        mode::REGULAR => InodeKind::Regular(Regular::new()),
        mode::DIRECTORY => InodeKind::Directory(Directory::new()),
        mode::SYMLINK => InodeKind::Symlink(Box::from(entry.data)),
        mode::CHARACTER => InodeKind::Character(number),
        mode::BLOCK => InodeKind::Block(number),
        mode::FIFO => InodeKind::Fifo(Box::<Pipe>::default()),
        mode::SOCKET => InodeKind::Socket(SocketName::default()),
        _ => return Err(Errno::EINVAL),
    })
}

fn set_attributes(inode: &Inode, entry: &Entry<'_>) {
    inode.set_permissions(entry.mode);
    inode.set_owner(Some(Uid(entry.uid)), Some(Gid(entry.gid)));
    set_time(inode, entry);
}

fn set_time(inode: &Inode, entry: &Entry<'_>) {
    let time = i64::from(entry.mtime) * 1_000_000_000;
    inode.set_times(Some(time), Some(time));
}

/// Writes data that have come.
///
/// # Errors
/// ENOMEM, ENOSPC.
pub fn fill(inode: &Inode, offset: u64, data: &[u8]) -> KResult<()> {
    let InodeKind::Regular(file) = &inode.kind else { return Ok(()) };
    let mut from = IoSrc::kernel(data);
    let (_, moved) = file.write_at(&inode.superblock, WriteAt::Offset(offset), u64::MAX, &mut from)?;
    if moved == data.len() { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Makes `data` the file's content; returns how many pages stayed where they are.
fn place(inode: &Inode, data: &'static [u8]) -> KResult<usize> {
    let InodeKind::Regular(file) = &inode.kind else { return Ok(0) };
    if data.is_empty() {
        return Ok(0);
    }
    let pages = aligned_pages(data);
    for index in 0..pages {
        let address = data[index * PAGE_SIZE as usize..].as_ptr().addr() as u64;
        let frame = PhysAddr(address - direct(PhysAddr(0)).0).frame();
        frames::get(frame);
        file.adopt(&inode.superblock, index as u64, Page::from_held(frame))?;
    }
    let copied = pages * PAGE_SIZE as usize;
    file.set_size(&inode.superblock, data.len() as u64, |_| {})?;
    if copied < data.len() {
        fill(inode, copied as u64, &data[copied..])?;
    }
    Ok(pages)
}
