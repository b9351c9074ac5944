//! Copying and clearing by whole words, where the amount is known and matters.
//!
//! For a copy of a constant length a compiler that optimizes for size emits one instruction that moves single bytes,
//! which is slow wherever the processor has no fast path for it. These do the same whatever it optimizes for.

use core::arch::asm;

/// Writes zeros over `count` words.
///
/// # Safety
/// The words are valid for writing.
#[inline(always)]
pub unsafe fn clear(to: *mut u64, count: usize) {
    // SAFETY: the caller's promise; the direction flag is clear, as the calling convention has it.
    unsafe {
        asm!("rep stosq", inout("rdi") to => _, inout("rcx") count => _, in("rax") 0u64, options(nostack, preserves_flags));
    }
}

/// Copies `count` words.
///
/// # Safety
/// The words are valid for reading and for writing, and the two ranges do not overlap.
#[inline(always)]
pub unsafe fn copy(to: *mut u64, from: *const u64, count: usize) {
    // SAFETY: as in `clear`.
    unsafe {
        asm!("rep movsq", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack, preserves_flags));
    }
}

/// Copies bytes, by words as far as they go.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn copy_bytes(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy goes to as many bytes");
    let whole = to.len() / size_of::<u64>();
    // SAFETY: both slices have that many words, of which x86 asks no alignment, and do not overlap.
    unsafe { copy(to.as_mut_ptr().cast(), from.as_ptr().cast(), whole) };
    let done = whole * size_of::<u64>();
    to[done..].copy_from_slice(&from[done..]);
}

/// Writes zeros over bytes, by words as far as they go.
#[inline]
pub fn clear_bytes(to: &mut [u8]) {
    let whole = to.len() / size_of::<u64>();
    // SAFETY: the slice has that many words, of which x86 asks no alignment.
    unsafe { clear(to.as_mut_ptr().cast(), whole) };
    to[whole * size_of::<u64>()..].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_asked_for_is_written() {
        let from = [1, 2, 3, 4];
        let mut to = [9; 5];
        // SAFETY: both arrays have the words.
        unsafe { copy(to[1..].as_mut_ptr(), from.as_ptr(), 3) };
        assert_eq!(to, [9, 1, 2, 3, 9]);
        // SAFETY: the array has the words.
        unsafe { clear(to[2..].as_mut_ptr(), 2) };
        assert_eq!(to, [9, 1, 0, 0, 9]);
        // SAFETY: nothing is touched.
        unsafe { clear(to.as_mut_ptr(), 0) };
        assert_eq!(to, [9, 1, 0, 0, 9]);
    }

    #[test]
    fn bytes_of_any_number_and_place() {
        let from: [u8; 40] = core::array::from_fn(|index| index as u8 + 1);
        for start in 0..9 {
            for length in 0..=20 {
                let mut to = [0xee; 40];
                copy_bytes(&mut to[start..start + length], &from[start..start + length]);
                for (index, &byte) in to.iter().enumerate() {
                    let copied = (start..start + length).contains(&index);
                    assert_eq!(byte, if copied { from[index] } else { 0xee }, "{start}, {length}: {index}");
                }
                clear_bytes(&mut to[start..start + length]);
                for (index, &byte) in to.iter().enumerate() {
                    let cleared = (start..start + length).contains(&index);
                    assert_eq!(byte, if cleared { 0 } else { 0xee }, "{start}, {length}: {index}");
                }
            }
        }
    }
}
