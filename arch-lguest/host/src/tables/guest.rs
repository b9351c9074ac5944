//! The guest's own tables.

use lguest_abi::{BOOT_IMAGE_BASE, BOOT_IMAGE_LIMIT, KERNEL_HALF};
use platform::{PAGE_SIZE, VirtAddr};

use super::entry::{ACCESSED, ADDRESS, DIRTY, LARGE, LARGE_PAGE, NO_EXECUTE, PRESENT, USER, WRITE, index};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};

/// What translates a guest's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestRoot {
    /// No table yet: memory at its own address, and its first GiB at [`BOOT_IMAGE_BASE`].
    BootMap,
    /// The top-level table there.
    Table(GuestPhys),
}

/// A page as the guest's tables translate it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPage {
    /// Where it leads.
    pub frame: GuestPhys,
    /// Every level grants writing.
    pub writable: bool,
    /// No level forbids execution.
    pub executable: bool,
    /// The leaf's accessed flag.
    pub accessed: bool,
    /// The leaf's dirty flag.
    pub dirty: bool,
    /// Where the leaf entry is; none under the boot map.
    pub entry_at: Option<GuestPhys>,
    /// The entry maps a large page, of which this is one page.
    pub large: bool,
}

/// A table of the guest's, with the rights of the way to it.
#[derive(Clone, Copy, Debug)]
pub struct GuestTable {
    at: GuestPhys,
    user_half: bool,
    writable: bool,
    executable: bool,
}

impl GuestTable {
    /// The top-level table at `at`, for the half in which `address` lies.
    pub fn top(at: GuestPhys, address: VirtAddr) -> Self {
        Self { at, user_half: address.0 < KERNEL_HALF, writable: true, executable: true }
    }

    /// The entry with index `index`, if it is present and, in the user half, the user's.
    #[inline]
    fn entry(&self, memory: &GuestMemory, index: usize) -> Result<Option<u64>, Broken> {
        let entry = memory.read(GuestPhys(self.at.0 + index as u64 * 8))?;
        if entry & PRESENT == 0 || (self.user_half && entry & USER == 0) {
            return Ok(None);
        }
        if entry & ADDRESS >= memory.bytes() {
            return Err(Rule::FrameOutsideMemory.broken_by(entry));
        }
        Ok(Some(entry))
    }

    /// What the entry with index `index` of a table at `level` (4, 3 or 2) leads to.
    #[inline]
    pub fn below(&self, memory: &GuestMemory, level: u32, index: usize) -> Result<Option<Below>, Broken> {
        let Some(entry) = self.entry(memory, index)? else { return Ok(None) };
        if entry & LARGE == 0 {
            return Ok(Some(Below::Table(Self {
                at: GuestPhys(entry & ADDRESS),
                user_half: self.user_half,
                writable: self.writable && entry & WRITE != 0,
                executable: self.executable && entry & NO_EXECUTE == 0,
            })));
        }
        if level != 2 || self.user_half || !(entry & ADDRESS).is_multiple_of(LARGE_PAGE) {
            return Err(Rule::ReservedBits.broken_by(entry));
        }
        if (entry & ADDRESS) + LARGE_PAGE > memory.bytes() {
            return Err(Rule::FrameOutsideMemory.broken_by(entry));
        }
        Ok(Some(Below::LargePage(self.page_of(entry, index))))
    }

    /// The page of the entry with index `index`, of a leaf table.
    #[inline]
    pub fn page(&self, memory: &GuestMemory, index: usize) -> Result<Option<GuestPage>, Broken> {
        let Some(entry) = self.entry(memory, index)? else { return Ok(None) };
        // Bit 7 of a leaf entry is the page attribute table's: a reserved bit here.
        if entry & LARGE != 0 {
            return Err(Rule::ReservedBits.broken_by(entry));
        }
        Ok(Some(self.page_of(entry, index)))
    }

    #[inline]
    fn page_of(&self, entry: u64, index: usize) -> GuestPage {
        GuestPage {
            frame: GuestPhys(entry & ADDRESS),
            writable: self.writable && entry & WRITE != 0,
            executable: self.executable && entry & NO_EXECUTE == 0,
            accessed: entry & ACCESSED != 0,
            dirty: entry & DIRTY != 0,
            entry_at: Some(GuestPhys(self.at.0 + index as u64 * 8)),
            large: entry & LARGE != 0,
        }
    }

    /// What maps `address`, this being a top-level table: its leaf table, or a large page.
    #[inline]
    pub fn lowest(&self, memory: &GuestMemory, address: VirtAddr) -> Result<Option<Below>, Broken> {
        let mut table = *self;
        for level in [4, 3, 2] {
            match table.below(memory, level, index(address.0, level))? {
                Some(Below::Table(below)) => table = below,
                other => return Ok(other),
            }
        }
        Ok(Some(Below::Table(table)))
    }
}

/// What a table's entry leads to.
#[derive(Clone, Copy, Debug)]
pub enum Below {
    /// Another table.
    Table(GuestTable),
    /// A large page.
    LargePage(GuestPage),
}

impl GuestRoot {
    /// The page that holds `address`, which is canonical.
    pub fn page(self, memory: &GuestMemory, address: VirtAddr) -> Result<Option<GuestPage>, Broken> {
        match self {
            Self::BootMap => Ok(boot_page(memory, address)),
            Self::Table(at) => match GuestTable::top(at, address).lowest(memory, address)? {
                Some(Below::Table(table)) => table.page(memory, index(address.0, 1)),
                Some(Below::LargePage(page)) => {
                    let offset = (address.0 % LARGE_PAGE) & !(PAGE_SIZE - 1);
                    Ok(Some(GuestPage { frame: GuestPhys(page.frame.0 + offset), ..page }))
                }
                None => Ok(None),
            },
        }
    }
}

fn boot_page(memory: &GuestMemory, address: VirtAddr) -> Option<GuestPage> {
    let page = address.page().0;
    let physical = match page.checked_sub(BOOT_IMAGE_BASE) {
        Some(offset) if offset < BOOT_IMAGE_LIMIT => offset,
        Some(_) => return None,
        None => page,
    };
    (physical < memory.bytes()).then_some(GuestPage {
        frame: GuestPhys(physical),
        writable: true,
        executable: true,
        accessed: true,
        dirty: true,
        entry_at: None,
        large: false,
    })
}

/// Whether `address` is canonical.
#[inline(always)]
pub const fn is_canonical(address: VirtAddr) -> bool {
    let upper = address.0 as i64 >> 47;
    upper == 0 || upper == -1
}

/// Where the word at the guest's virtual address `address` (a multiple of 8) is in guest-physical memory; for writing only if
/// the page is writable, which is then marked dirty.
pub fn locate(
    memory: &GuestMemory,
    root: GuestRoot,
    address: VirtAddr,
    to_write: bool,
) -> Result<Option<GuestPhys>, Broken> {
    if !is_canonical(address) {
        return Ok(None);
    }
    let Some(page) = root.page(memory, address)? else { return Ok(None) };
    if to_write && !page.writable {
        return Ok(None);
    }
    if let Some(at) = page.entry_at {
        let wanted = if to_write { ACCESSED | DIRTY } else { ACCESSED };
        if !page.accessed || (to_write && !page.dirty) {
            memory.set_bits(at, wanted)?;
        }
    }
    Ok(Some(GuestPhys(page.frame.0 + address.0 % PAGE_SIZE)))
}
