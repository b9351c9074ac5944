//! The entries that map pages.

use crate::memory::GuestMemory;
use crate::tables::entry::{ACCESSED, DIRTY, LARGE, NO_EXECUTE, PRESENT, USER, WRITE};
use crate::tables::guest::GuestPage;

/// The shadow of a guest's page; a page that is not dirty cannot be written, so that the first write is seen.
#[inline(always)]
pub fn leaf_entry(memory: &GuestMemory, page: &GuestPage) -> Option<u64> {
    let host = memory.host_address(page.frame)?;
    let write = if page.writable && page.dirty { WRITE | DIRTY } else { 0 };
    let execute = if page.executable { 0 } else { NO_EXECUTE };
    let large = if page.large { LARGE } else { 0 };
    Some(host.0 | PRESENT | USER | ACCESSED | write | execute | large)
}
