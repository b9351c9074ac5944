//! `mremap(2)`.

use platform::{PAGE_SIZE, Protection, VirtAddr};

use super::{AddressSpace, Backing, Layout, MapPlace, MapRequest};
use crate::errno::{Errno, KResult};
use crate::hook::paging;
use crate::mm::UserAddr;
use crate::mm::vma::{Behind, UserRange, Vma};

/// How a mapping may be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moving {
    /// Not at all.
    Stay,
    /// Wherever there is room (`MREMAP_MAYMOVE`).
    Anywhere,
    /// Here, in place of whatever is mapped (`MREMAP_FIXED`).
    To(VirtAddr),
}

impl AddressSpace {
    /// Grows, shrinks or moves the mapping at `old` to `new_length` bytes; returns where it is.
    pub fn remap(&self, old: UserRange, new_length: u64, moving: Moving) -> KResult<UserAddr> {
        let new_length = new_length.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        let mut layout = self.layout();
        let vma = layout.find(VirtAddr(old.start())).ok_or(Errno::EFAULT)?.clone();
        if old.end() > vma.range.end() || matches!(vma.backing, Backing::Special { .. }) {
            return Err(Errno::EFAULT);
        }
        if let Moving::To(target) = moving {
            return self.move_to(&mut layout, &vma, old, new_length, MapPlace::Replace(target));
        }
        if new_length <= old.size() {
            if let Some(tail) = UserRange::new(old.start() + new_length, old.end()) {
                self.unmap_in(&mut layout, tail)?;
            }
            return Ok(UserAddr(old.start()));
        }
        let growth = old.start().checked_add(new_length).and_then(|end| UserRange::new(old.end(), end));
        if let Some(growth) = growth
            && old.end() == vma.range.end()
            && layout.is_free(growth)
            && growth.end() <= crate::mm::user::user_top().0
        {
            layout.vmas.insert(Vma {
                range: growth,
                backing: vma.backing.offset_by(growth.start() - vma.range.start()),
                ..vma
            })?;
            return Ok(UserAddr(old.start()));
        }
        match moving {
            Moving::Anywhere => {
                self.move_to(&mut layout, &vma, old, new_length, MapPlace::Anywhere(VirtAddr(0)))
            }
            _ => Err(Errno::ENOMEM),
        }
    }

    fn move_to(
        &self,
        layout: &mut Layout,
        vma: &Vma<Backing>,
        old: UserRange,
        new_length: u64,
        place: MapPlace,
    ) -> KResult<UserAddr> {
        let kept = old.size().min(new_length);
        let new = self.map_in(
            layout,
            MapRequest {
                place,
                length: new_length,
                protection: vma.protection,
                flags: vma.flags,
                backing: vma.backing.offset_by(old.start() - vma.range.start()),
            },
        )?;
        if let Err(error) = self.move_pages(VirtAddr(old.start()), VirtAddr(new.0), kept) {
            if let Some(range) = UserRange::covering(new.0, new_length) {
                // The pages that had been moved are mapped twice and counted twice: this lets one of each go.
                self.unmap_in(layout, range)?;
            }
            return Err(error);
        }
        self.unmap_in(layout, old)?;
        Ok(new)
    }

    /// Maps the pages of `from` at `to` as well.
    fn move_pages(&self, from: VirtAddr, to: VirtAddr, bytes: u64) -> KResult<()> {
        let mut offset = 0;
        while offset < bytes {
            if let Some(mapping) = paging::query(self.root(), from + offset) {
                super::get_mapped(mapping.frame);
                let rights = mapping.protection - Protection::USER;
                match paging::map(self.root(), to + offset, &[mapping.frame], rights) {
                    Ok(1) => self.count_mapped(1),
                    Ok(_) => super::put_mapped(mapping.frame),
                    Err(error) => {
                        super::put_mapped(mapping.frame);
                        return Err(error.into());
                    }
                }
            }
            offset += PAGE_SIZE;
        }
        Ok(())
    }
}
