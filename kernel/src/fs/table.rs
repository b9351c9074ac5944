//! Descriptors: the small numbers by which a process knows its open files.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::OpenFile;
use super::locks::LockOwner;
use crate::errno::{Errno, KResult};
use crate::process::{Resource, current};
use crate::sync::{SpinGuard, SpinLock};

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Fd(pub i32);

/// Whether `execve(2)` closes a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed.
    Close,
}

impl OnExec {
    /// By a flag.
    pub const fn close_if(close: bool) -> Self {
        if close { Self::Close } else { Self::Keep }
    }
}

/// However much a process may have open (Linux's `fs.nr_open`).
pub const MAX_FILES: u64 = 1 << 20;

#[derive(Default)]
struct Slots {
    files: Vec<Option<Arc<OpenFile>>>,
    /// A bit for each descriptor: `execve(2)` closes it.
    close_on_exec: Vec<u64>,
    /// Descriptors that nothing has yet and nothing else gets: few, if any.
    reserved: Vec<usize>,
    /// No lower descriptor is free.
    lowest_free: usize,
}

impl Slots {
    /// Makes room for descriptor `index`.
    fn grow(&mut self, index: usize) -> KResult<()> {
        if index < self.files.len() {
            return Ok(());
        }
        let more = index + 1 - self.files.len();
        self.files.try_reserve(more).map_err(|_| Errno::EMFILE)?;
        let words = index / 64 + 1;
        self.close_on_exec
            .try_reserve(words.saturating_sub(self.close_on_exec.len()))
            .map_err(|_| Errno::EMFILE)?;
        self.files.resize_with(index + 1, || None);
        if words > self.close_on_exec.len() {
            self.close_on_exec.resize(words, 0);
        }
        Ok(())
    }

    #[inline(always)]
    fn file(&self, fd: Fd) -> Option<&Arc<OpenFile>> {
        // There is no descriptor below 0, and no table with so many.
        self.files.get(fd.0 as u32 as usize)?.as_ref()
    }

    fn lowest_from(&self, from: usize) -> usize {
        let mut index = from.max(self.lowest_free);
        loop {
            let rest = self.files.get(index..).unwrap_or(&[]);
            index += rest.iter().position(Option::is_none).unwrap_or(rest.len());
            if !self.reserved.contains(&index) {
                return index;
            }
            index += 1;
        }
    }

    /// The lowest free descriptor that is not below `from`, and below `limit`, with room for a file.
    fn find(&mut self, from: usize, limit: u64) -> KResult<usize> {
        let index = self.lowest_from(from);
        if index as u64 >= limit.min(MAX_FILES) {
            return Err(Errno::EMFILE);
        }
        self.grow(index)?;
        Ok(index)
    }

    /// Nothing gets `index` now unless it is for it.
    fn occupy(&mut self, index: usize) {
        if index == self.lowest_free {
            self.lowest_free += 1;
        }
    }

    fn set_on_exec(&mut self, index: usize, on_exec: OnExec) {
        let bit = 1 << (index % 64);
        match on_exec {
            OnExec::Close => self.close_on_exec[index / 64] |= bit,
            OnExec::Keep => self.close_on_exec[index / 64] &= !bit,
        }
    }

    fn closes_on_exec(&self, index: usize) -> bool {
        self.close_on_exec.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    fn put(&mut self, index: usize, file: Arc<OpenFile>, on_exec: OnExec) -> Option<Arc<OpenFile>> {
        self.set_on_exec(index, on_exec);
        self.occupy(index);
        self.files[index].replace(file)
    }

    fn take(&mut self, index: usize) -> Option<Arc<OpenFile>> {
        let file = self.files.get_mut(index)?.take()?;
        self.lowest_free = self.lowest_free.min(index);
        Some(file)
    }
}

/// The open files of a process, or of several that share them.
#[derive(Default)]
pub struct FileTable(SpinLock<Slots>);

/// A [`FileTable`] that nobody changes. A spinning lock is held.
pub struct LockedTable<'a>(SpinGuard<'a, Slots>);

impl LockedTable<'_> {
    /// The file that `fd` stands for, if any does.
    #[inline(always)]
    pub fn get(&self, fd: Fd) -> Option<Arc<OpenFile>> {
        self.0.file(fd).cloned()
    }
}

