//! Pages that the kernel has filled before the program asks for them.

use platform::VirtAddr;

use super::{AddressSpace, put_mapped};
use crate::errno::{Errno, KResult};
use crate::hook::paging;
use crate::mm::Page;

impl AddressSpace {
    /// Maps `page` at `address`, where nothing is translated yet, as the program's own copy: with all the rights of the
    /// private range that holds it.
    ///
    /// # Errors
    /// EFAULT if nothing is mapped there, EEXIST if it is translated already, ENOMEM.
    pub fn provide(&self, address: VirtAddr, page: Page) -> KResult<()> {
        let layout = self.layout();
        let rights = layout.find(address).ok_or(Errno::EFAULT)?.protection;
        let frame = page.into_held();
        let result = match paging::map(self.root(), address.page(), &[frame], rights) {
            Ok(1) => {
                self.count_mapped(1);
                return Ok(());
            }
            Ok(_) => Err(Errno::EEXIST),
            Err(error) => Err(error.into()),
        };
        put_mapped(frame);
        result
    }
}
