//! The processor's part, for tests.

use core::sync::atomic::Ordering::Relaxed;

use platform::{PAGE_SIZE, VirtAddr};

use super::Shadow;
use crate::tables::entry::{LARGE, NO_EXECUTE, PRESENT, index, span};

impl Shadow {
    /// Finds the shadow's leaf entry for `address` under the loaded root, as the processor does in the given mode.
    pub(in crate::tables) fn processor_walk(&self, address: VirtAddr, user: bool) -> Option<(u64, bool)> {
        let mut id = if user { self.root().user } else { self.root().kernel };
        let mut executable = true;
        for level in [4, 3, 2] {
            let entry = self.pool.table(id)[index(address.0, level)].load(Relaxed);
            if entry & PRESENT == 0 {
                return None;
            }
            executable &= entry & NO_EXECUTE == 0;
            if entry & LARGE != 0 {
                return Some((entry + address.0 % span(2) / PAGE_SIZE * PAGE_SIZE, executable));
            }
            id = self.pool.below(entry);
        }
        let entry = self.pool.table(id)[index(address.0, 1)].load(Relaxed);
        (entry & PRESENT != 0).then_some((entry, executable && entry & NO_EXECUTE == 0))
    }
}