impl FileTable {
    /// Nothing open.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A copy that goes its own way: for `fork(2)`.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn fork(&self) -> KResult<Arc<Self>> {
        let slots = self.0.lock();
        let used = slots.files.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut files = Vec::new();
        files.try_reserve_exact(used).map_err(|_| Errno::ENOMEM)?;
        files.extend_from_slice(&slots.files[..used]);
        let words = used.div_ceil(64);
        let mut close_on_exec = Vec::new();
        close_on_exec.try_reserve_exact(words).map_err(|_| Errno::ENOMEM)?;
        close_on_exec.extend_from_slice(&slots.close_on_exec[..words]);
        // What is reserved is for a thread that the copy has not.
        let lowest_free = slots.reserved.iter().copied().fold(slots.lowest_free.min(used), usize::min);
        let reserved = Vec::new();
        Ok(Arc::new(Self(SpinLock::new(Slots { files, close_on_exec, reserved, lowest_free }))))
    }

    /// The file that `fd` stands for.
    ///
    /// # Errors
    /// EBADF.
    #[inline(always)]
    pub fn get(&self, fd: Fd) -> KResult<Arc<OpenFile>> {
        match self.0.lock().file(fd) {
            Some(file) => Ok(file.clone()),
            None => Err(Errno::EBADF),
        }
    }

    /// Keeps the table as it is, to look for several files.
    #[inline]
    pub fn lock(&self) -> LockedTable<'_> {
        LockedTable(self.0.lock())
    }

    /// Gives `file` the lowest free descriptor that is not below `from`, and below `limit`.
    ///
    /// # Errors
    /// EMFILE.
    pub fn add(&self, file: Arc<OpenFile>, on_exec: OnExec, from: usize, limit: u64) -> KResult<Fd> {
        let mut slots = self.0.lock();
        let index = slots.find(from, limit)?;
        slots.put(index, file, on_exec);
        Ok(Fd(index as i32))
    }

    /// Keeps the lowest free descriptor that is below `limit` for a file to come.
    ///
    /// # Errors
    /// EMFILE.
    pub fn reserve(self: &Arc<Self>, limit: u64) -> KResult<Reserved> {
        let mut slots = self.0.lock();
        let index = slots.find(0, limit)?;
        slots.reserved.try_reserve(1).map_err(|_| Errno::EMFILE)?;
        slots.reserved.push(index);
        slots.occupy(index);
        Ok(Reserved { table: self.clone(), index })
    }

    /// Gives `file` a certain descriptor; returns what had it.
    ///
    /// # Errors
    /// EBADF if that is not below `limit`, EBUSY if it is reserved.
    pub fn replace(
        &self,
        fd: Fd,
        file: Arc<OpenFile>,
        on_exec: OnExec,
        limit: u64,
    ) -> KResult<Option<Arc<OpenFile>>> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit.min(MAX_FILES) {
            return Err(Errno::EBADF);
        }
        let mut slots = self.0.lock();
        if slots.reserved.contains(&index) {
            return Err(Errno::EBUSY);
        }
        slots.grow(index)?;
        Ok(slots.put(index, file, on_exec))
    }

    /// Takes `fd` out.
    ///
    /// # Errors
    /// EBADF.
    pub fn remove(&self, fd: Fd) -> KResult<Arc<OpenFile>> {
        self.0.lock().take(fd.0 as u32 as usize).ok_or(Errno::EBADF)
    }

    /// Whether `execve(2)` closes `fd`.
    ///
    /// # Errors
    /// EBADF.
    pub fn on_exec(&self, fd: Fd) -> KResult<OnExec> {
        let slots = self.0.lock();
        let index = fd.0 as u32 as usize;
        match slots.files.get(index) {
            Some(Some(_)) => Ok(OnExec::close_if(slots.closes_on_exec(index))),
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets whether `execve(2)` closes `fd`.
    ///
    /// # Errors
    /// EBADF.
    pub fn set_on_exec(&self, fd: Fd, on_exec: OnExec) -> KResult<()> {
        let mut slots = self.0.lock();
        let index = fd.0 as u32 as usize;
        if !matches!(slots.files.get(index), Some(Some(_))) {
            return Err(Errno::EBADF);
        }
        slots.set_on_exec(index, on_exec);
        Ok(())
    }

    /// The descriptors in use from `from` on, by rising number.
    pub fn list(&self, from: usize) -> Vec<Fd> {
        let slots = self.0.lock();
        let used = slots.files.iter().enumerate().skip(from).filter(|(_, file)| file.is_some());
        used.map(|(index, _)| Fd(index as i32)).collect()
    }

    /// How many descriptors there is room for without growing (`FDSize` of `/proc/PID/status`).
    pub fn size(&self) -> usize {
        self.0.lock().files.len().next_multiple_of(64).max(64)
    }

    /// Who holds record locks taken through this table.
    pub fn lock_owner(&self) -> LockOwner {
        LockOwner::Table(core::ptr::from_ref(self).addr())
    }

    /// Closes what `execve(2)` closes. The table is not shared.
    pub fn close_on_exec(&self) {
        let words = self.0.lock().close_on_exec.len();
        for word in 0..words {
            loop {
                let mut slots = self.0.lock();
                let bits = slots.close_on_exec[word];
                if bits == 0 {
                    break;
                }
                let index = word * 64 + bits.trailing_zeros() as usize;
                slots.close_on_exec[word] &= bits - 1;
                let file = slots.take(index);
                drop(slots);
                if let Some(file) = file {
                    closed(&file, self.lock_owner());
                }
            }
        }
    }

    /// Closes everything `first..=last`; a table of one process only.
    pub fn close_range(&self, first: usize, last: usize) {
        let end = self.0.lock().files.len().min(last.saturating_add(1));
        for index in first..end {
            let file = self.0.lock().take(index);
            if let Some(file) = file {
                closed(&file, self.lock_owner());
            }
        }
    }

    /// Marks `first..=last` to be closed by `execve(2)`.
    pub fn close_range_on_exec(&self, first: usize, last: usize) {
        let mut slots = self.0.lock();
        let end = slots.files.len().min(last.saturating_add(1));
        for index in first..end {
            if slots.files[index].is_some() {
                slots.set_on_exec(index, OnExec::Close);
            }
        }
    }
}

/// A descriptor that nothing has, kept for a file that is taken from somewhere and would be lost without one. It is free again
/// when this is dropped.
pub struct Reserved {
    table: Arc<FileTable>,
    index: usize,
}

impl Reserved {
    /// Gives it to `file`.
    pub fn fill(self, file: Arc<OpenFile>, on_exec: OnExec) -> Fd {
        self.table.0.lock().put(self.index, file, on_exec);
        Fd(self.index as i32)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut slots = self.table.0.lock();
        slots.reserved.retain(|&index| index != self.index);
        // Filled, or closed since.
        if slots.files[self.index].is_none() {
            slots.lowest_free = slots.lowest_free.min(self.index);
        }
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        let owner = self.lock_owner();
        for file in core::mem::take(&mut self.0.get_mut().files).into_iter().flatten() {
            closed(&file, owner);
        }
    }
}

/// A descriptor for `file` was closed: its owner's record locks go, whatever other descriptors there are.
#[inline]
pub fn closed(file: &Arc<OpenFile>, owner: LockOwner) {
    if file.inode().locks.in_use() {
        file.inode().locks.release(owner);
    }
}

/// Closes a descriptor of the running process.
///
/// # Errors
/// EBADF.
#[inline]
pub fn close(fd: Fd) -> KResult<()> {
    let (file, owner) = {
        let task = current();
        let files = task.process.files.lock();
        (files.remove(fd)?, files.lock_owner())
    };
    closed(&file, owner);
    Ok(())
}

/// The file that the running process's descriptor `fd` stands for.
///
/// # Errors
/// EBADF.
pub fn open_file(fd: Fd) -> KResult<Arc<OpenFile>> {
    current().process.files.lock().get(fd)
}

/// As [`open_file`], but not for a place in the tree (`O_PATH`).
///
/// # Errors
/// EBADF.
pub fn usable_file(fd: Fd) -> KResult<Arc<OpenFile>> {
    let task = current();
    let files = task.process.files.lock();
    match files.0.lock().file(fd) {
        Some(file) if !file.is_path() => Ok(file.clone()),
        _ => Err(Errno::EBADF),
    }
}

/// How many descriptors the running process may have.
pub fn file_limit() -> u64 {
    current().process.limits.lock().get(Resource::OpenFiles).soft
}

/// Keeps a descriptor of the running process for a file to come.
///
/// # Errors
/// EMFILE.
pub fn reserve() -> KResult<Reserved> {
    let limit = file_limit();
    current().process.files.lock().reserve(limit)
}

/// Gives the running process the lowest free descriptor for `file`.
///
/// # Errors
/// EMFILE.
pub fn install(file: Arc<OpenFile>, on_exec: OnExec) -> KResult<Fd> {
    let task = current();
    let limit = task.process.limits.lock().get(Resource::OpenFiles).soft;
    task.process.files.lock().add(file, on_exec, 0, limit)
}
