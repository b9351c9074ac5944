//! One table entry (Intel SDM vol. 3A, 4.5).

pub const PRESENT: u64 = 1 << 0;
pub const WRITE: u64 = 1 << 1;
pub const USER: u64 = 1 << 2;
pub const ACCESSED: u64 = 1 << 5;
pub const DIRTY: u64 = 1 << 6;
pub const LARGE: u64 = 1 << 7;
pub const NO_EXECUTE: u64 = 1 << 63;
/// The frame's address.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entries in a table.
pub const ENTRIES: usize = 512;

/// The index of `address` in a table at `level` (1 for a leaf table).
#[inline(always)]
pub const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}

/// Bytes below one entry of a table at `level`.
#[inline(always)]
pub const fn span(level: u32) -> u64 {
    4096 << (9 * (level - 1))
}

/// Bytes of a page of an entry at level 2.
pub const LARGE_PAGE: u64 = span(2);
