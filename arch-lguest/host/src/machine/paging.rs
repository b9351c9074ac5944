//! The host's own translations: one top-level entry, in every address space, for CPL 0 only.
//!
//! Its first half is the direct map of physical memory, never executable; its second has the image, each section with its
//! rights.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{PAGE_SIZE, PhysAddr, PhysFrame, PhysRange, Unusable, VirtAddr};

use super::frames::Frames;
use crate::tables::Table;
use crate::tables::shadow::HostEntry;

/// The host's top-level entry.
pub const HOST_INDEX: usize = 448;
const DIRECT_MAP: VirtAddr = VirtAddr(0xffff_e000_0000_0000);
/// The image lies this much above its physical address (`IMAGE_BASE` of the linker script).
const IMAGE_BASE: VirtAddr = VirtAddr(0xffff_e040_0000_0000);
/// Physical memory beyond this is left off.
pub const DIRECT_LIMIT: PhysAddr = PhysAddr(256 << 30);

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const UNCACHED: u64 = 0b11 << 3;
const ACCESSED_DIRTY: u64 = 0b11 << 5;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGE_PAGE: u64 = 2 << 20;
/// What lies here, below 4 GiB, is devices' registers.
const REGISTERS: core::ops::Range<u64> = 0xc000_0000..1 << 32;

unsafe extern "C" {
    static image_start: [u8; 0];
    static image_end: [u8; 0];
    static text_start: [u8; 0];
    static text_end: [u8; 0];
    static rodata_start: [u8; 0];
    static rodata_end: [u8; 0];
    static data_start: [u8; 0];
    static stack_guard: [u8; 0];
    static stack_bottom: [u8; 0];
    static data_end: [u8; 0];
}

/// Where the direct map shows `address`.
#[inline(always)]
pub const fn direct(address: PhysAddr) -> VirtAddr {
    VirtAddr(DIRECT_MAP.0 + address.0)
}

/// What the direct map shows at `address`.
pub fn physical(address: VirtAddr) -> PhysAddr {
    let physical = PhysAddr(address.0.wrapping_sub(DIRECT_MAP.0));
    assert!(physical < DIRECT_LIMIT, "{:#x} is not in the direct map", address.0);
    physical
}

/// `bytes` bytes of devices' registers at `address`, if the direct map shows them as such.
pub fn registers(address: PhysAddr, bytes: u64) -> Option<PhysAddr> {
    let end = address.0.checked_add(bytes)?;
    (REGISTERS.contains(&address.0) && end <= REGISTERS.end).then_some(address)
}

/// What the image takes of physical memory.
pub fn image() -> PhysRange {
    PhysRange { start: PhysAddr(&raw const image_start as u64), end: PhysAddr(&raw const image_end as u64) }
}

fn table(frame: PhysFrame) -> &'static Table {
    // SAFETY: the frame was taken for a table, is never given back, and is in the direct map.
    unsafe { &*direct(frame.start()).as_ptr::<Table>() }
}

fn new_table(frames: &mut Frames) -> Result<PhysFrame, Unusable> {
    let frame = frames.take_low_page().ok_or(Unusable("too little memory for the hypervisor's tables"))?;
    let frame = frame.start.frame();
    table(frame).iter().for_each(|entry| entry.store(0, Relaxed));
    Ok(frame)
}

fn below(entry: &AtomicU64, frames: &mut Frames) -> Result<&'static Table, Unusable> {
    if entry.load(Relaxed) & PRESENT == 0 {
        entry.store(new_table(frames)?.start().0 | PRESENT | WRITE | ACCESSED_DIRTY, Relaxed);
    }
    Ok(table(PhysAddr(entry.load(Relaxed) & ADDRESS).frame()))
}

/// The host's own translations.
#[derive(Clone, Copy, Debug)]
pub struct HostTables {
    /// A top-level table with nothing else, no guest's.
    pub root: PhysAddr,
    /// What every other one has of it.
    pub entry: HostEntry,
    /// One past the highest physical address that the direct map shows.
    pub end: PhysAddr,
}

/// Builds the host's translations for physical memory up to `memory_end`, and loads them.
pub fn load(frames: &mut Frames, memory_end: PhysAddr) -> Result<HostTables, Unusable> {
    let root = new_table(frames)?;
    let top = &table(root)[HOST_INDEX];
    let host = below(top, frames)?;
    let end = memory_end.0.clamp(1 << 32, DIRECT_LIMIT.0);
    let mut address = 0;
    while address < end {
        let directory = below(&host[(address >> 30) as usize], frames)?;
        let cache = if REGISTERS.contains(&address) { UNCACHED } else { 0 };
        let rights = PRESENT | WRITE | NO_EXECUTE | GLOBAL | ACCESSED_DIRTY | LARGE | cache;
        directory[(address >> 21) as usize % 512].store(address | rights, Relaxed);
        address += LARGE_PAGE;
    }
    for (start, end, rights) in [
        (&raw const text_start, &raw const text_end, 0),
        (&raw const rodata_start, &raw const rodata_end, NO_EXECUTE),
        (&raw const data_start, &raw const stack_guard, NO_EXECUTE | WRITE),
        (&raw const stack_bottom, &raw const data_end, NO_EXECUTE | WRITE),
    ] {
        let mut page = VirtAddr(start as u64);
        while page < VirtAddr(end as u64) {
            let directory = below(&host[(page.0 >> 30) as usize % 512], frames)?;
            let leaves = below(&directory[(page.0 >> 21) as usize % 512], frames)?;
            let entry = (page - IMAGE_BASE) | PRESENT | GLOBAL | ACCESSED_DIRTY | rights;
            leaves[(page.0 >> 12) as usize % 512].store(entry, Relaxed);
            page = page + PAGE_SIZE;
        }
    }
    // SAFETY: the new tables show this code, its stack and its data where the first ones do; nothing uses the identity
    // map any more.
    unsafe { load_root(root.start()) };
    let entry = HostEntry { index: HOST_INDEX, value: top.load(Relaxed) };
    Ok(HostTables { root: root.start(), entry, end: PhysAddr(end) })
}

/// Makes the top-level table at `root` the processor's.
///
/// # Safety
/// It has the host's entry.
#[inline(always)]
pub unsafe fn load_root(root: PhysAddr) {
    // SAFETY: as the caller promised, this code stays mapped.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) root.0, options(nostack, preserves_flags)) };
}

/// The processor's top-level table.
#[inline(always)]
pub fn loaded_root() -> PhysAddr {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    PhysAddr(value & ADDRESS)
}

/// Forgets the translation of one page.
#[inline(always)]
pub fn forget(page: VirtAddr) {
    // SAFETY: dropping a translation is always allowed.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) page.0, options(nostack, preserves_flags)) };
}
