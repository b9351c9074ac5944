//! Looking into an address space from outside.

use platform::VirtAddr;

use super::{AddressSpace, Backing};
use crate::hook::paging;
use crate::mm::{Page, frames};

impl AddressSpace {
    /// The page that holds `address`, if one of the program's own is mapped there; it stays as long as the result does.
    /// Pages that are mapped only when touched are not touched.
    pub fn page_at(&self, address: VirtAddr) -> Option<Page> {
        let layout = self.layout();
        // The kernel's own pages are not counted.
        if matches!(layout.find(address)?.backing, Backing::Special { .. }) {
            return None;
        }
        let mapping = paging::query(self.root(), address.page())?;
        frames::get(mapping.frame);
        Some(Page::from_held(mapping.frame))
    }
}
