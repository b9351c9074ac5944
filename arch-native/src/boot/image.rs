//! The image in memory, as the linker script of `kernel/` lays it out.

use platform::{PhysAddr, PhysRange, Protection, Unusable, VirtAddr};

use super::tables::KernelTables;
use crate::layout::IMAGE_BASE;

unsafe extern "C" {
    static text_start: [u8; 0];
    static text_end: [u8; 0];
    static rodata_start: [u8; 0];
    static rodata_end: [u8; 0];
    static data_start: [u8; 0];
    static boot_stack_guard: [u8; 0];
    static boot_stack_bottom: [u8; 0];
    static data_end: [u8; 0];
}

fn address(symbol: *const [u8; 0]) -> VirtAddr {
    VirtAddr(symbol as u64)
}

/// The memory of its sections, all in one.
pub fn memory() -> PhysRange {
    physical(&raw const text_start, &raw const data_end)
}

fn physical(start: *const [u8; 0], end: *const [u8; 0]) -> PhysRange {
    let (start, end) = (address(start), address(end).page_up());
    PhysRange { start: PhysAddr(start - IMAGE_BASE), end: PhysAddr(end - IMAGE_BASE) }
}

/// Maps each section with its rights; the page below the boot stack stays unmapped.
pub fn map(tables: &mut KernelTables<'_>) -> Result<(), Unusable> {
    let read = Protection::READ;
    for (start, end, protection) in [
        (&raw const text_start, &raw const text_end, read | Protection::EXECUTE),
        (&raw const rodata_start, &raw const rodata_end, read),
        (&raw const data_start, &raw const boot_stack_guard, read | Protection::WRITE),
        (&raw const boot_stack_bottom, &raw const data_end, read | Protection::WRITE),
    ] {
        tables.map(address(start), physical(start, end), protection)?;
    }
    Ok(())
}
