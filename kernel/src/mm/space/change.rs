//! Mapping, unmapping and protecting ranges.

use alloc::vec::Vec;

use platform::{PAGE_SIZE, PageRange, PhysFrame, Protection, VirtAddr};

use super::{AddressSpace, Backing, Layout};
use crate::errno::{Errno, KResult};
use crate::hook::paging;
use crate::mm::UserAddr;
use crate::mm::frames;
use crate::mm::user::user_top;
use crate::mm::vma::{UserRange, Vma, VmaError, VmaFlags};

/// Where a new mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapPlace {
    /// Wherever there is room; here if that is free.
    Anywhere(VirtAddr),
    /// Here, in place of whatever is mapped (`MAP_FIXED`).
    Replace(VirtAddr),
    /// Here, or EEXIST (`MAP_FIXED_NOREPLACE`).
    IfFree(VirtAddr),
}

/// A new mapping.
pub struct MapRequest {
    /// Where.
    pub place: MapPlace,
    /// Length in bytes; rounded up to pages.
    pub length: u64,
    /// What the program may do.
    pub protection: Protection,
    /// Its properties.
    pub flags: VmaFlags,
    /// What is behind it.
    pub backing: Backing,
}

impl From<VmaError> for Errno {
    fn from(error: VmaError) -> Self {
        match error {
            VmaError::Overlap => Self::EEXIST,
            VmaError::Hole | VmaError::OutOfMemory => Self::ENOMEM,
        }
    }
}

/// The whole pages of a range a program named; EINVAL if it is not aligned, ENOMEM if it leaves the user half.
pub fn checked_range(start: UserAddr, length: u64) -> KResult<Option<UserRange>> {
    if !start.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if length == 0 {
        return Ok(None);
    }
    match UserRange::covering(start.0, length) {
        Some(range) if range.end() <= user_top().0 => Ok(Some(range)),
        _ => Err(Errno::ENOMEM),
    }
}

impl AddressSpace {
    /// Makes a mapping; nothing is translated until it is touched. Returns where it is.
    pub fn map(&self, request: MapRequest) -> KResult<UserAddr> {
        self.map_in(&mut self.layout(), request)
    }

    pub(super) fn map_in(&self, layout: &mut Layout, request: MapRequest) -> KResult<UserAddr> {
        let length = request.length.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let range = place(layout, request.place, length)?;
        if matches!(request.place, MapPlace::Replace(_)) {
            self.unmap_in(layout, range)?;
        }
        let mut flags = request.flags;
        if !flags.contains(VmaFlags::SHARED) && request.protection.contains(Protection::WRITE) {
            flags |= VmaFlags::MAY_HAVE_COPIES;
        }
        layout.vmas.insert(Vma { range, protection: request.protection, flags, backing: request.backing })?;
        Ok(UserAddr(range.start()))
    }

    /// Unmaps whatever is in `range`.
    pub fn unmap(&self, range: UserRange) -> KResult<()> {
        self.unmap_in(&mut self.layout(), range)
    }

    pub(super) fn unmap_in(&self, layout: &mut Layout, range: UserRange) -> KResult<()> {
        let mut pieces = Vec::new();
        pieces.try_reserve(layout.vmas.overlapping(range).len()).map_err(|_| Errno::ENOMEM)?;
        layout.vmas.remove(range, |piece| pieces.push(piece))?;
        for piece in &pieces {
            self.unmap_pages(piece.range, &piece.backing);
        }
        Ok(())
    }

    /// Changes what the program may do in `range` (`mprotect(2)`).
    pub fn protect(&self, range: UserRange, protection: Protection) -> KResult<()> {
        let mut layout = self.layout();
        if !layout.vmas.covers(range) {
            return Err(Errno::ENOMEM);
        }
        let writable = protection.contains(Protection::WRITE);
        let mut fewer = false;
        for vma in layout.vmas.overlapping(range) {
            if writable && vma.flags.contains(VmaFlags::NEVER_WRITABLE) {
                return Err(Errno::EACCES);
            }
            fewer |= !protection.contains(vma.protection) || protection.is_empty();
        }
        if writable {
            layout.vmas.set_private_copies(range)?;
        }
        layout.vmas.protect(range, protection)?;
        // Where rights are only added, translations gain them by faults, unless it is a matter of reading at all.
        let pages = PageRange::from(range);
        paging::protect(self.root(), pages, protection);
        if fewer {
            self.flush(pages);
        }
        Ok(())
    }

