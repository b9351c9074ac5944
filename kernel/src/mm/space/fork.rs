//! Copying an address space for a child.

use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::{ForkMode, FrameBatch, PageRange};

use super::{AddressSpace, Backing, get_mapped};
use crate::errno::{Errno, KResult};
use crate::hook::paging;
use crate::mm::vma::{UserRange, VmaFlags};

impl AddressSpace {
    /// A copy, with one user: private pages are shared until either side writes. On failure the parent is as before.
    pub fn fork(&self) -> KResult<Arc<Self>> {
        let child = Self::new()?;
        let parent_layout = self.layout();
        let mut child_layout = child.layout();
        child_layout.vmas = parent_layout.vmas.try_clone()?;
        child_layout.brk_start = parent_layout.brk_start;
        child_layout.brk = parent_layout.brk;
        child_layout.map_top = parent_layout.map_top;
        child_layout.program = parent_layout.program;
        child_layout.executable = parent_layout.executable.clone();

        let mut not_inherited: Vec<UserRange> = Vec::new();
        let mut shared_any = None;
        let mut result = Ok(());
        for vma in parent_layout.vmas.as_slice() {
            if vma.flags.contains(VmaFlags::NOT_INHERITED) {
                not_inherited.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                not_inherited.push(vma.range);
                continue;
            }
            // Pages of shared mappings and untouched files are found again by faults.
            let has_own_pages = !vma.flags.contains(VmaFlags::SHARED)
                && (matches!(vma.backing, Backing::Anonymous)
                    || vma.flags.contains(VmaFlags::MAY_HAVE_COPIES));
            if !has_own_pages || vma.flags.contains(VmaFlags::WIPED_ON_FORK) {
                continue;
            }
            let pages = PageRange::from(vma.range);
            match self.fork_pages(&child, pages) {
                Ok(true) => {
                    let start = shared_any.map_or(pages.start, |range: PageRange| range.start);
                    shared_any = Some(PageRange::new(start, pages.end));
                }
                Ok(false) => {}
                Err(error) => {
                    shared_any =
                        Some(shared_any.map_or(pages, |range| PageRange::new(range.start, pages.end)));
                    result = Err(error);
                    break;
                }
            }
        }
        if let Some(range) = shared_any {
            // The parent's pages lost the right to write.
            self.flush(range);
        }
        result?;
        for range in not_inherited {
            child_layout.vmas.remove(range, drop)?;
        }
        drop(child_layout);
        Ok(child)
    }

    /// Returns whether there was any page.
    fn fork_pages(&self, child: &Self, pages: PageRange) -> KResult<bool> {
        let mut shared = FrameBatch::new();
        let mut start = pages.start;
        let mut any = false;
        while start < pages.end {
            let rest = PageRange::new(start, pages.end);
            let reached = paging::fork(self.root(), child.root(), rest, ForkMode::CopyOnWrite, &mut shared);
            // What was handed on before an error counts as well.
            shared.frames().iter().copied().for_each(get_mapped);
            child.count_mapped(shared.frames().len() as u64);
            any |= !shared.is_empty();
            shared.clear();
            start = reached?;
        }
        Ok(any)
    }
}
