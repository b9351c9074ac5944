//! What others than its own program ask of an address space.

use platform::{PAGE_SIZE, VirtAddr};

use super::{AddressSpace, Backing};
use crate::hook::paging;
use crate::mm::vma::UserRange;
use crate::mm::{Page, frames};

impl AddressSpace {
    /// The page that holds `address`, if it is mapped; it stays as long as the result does. Pages that are mapped only
    /// when touched are not touched.
    pub fn page_at(&self, address: VirtAddr) -> Option<Page> {
        let _serialized = self.layout();
        let mapping = paging::query(self.root(), address.page())?;
        frames::get(mapping.frame);
        Some(Page::from_held(mapping.frame))
    }

    /// Takes away the translations of a file's pages `first..end` (by number in the file), those of private copies
    /// too, as when the file is cut off. `identity` is what [`super::MappedFile::identity`] says.
    pub fn forget_file(&self, identity: (u64, u64), first: u64, end: u64) {
        let layout = self.layout();
        for vma in layout.vmas.as_slice() {
            let Backing::File { file, offset } = &vma.backing else { continue };
            if file.identity() != identity {
                continue;
            }
            let (start, pages) = (offset / PAGE_SIZE, (vma.range.end() - vma.range.start()) / PAGE_SIZE);
            let (from, to) = (first.max(start), end.min(start + pages));
            if from < to {
                let at = |page: u64| vma.range.start() + (page - start) * PAGE_SIZE;
                if let Some(range) = UserRange::new(at(from), at(to)) {
                    self.unmap_pages(range);
                }
            }
        }
    }
}
