//! The bytes of a file in memory.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use platform::PAGE_SIZE;

use super::io::{IoDst, IoSrc};
use super::page_tree::PageTree;
use super::superblock::Superblock;
use super::text::TextUse;
use crate::errno::{Errno, KResult};
use crate::mm::Page;
use crate::sync::{Mutex, SpinLock};

/// Files are not larger than this (Linux's `MAX_LFS_FILESIZE`).
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

const PAGE: usize = PAGE_SIZE as usize;

/// Seals of `fcntl(2)` (`F_ADD_SEALS`).
pub mod seal {
    /// No more seals.
    pub const SEAL: u32 = 1;
    /// Does not shrink.
    pub const SHRINK: u32 = 2;
    /// Does not grow.
    pub const GROW: u32 = 4;
    /// Is not written.
    pub const WRITE: u32 = 8;
    /// Is not written except through mappings made before.
    pub const FUTURE_WRITE: u32 = 0x10;
    /// Does not become executable or stop being so.
    pub const EXEC: u32 = 0x20;
}

/// Where a write goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteAt {
    /// This byte of the file.
    Offset(u64),
    /// Behind its last byte (`O_APPEND`).
    End,
}

/// A file's bytes: whole pages, holes left out. Pages may be mapped by programs, which then see every change at once.
pub struct Regular {
    size: AtomicU64,
    pages: SpinLock<PageTree<Page>>,
    /// Held by whoever changes the size or writes.
    writer: Mutex<()>,
    /// Programs may have pages of it mapped.
    mapped: AtomicBool,
    /// And may write it that way.
    mapped_writable: AtomicBool,
    seals: AtomicU32,
    /// Who may write it, or runs it.
    pub(super) text_use: TextUse,
}

impl Regular {
    /// An empty file that takes no seals.
    pub fn new() -> Self {
        Self::with_seals(seal::SEAL)
    }

    /// An empty file with these seals.
    pub fn with_seals(seals: u32) -> Self {
        Self {
            size: AtomicU64::new(0),
            pages: SpinLock::new(PageTree::new()),
            writer: Mutex::new(()),
            mapped: AtomicBool::new(false),
            mapped_writable: AtomicBool::new(false),
            seals: AtomicU32::new(seals),
            text_use: TextUse::new(),
        }
    }

    /// Its size in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Pages in use.
    pub fn pages(&self) -> u64 {
        self.pages.lock().len()
    }

    /// Its seals.
    pub fn seals(&self) -> u32 {
        self.seals.load(Ordering::Acquire)
    }

    /// Adds seals.
    ///
    /// # Errors
    /// EPERM if it takes no more; EBUSY for the write seal while programs may write through mappings.
    pub fn add_seals(&self, seals: u32) -> KResult<()> {
        let _writer = self.writer.lock();
        if self.seals() & seal::SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if seals & seal::WRITE != 0
            && self.seals() & seal::WRITE == 0
            && self.mapped_writable.load(Ordering::Relaxed)
        {
            return Err(Errno::EBUSY);
        }
        self.seals.fetch_or(seals, Ordering::AcqRel);
        Ok(())
    }

    /// Moves bytes from `offset` on to `to`; returns how many. Fewer than there is room for at the end of the file.
    pub fn read_at(&self, mut offset: u64, to: &mut IoDst<'_>) -> KResult<usize> {
        let start = offset;
        while to.remaining() > 0 {
            let size = self.size();
            if offset >= size {
                break;
            }
            let in_page = offset as usize % PAGE;
            let part = (PAGE - in_page).min(to.remaining()).min((size - offset).min(PAGE as u64) as usize);
            let page = self.pages.lock().get(offset / PAGE_SIZE).cloned();
            let moved = match page {
                Some(page) => page.with_bytes(in_page, part, |bytes| to.write(bytes))?,
                None => to.write_zeros(part)?,
            };
            offset += moved as u64;
            if moved < part {
                break;
            }
        }
        Ok((offset - start) as usize)
    }