    /// Moves the end of the heap (`brk(2)`). Returns where it is afterwards.
    pub fn set_brk(&self, to: VirtAddr, data_limit: u64) -> VirtAddr {
        let mut layout = self.layout();
        let old = layout.brk;
        if to < layout.brk_start || to - layout.brk_start > data_limit || to.0 > user_top().0 {
            return old;
        }
        let (old_end, new_end) = (old.page_up(), to.page_up());
        let moved = if new_end > old_end {
            UserRange::new(old_end.0, new_end.0).is_some_and(|range| {
                let possible = layout.is_free(range) && !frames::can_never_hold(range.size());
                possible && self.map_in(&mut layout, heap_request(range)).is_ok()
            })
        } else if new_end < old_end {
            UserRange::new(new_end.0, old_end.0)
                .is_some_and(|range| self.unmap_in(&mut layout, range).is_ok())
        } else {
            true
        };
        if moved {
            layout.brk = to;
        }
        layout.brk
    }

    /// Drops the pages of private mappings in `range`, so that they read as what is behind them again
    /// (`MADV_DONTNEED`).
    pub fn discard(&self, range: UserRange) -> KResult<()> {
        let layout = self.layout();
        let covered = layout.vmas.covers(range);
        for vma in layout.vmas.overlapping(range) {
            if vma.flags.contains(VmaFlags::LOCKED) {
                return Err(Errno::EINVAL);
            }
            let start = vma.range.start().max(range.start());
            let end = vma.range.end().min(range.end());
            if let Some(part) = UserRange::new(start, end) {
                self.unmap_pages(part, &vma.backing);
            }
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Takes away the translations of a file's pages `first..end` (the file has become shorter, or got a hole): the next
    /// access asks the file again. Copies that a private mapping has made go too where the file no longer reaches, as
    /// on Linux.
    pub fn forget_file(&self, identity: (u64, u64), first: u64, end: u64) {
        let layout = self.layout();
        for vma in layout.vmas.as_slice() {
            let Backing::File { file, offset } = &vma.backing else { continue };
            if file.identity() != identity {
                continue;
            }
            let mapped_first = offset / PAGE_SIZE;
            let from = first.max(mapped_first) - mapped_first;
            let to = end.saturating_sub(mapped_first).min(vma.range.size() / PAGE_SIZE);
            let start = vma.range.start() + from.min(to) * PAGE_SIZE;
            if let Some(part) = UserRange::new(start, vma.range.start() + to * PAGE_SIZE) {
                self.unmap_pages(part, &vma.backing);
            }
        }
    }

    /// Maps pages of the kernel's, which it holds for ever, behind one another; returns where.
    pub fn map_special(&self, pages: &[(PhysFrame, Protection)], name: &'static str) -> KResult<UserAddr> {
        let mut layout = self.layout();
        let length = pages.len() as u64 * PAGE_SIZE;
        let start = place(&layout, MapPlace::Anywhere(VirtAddr(0)), length)?.start();
        for (index, &(frame, protection)) in pages.iter().enumerate() {
            self.map_in(
                &mut layout,
                MapRequest {
                    place: MapPlace::IfFree(VirtAddr(start + index as u64 * PAGE_SIZE)),
                    length: PAGE_SIZE,
                    protection,
                    flags: VmaFlags::KERNEL_PROVIDED | VmaFlags::SHARED | VmaFlags::NEVER_WRITABLE,
                    backing: Backing::Special { first: frame, name },
                },
            )?;
        }
        Ok(UserAddr(start))
    }
}

fn heap_request(range: UserRange) -> MapRequest {
    MapRequest {
        place: MapPlace::IfFree(VirtAddr(range.start())),
        length: range.size(),
        protection: Protection::READ | Protection::WRITE,
        flags: VmaFlags::HEAP,
        backing: Backing::Anonymous,
    }
}

fn place(layout: &Layout, place: MapPlace, length: u64) -> KResult<UserRange> {
    let fixed = |at: VirtAddr| {
        if !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        match UserRange::covering(at.0, length) {
            Some(range) if range.end() <= user_top().0 => Ok(range),
            _ => Err(Errno::ENOMEM),
        }
    };
    match place {
        MapPlace::Replace(at) => fixed(at),
        MapPlace::IfFree(at) => {
            let range = fixed(at)?;
            if layout.is_free(range) { Ok(range) } else { Err(Errno::EEXIST) }
        }
        MapPlace::Anywhere(hint) => {
            if hint.0 >= super::layout::MIN_ADDRESS
                && let Ok(range) = fixed(hint.page())
                && layout.is_free(range)
            {
                return Ok(range);
            }
            layout.find_free(length).ok_or(Errno::ENOMEM)
        }
    }
}
