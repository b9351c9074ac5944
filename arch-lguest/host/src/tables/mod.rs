//! Address translation: the guest's tables, and the shadows that the processor walks.

pub(crate) mod entry;
pub mod guest;
mod pool;
pub mod shadow;

#[cfg(test)]
mod tests;

pub use pool::{Table, TablePool};

/// The addresses below a top-level entry of the kernel half: the first, and one past the last.
pub fn entry_range(index: usize) -> (u64, u64) {
    let start = 0xffff_0000_0000_0000 | (index as u64) << 39;
    (start, start.wrapping_add(1 << 39))
}
