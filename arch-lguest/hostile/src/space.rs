//! Address spaces: good ones that keep this guest alive, with room for bad entries.

use lguest_abi::KERNEL_HALF;

use crate::entry;

/// Where tables are, guest-physical: roots, then the tables for bad entries, then the good ones.
const TABLES: u64 = 0x20_0000;
/// Roots, each a good one.
pub const ROOTS: u64 = 4;
/// Tables that only bad entries lead to.
pub const BAD_TABLES: u64 = 4;
/// Memory that nothing depends on.
pub const SCRATCH: u64 = 0x30_0000;
/// Where user mode has its code; a page of data follows.
pub const USER_CODE: u64 = 8 << 39;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const LARGE: u64 = 1 << 7;
const TOUCHED: u64 = 0b11 << 5;

/// The guest-physical address of table `number`: a root, or a bad one after the roots.
pub fn table(number: u64) -> u64 {
    TABLES + number * 4096
}

/// Writes an entry of a table, through whatever shows guest-physical memory now.
pub fn write(table: u64, index: u64, entry: u64, seen_at: u64) {
    // SAFETY: the address is in memory that holds tables only.
    unsafe { ((seen_at + table + index * 8) as *mut u64).write_volatile(entry) };
}

/// Reads an entry of a table, through whatever shows guest-physical memory now.
pub fn read(table: u64, index: u64, seen_at: u64) -> u64 {
    // SAFETY: as above.
    unsafe { ((seen_at + table + index * 8) as *const u64).read_volatile() }
}

/// Builds the roots, through the boot map.
pub fn build() {
    let good = table(ROOTS + BAD_TABLES);
    let [image3, image2, memory3, user3, user2, user1] = [0, 1, 2, 3, 4, 5].map(|n| good + n * 4096);
    let set = |table, index, entry| write(table, index, entry, 0);
    for n in 0..2 {
        set(image2, n, (n << 21) | PRESENT | WRITE | LARGE | TOUCHED);
    }
    set(image3, 510, image2 | PRESENT | WRITE);
    set(memory3, 0, image2 | PRESENT | WRITE);
    set(user3, 0, user2 | PRESENT | WRITE | USER);
    set(user2, 0, user1 | PRESENT | WRITE | USER);
    set(user1, 0, SCRATCH | PRESENT | USER | TOUCHED);
    set(user1, 1, (SCRATCH + 4096) | PRESENT | WRITE | USER | TOUCHED);
    for root in 0..ROOTS {
        set(table(root), 511, image3 | PRESENT | WRITE);
        set(table(root), 256, memory3 | PRESENT | WRITE);
        set(table(root), 8, user3 | PRESENT | WRITE | USER);
    }
    for (at, byte) in entry::user_code().iter().enumerate() {
        // SAFETY: scratch memory, seen through the boot map.
        unsafe { ((SCRATCH + at as u64) as *mut u8).write_volatile(*byte) };
    }
}

/// Where guest-physical memory is seen under the good roots.
pub const MEMORY_AT: u64 = KERNEL_HALF;
