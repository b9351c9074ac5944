//! An open file: what a descriptor stands for.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::device::{FileOps, Seek};
use super::flags::{O_ACCMODE, O_APPEND, O_NOATIME, O_NONBLOCK, O_PATH, O_RDWR, O_WRONLY, SETTABLE};
use super::inode::{Inode, InodeKind};
use super::io::{IoDst, IoSrc};
use super::locks::LockOwner;
use super::mount::MountFlags;
use super::path::Path;
use super::pipe::Pipe;
use super::poll::PollEvents;
use super::regular::{Regular, WriteAt};
use super::text::Writing;
use crate::errno::{Errno, KResult};
use crate::process::{Resource, current};
use crate::sync::{Mutex, SpinLock, WaitQueue};

/// Where an open file comes from.
pub enum Place {
    /// From the tree.
    Named(Path),
    /// From nowhere; the text is what `/proc/PID/fd` shows for it, with `:[inode]` behind it for pipes and sockets.
    Nameless(Arc<Inode>, &'static str),
}

/// What an open file does.
pub enum FileKind {
    /// A file in memory; the bytes are the inode's.
    Regular,
    /// A directory; the names are the inode's.
    Directory,
    /// An end of a pipe; the pipe is the inode's.
    Pipe,
    /// Anything else.
    Device(Arc<dyn FileOps>),
    /// The same, with places that `lseek(2)` moves to.
    Seekable(Arc<dyn FileOps>),
    /// Only a place in the tree (`O_PATH`).
    Path,
}

/// An open file, shared by the descriptors that `dup(2)` and `fork(2)` make of one `open(2)`.
pub struct OpenFile {
    place: Place,
    kind: FileKind,
    flags: AtomicU32,
    /// Where the next read or write goes, in bytes; for a directory, the next entry's place.
    pub position: Mutex<u64>,
    owner: AtomicI32,
    watchers: SpinLock<Vec<Weak<dyn CloseWatcher>>>,
    /// Keeps programs from being started from a file that may be written.
    _writing: Option<Writing>,
}

impl OpenFile {
    /// An open file. A pipe's end must have been counted by the pipe before.
    pub fn new(place: Place, kind: FileKind, flags: u32) -> Arc<Self> {
        Self::with_writing(place, kind, flags, None)
    }

    /// An open file that nobody runs as long as it is open, given the right to write it.
    pub fn with_writing(place: Place, kind: FileKind, flags: u32, writing: Option<Writing>) -> Arc<Self> {
        Arc::new(Self {
            place,
            kind,
            flags: AtomicU32::new(flags),
            position: Mutex::new(0),
            owner: AtomicI32::new(0),
            watchers: SpinLock::new(Vec::new()),
            _writing: writing,
        })
    }

    /// A file without a name that does what `ops` does.
    pub fn device(name: &'static str, ops: Arc<dyn FileOps>, flags: u32) -> Arc<Self> {
        let inode = super::anonymous::shared_inode();
        let kind = if ops.seek() == Seek::Kept { FileKind::Seekable(ops) } else { FileKind::Device(ops) };
        Self::new(Place::Nameless(inode, name), kind, flags)
    }

    /// What it does.
    #[inline]
    pub fn kind(&self) -> &FileKind {
        &self.kind
    }