    /// Takes bytes from `from`; returns where they begin in the file, and how many there were. `limit` is the size up to
    /// which the writer may let a file grow.
    ///
    /// # Errors
    /// EFBIG if not even one byte is allowed, ENOSPC, ENOMEM, EFAULT if not even one byte could be written; EPERM for
    /// a sealed file.
    pub fn write_at(
        &self,
        superblock: &Superblock,
        at: WriteAt,
        limit: u64,
        from: &mut IoSrc<'_>,
    ) -> KResult<(u64, usize)> {
        let _writer = self.writer.lock();
        let start = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => self.size(),
        };
        if from.remaining() == 0 {
            return Ok((start, 0));
        }
        let seals = self.seals();
        if seals & (seal::WRITE | seal::FUTURE_WRITE | seal::GROW) != 0 {
            let grows = start.saturating_add(from.remaining() as u64) > self.size();
            if seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 || grows {
                return Err(Errno::EPERM);
            }
        }
        let limit = limit.min(MAX_FILE_SIZE);
        if start >= limit {
            return Err(Errno::EFBIG);
        }
        from.truncate(usize::try_from(limit - start).unwrap_or(usize::MAX));
        let mut offset = start;
        while from.remaining() > 0 {
            let in_page = offset as usize % PAGE;
            let part = (PAGE - in_page).min(from.remaining());
            let moved = match self.write_page(superblock, offset / PAGE_SIZE, in_page, part, from) {
                Ok(moved) => moved,
                Err(error) if offset == start => return Err(error),
                Err(_) => break,
            };
            offset += moved as u64;
            if offset > self.size() {
                self.size.store(offset, Ordering::Release);
            }
            if moved < part {
                break;
            }
        }
        Ok((start, (offset - start) as usize))
    }

    fn write_page(
        &self,
        superblock: &Superblock,
        index: u64,
        in_page: usize,
        part: usize,
        from: &mut IoSrc<'_>,
    ) -> KResult<usize> {
        let existing = self.pages.lock().get(index).cloned();
        if let Some(page) = existing {
            return page.with_bytes_mut(in_page, part, |bytes| from.read(bytes));
        }
        // A page that is written whole need not be cleared before; nobody else sees it yet.
        let page = Page::for_file()?;
        if part != PAGE {
            page.clear_from(0);
        }
        let moved = page.with_bytes_mut(in_page, part, |bytes| from.read(bytes))?;
        if part == PAGE && moved < PAGE {
            page.clear_from(moved);
        }
        let present = self.insert(superblock, index, page.clone())?;
        // A program may have touched the page of a mapping meanwhile.
        if present.frame() != page.frame() {
            page.with_bytes(in_page, moved, |bytes| present.write(in_page, bytes));
        }
        Ok(moved)
    }

    /// Enters a page unless there is one; returns what is there now.
    fn insert(&self, superblock: &Superblock, index: u64, page: Page) -> KResult<Page> {
        superblock.charge_pages(1)?;
        let mut pages = self.pages.lock();
        let result = match pages.get(index).cloned() {
            Some(present) => Ok((present, false)),
            None => pages.insert(index, page.clone()).map(|_| (page, true)),
        };
        drop(pages);
        if !matches!(result, Ok((_, true))) {
            superblock.release_pages(1);
        }
        result.map(|(page, _)| page)
    }

    /// Puts a page that holds the file's bytes from `index` pages on in its place: how the initial files come in.
    pub fn adopt(&self, superblock: &Superblock, index: u64, page: Page) -> KResult<()> {
        self.insert(superblock, index, page).map(drop)
    }

    /// The page at `index`, to be mapped; made if there is none. It counts as mapped from now on.
    ///
    /// # Errors
    /// EFAULT behind the last byte (a SIGBUS to the program); ENOSPC, ENOMEM.
    pub fn page(&self, superblock: &Superblock, index: u64) -> KResult<Page> {
        if index >= self.size().div_ceil(PAGE_SIZE) {
            return Err(Errno::EFAULT);
        }
        if let Some(page) = self.pages.lock().get(index) {
            return Ok(page.clone());
        }
        self.insert(superblock, index, Page::zeroed()?)
    }

    /// The page at `index`, if there is one.
    pub fn present_page(&self, index: u64) -> Option<Page> {
        self.pages.lock().get(index).cloned()
    }

    /// Notes that programs may map it; with `writable` also that they may write it that way.
    pub fn set_mapped(&self, writable: bool) {
        self.mapped.store(true, Ordering::Relaxed);
        if writable {
            self.mapped_writable.store(true, Ordering::Relaxed);
        }
    }

    /// Whether programs may have mapped it.
    pub fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Sets the size: cuts off what is behind it, or adds a hole. `cut` is called after the file has its new size and
    /// before pages go, with the first page that goes.
    ///
    /// # Errors
    /// EPERM for a sealed file, EFBIG beyond [`MAX_FILE_SIZE`].
    pub fn set_size(&self, superblock: &Superblock, size: u64, cut: impl FnOnce(u64)) -> KResult<()> {
        if size > MAX_FILE_SIZE {
            return Err(Errno::EFBIG);
        }
        let _writer = self.writer.lock();
        let old = self.size();
        let seals = self.seals();
        if (size < old && seals & seal::SHRINK != 0) || (size > old && seals & seal::GROW != 0) {
            return Err(Errno::EPERM);
        }
        self.size.store(size, Ordering::Release);
        if size >= old {
            return Ok(());
        }
        let first = size.div_ceil(PAGE_SIZE);
        cut(first);
        let (removed, gone) = self.pages.lock().remove(first, u64::MAX);
        drop(gone);
        superblock.release_pages(removed);
        self.clear_tail(size);
        Ok(())
    }

    /// Zeros what lies behind `size` in the page it is in.
    fn clear_tail(&self, size: u64) {
        let in_page = size as usize % PAGE;
        if in_page != 0
            && let Some(page) = self.present_page(size / PAGE_SIZE)
        {
            page.clear_from(in_page);
        }
    }

    /// Makes `offset..offset + length` pages of its own, without changing what is read there (`fallocate(2)`).
    pub fn allocate(
        &self,
        superblock: &Superblock,
        offset: u64,
        length: u64,
        keep_size: bool,
    ) -> KResult<()> {
        let end = offset.checked_add(length).filter(|&end| end <= MAX_FILE_SIZE).ok_or(Errno::EFBIG)?;
        let _writer = self.writer.lock();
        if end > self.size() && self.seals() & seal::GROW != 0 {
            return Err(Errno::EPERM);
        }
        for index in offset / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if self.present_page(index).is_none() {
                let page = Page::for_file()?;
                page.clear_from(0);
                self.insert(superblock, index, page)?;
            }
        }
        if !keep_size && end > self.size() {
            self.size.store(end, Ordering::Release);
        }
        Ok(())
    }

    /// Makes a hole of `offset..offset + length` (`FALLOC_FL_PUNCH_HOLE`); `cut` as in [`Self::set_size`], with the pages.
    pub fn punch(
        &self,
        superblock: &Superblock,
        offset: u64,
        length: u64,
        cut: impl FnOnce(u64, u64),
    ) -> KResult<()> {
        let _writer = self.writer.lock();
        if self.seals() & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let end = offset.saturating_add(length);
        let (first, last) = (offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
        let clear = |from: u64, to: u64| {
            if let Some(page) = self.present_page(from / PAGE_SIZE) {
                let in_page = from as usize % PAGE;
                page.with_bytes_mut(in_page, (to - from) as usize, |bytes| bytes.fill(0));
            }
        };
        if first > last {
            clear(offset, end);
            return Ok(());
        }
        if !offset.is_multiple_of(PAGE_SIZE) {
            clear(offset, first * PAGE_SIZE);
        }
        if !end.is_multiple_of(PAGE_SIZE) {
            clear(last * PAGE_SIZE, end);
        }
        cut(first, last);
        let (removed, gone) = self.pages.lock().remove(first, last);
        drop(gone);
        superblock.release_pages(removed);
        Ok(())
    }

    /// The next byte from `offset` on that is data (or in a hole), as `SEEK_DATA` and `SEEK_HOLE` find it.
    ///
    /// # Errors
    /// ENXIO behind the end, and where no data follow.
    pub fn seek(&self, offset: u64, data: bool) -> KResult<u64> {
        let size = self.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let pages = self.pages.lock();
        let index = offset / PAGE_SIZE;
        let found = if data { pages.next_page(index) } else { Some(pages.next_hole(index)) };
        let found = found.map(|page| page.saturating_mul(PAGE_SIZE).max(offset));
        match found {
            Some(at) if at < size => Ok(at),
            _ if data => Err(Errno::ENXIO),
            _ => Ok(size),
        }
    }
}

impl Default for Regular {
    fn default() -> Self {
        Self::new()
    }
}