    /// Where it comes from.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its place in the tree, if it has one.
    #[inline]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Named(path) => Some(path),
            Place::Nameless(..) => None,
        }
    }

    /// The file itself.
    #[inline]
    pub fn inode(&self) -> &Arc<Inode> {
        match &self.place {
            Place::Named(path) => path.inode(),
            Place::Nameless(inode, _) => inode,
        }
    }

    /// Flags of `open(2)` that are kept.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Changes the flags that may be changed.
    pub fn set_flags(&self, flags: u32) {
        let kept = self.flags() & !SETTABLE;
        self.flags.store(kept | (flags & SETTABLE), Ordering::Relaxed);
    }

    /// Sets or clears `O_NONBLOCK`.
    pub fn set_nonblocking(&self, on: bool) {
        if on {
            self.flags.fetch_or(O_NONBLOCK, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!O_NONBLOCK, Ordering::Relaxed);
        }
    }

    /// Whether reads and writes must not wait.
    #[inline]
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & O_NONBLOCK != 0
    }

    /// Whether it is a place in the tree only.
    #[inline]
    pub fn is_path(&self) -> bool {
        matches!(self.kind, FileKind::Path)
    }

    /// Whether it may be read.
    ///
    /// # Errors
    /// EBADF.
    #[inline]
    pub fn check_readable(&self) -> KResult<()> {
        if self.is_readable() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Whether it may be written.
    ///
    /// # Errors
    /// EBADF.
    #[inline]
    pub fn check_writable(&self) -> KResult<()> {
        if self.is_writable() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// [`O_RDONLY`] or [`O_RDWR`].
    #[inline(always)]
    fn is_readable(&self) -> bool {
        self.flags() & (O_WRONLY | O_PATH) == 0
    }

    /// [`O_WRONLY`] or [`O_RDWR`]: one more of either has the bit of the latter, and of no other value.
    #[inline(always)]
    fn is_writable(&self) -> bool {
        let flags = self.flags();
        ((flags & O_ACCMODE) + 1) & O_RDWR != 0 && flags & O_PATH == 0
    }

    /// Who gets its signals (`F_SETOWN`): a process, or a group if negative.
    pub fn owner(&self) -> i32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Sets who gets its signals.
    pub fn set_owner(&self, owner: i32) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Its bytes, if it is a file in memory.
    #[inline]
    pub fn regular(&self) -> Option<&Regular> {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Regular, InodeKind::Regular(file)) => Some(file),
            _ => None,
        }
    }

    /// The pipe it is an end of.
    #[inline]
    pub fn pipe(&self) -> Option<&Pipe> {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Pipe, InodeKind::Fifo(pipe)) => Some(pipe),
            _ => None,
        }
    }

    #[inline]
    fn touch_accessed(&self) {
        let skip = self.flags() & O_NOATIME != 0
            || self.path().is_some_and(|path| {
                path.mount.flags().intersects(MountFlags::NO_ATIME | MountFlags::READ_ONLY)
            });
        if !skip {
            self.inode().touch_accessed();
        }
    }

    /// Reads from where it is (`read(2)`). The caller has checked [`Self::check_readable`].
    #[inline]
    pub fn read(&self, to: &mut IoDst<'_>) -> KResult<usize> {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Regular, InodeKind::Regular(file)) => {
                let mut position = self.position.lock();
                let moved = file.read_at(*position, to)?;
                *position += moved as u64;
                drop(position);
                self.touch_accessed();
                Ok(moved)
            }
            (FileKind::Pipe, InodeKind::Fifo(pipe)) => pipe.read(to, self.is_nonblocking()),
            (FileKind::Device(ops), _) => ops.read(self, to),
            (FileKind::Seekable(ops), _) => {
                let mut position = self.position.lock();
                let moved = ops.read_at(self, *position, to)?;
                *position += moved as u64;
                Ok(moved)
            }
            (FileKind::Directory, _) => Err(Errno::EISDIR),
            (FileKind::Path, _) => Err(Errno::EBADF),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Reads from a place of the caller's choice (`pread(2)`).
    pub fn read_at(&self, offset: u64, to: &mut IoDst<'_>) -> KResult<usize> {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Regular, InodeKind::Regular(file)) => {
                let moved = file.read_at(offset, to)?;
                self.touch_accessed();
                Ok(moved)
            }
            (FileKind::Device(ops), _) if ops.seek() == Seek::Ignored => ops.read(self, to),
            (FileKind::Seekable(ops), _) => ops.read_at(self, offset, to),
            (FileKind::Directory, _) => Err(Errno::EISDIR),
            (FileKind::Path, _) => Err(Errno::EBADF),
            _ => Err(Errno::ESPIPE),
        }
    }

    /// Writes where it is (`write(2)`). The caller has checked [`Self::check_writable`].
    #[inline]
    pub fn write(&self, from: &mut IoSrc<'_>) -> KResult<usize> {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Regular, InodeKind::Regular(file)) => {
                let mut position = self.position.lock();
                let at = if self.flags() & O_APPEND != 0 { WriteAt::End } else { WriteAt::Offset(*position) };
                let (start, moved) = self.write_regular(file, at, from)?;
                *position = start + moved as u64;
                Ok(moved)
            }
            (FileKind::Pipe, InodeKind::Fifo(pipe)) => pipe.write(from, self.is_nonblocking()),
            (FileKind::Device(ops), _) => ops.write(self, from),
            (FileKind::Seekable(ops), _) => {
                let mut position = self.position.lock();
                let moved = ops.write_at(self, *position, from)?;
                *position += moved as u64;
                Ok(moved)
            }
            (FileKind::Path, _) => Err(Errno::EBADF),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Writes at a place of the caller's choice (`pwrite(2)`); at the end with `O_APPEND`, as Linux does.
    pub fn write_at(&self, offset: u64, from: &mut IoSrc<'_>) -> KResult<usize> {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Regular, InodeKind::Regular(file)) => {
                let at = if self.flags() & O_APPEND != 0 { WriteAt::End } else { WriteAt::Offset(offset) };
                self.write_regular(file, at, from).map(|(_, moved)| moved)
            }
            (FileKind::Device(ops), _) if ops.seek() == Seek::Ignored => ops.write(self, from),
            (FileKind::Seekable(ops), _) => ops.write_at(self, offset, from),
            (FileKind::Path, _) => Err(Errno::EBADF),
            _ => Err(Errno::ESPIPE),
        }
    }

    /// Appends, whatever the flags say (`RWF_APPEND`).
    pub fn append(&self, from: &mut IoSrc<'_>) -> KResult<usize> {
        match self.regular() {
            Some(file) => self.write_regular(file, WriteAt::End, from).map(|(_, moved)| moved),
            None => self.write(from),
        }
    }

    #[inline]
    fn write_regular(&self, file: &Regular, at: WriteAt, from: &mut IoSrc<'_>) -> KResult<(u64, usize)> {
        let inode = self.inode();
        let task = current();
        let process = &task.process;
        let limit = process.limits.lock().get(Resource::FileSize).soft;
        let written = file.write_at(&inode.superblock, at, limit, from);
        match written {
            Ok((_, moved)) if moved > 0 => {
                inode.touch_modified();
                if inode.mode() & 0o6000 != 0 {
                    inode.strip_set_id(&process.credentials());
                }
            }
            Err(Errno::EFBIG) if limit != u64::MAX => {
                crate::signal::send_to_current(crate::signal::SIGXFSZ);
            }
            _ => {}
        }
        written
    }

    /// What could be done now without waiting.
    pub fn poll(&self) -> PollEvents {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Pipe, InodeKind::Fifo(pipe)) => pipe.poll(self.is_readable(), self.is_writable()),
            (FileKind::Device(ops) | FileKind::Seekable(ops), _) => ops.poll(),
            (FileKind::Path, _) => PollEvents::NVAL,
            _ => PollEvents::READABLE | PollEvents::WRITABLE,
        }
    }

    /// To be called before the file's queues are watched.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn prepare_to_watch(&self) -> KResult<()> {
        self.ops().map_or(Ok(()), |ops| ops.prepare_to_watch())
    }

    /// Calls `visit` for each queue that is woken when the result of [`Self::poll`] may have changed.
    pub fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        match (&self.kind, &self.inode().kind) {
            (FileKind::Pipe, InodeKind::Fifo(pipe)) => {
                pipe.queues(self.is_readable(), self.is_writable(), visit);
            }
            (FileKind::Device(ops) | FileKind::Seekable(ops), _) => ops.queues(visit),
            _ => {}
        }
    }

    /// Whether `epoll(7)` takes it: whether it can ever make one wait.
    pub fn can_be_watched(&self) -> bool {
        !matches!(self.kind, FileKind::Regular | FileKind::Directory | FileKind::Path)
    }

    /// What does its work, if that is neither the file system nor a pipe.
    #[inline]
    pub fn ops(&self) -> Option<&Arc<dyn FileOps>> {
        match &self.kind {
            FileKind::Device(ops) | FileKind::Seekable(ops) => Some(ops),
            _ => None,
        }
    }

    /// What does its work, if that is a `T`: a socket, say.
    #[inline]
    pub fn ops_as<T: 'static>(&self) -> Option<&T> {
        self.ops().and_then(|ops| ops.as_any()).and_then(|any| any.downcast_ref())
    }

    /// Notes somebody to be told when the last descriptor is closed.
    pub fn add_close_watcher(&self, watcher: Weak<dyn CloseWatcher>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(watcher);
    }
}

/// Somebody to be told when a file is closed for good.
pub trait CloseWatcher: Send + Sync {
    /// The last descriptor for `file` is gone; its queues still exist. Context: a task, no locks held.
    fn file_closed(&self, file: &OpenFile);
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        for watcher in core::mem::take(self.watchers.get_mut()).iter().filter_map(Weak::upgrade) {
            watcher.file_closed(self);
        }
        if self.inode().locks.in_use() {
            self.inode().locks.release(LockOwner::of_file(self));
        }
        match (&self.kind, &self.inode().kind) {
            (FileKind::Pipe, InodeKind::Fifo(pipe)) => {
                pipe.close(self.is_readable(), self.is_writable());
            }
            (FileKind::Device(ops) | FileKind::Seekable(ops), _) => ops.released(self),
            _ => {}
        }
    }
}
