//! User memory of the simulated platform, whose pages are not mapped at their own addresses.

use core::sync::atomic::{AtomicU32, Ordering};

use platform::VirtAddr;

use crate::hook::cpu;

/// Bytes from `at` to the end of its page, at most `length`.
fn part(at: VirtAddr, length: usize) -> usize {
    length.min((at.page() + platform::PAGE_SIZE - at) as usize)
}

/// Walks the pages of a range; returns how many bytes were left when a fault ended it.
fn each_part(
    at: VirtAddr,
    length: usize,
    write: bool,
    mut work: impl FnMut(usize, VirtAddr, usize),
) -> usize {
    let mut done = 0;
    while done < length {
        let here = at + done as u64;
        let part = part(here, length - done);
        cpu::user_access_begin();
        let found = sim::kernel_access(here, write);
        cpu::user_access_end();
        let Some(memory) = found else { break };
        work(done, memory, part);
        done += part;
    }
    length - done
}

/// See the image's own `copy_in`.
///
/// # Safety
/// `to` is writable for `length` bytes.
pub unsafe fn copy_in(to: *mut u8, from: VirtAddr, length: usize) -> usize {
    each_part(from, length, false, |done, memory, part| {
        // SAFETY: the simulator gave memory that is good to the end of the page; the caller gave the rest.
        unsafe { core::ptr::copy_nonoverlapping(memory.as_ptr(), to.add(done), part) }
    })
}

/// See the image's own `copy_out`.
pub fn copy_out(to: VirtAddr, from: &[u8]) -> usize {
    each_part(to, from.len(), true, |done, memory, part| {
        // SAFETY: the simulator gave memory that is good to the end of the page.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr().add(done), memory.as_mut_ptr(), part) }
    })
}

/// See the image's own `load_word`.
pub fn load_word(at: VirtAddr) -> Option<u32> {
    let mut found = 0;
    let left = each_part(at, 4, false, |_, memory, _| {
        // SAFETY: the simulator gave memory for the aligned word.
        found = unsafe { AtomicU32::from_ptr(memory.as_mut_ptr()) }.load(Ordering::SeqCst);
    });
    (left == 0).then_some(found)
}

/// See the image's own `load`.
pub fn load(at: VirtAddr) -> Option<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the array is writable.
    let left = unsafe { copy_in(bytes.as_mut_ptr(), at, bytes.len()) };
    (left == 0).then_some(u64::from_ne_bytes(bytes))
}

/// See the image's own `store_u16`.
pub fn store_u16(at: VirtAddr, value: u16) -> bool {
    copy_out(at, &value.to_ne_bytes()) == 0
}

/// See the image's own `store_u32`.
pub fn store_u32(at: VirtAddr, value: u32) -> bool {
    copy_out(at, &value.to_ne_bytes()) == 0
}

/// See the image's own `store_u64`.
pub fn store_u64(at: VirtAddr, value: u64) -> bool {
    copy_out(at, &value.to_ne_bytes()) == 0
}

/// See the image's own `compare_exchange`.
pub fn compare_exchange(at: VirtAddr, old: u32, new: u32) -> Option<u32> {
    let mut found = old;
    let left = each_part(at, 4, true, |_, memory, _| {
        // SAFETY: the simulator gave memory for the aligned word.
        let word = unsafe { AtomicU32::from_ptr(memory.as_mut_ptr()) };
        found =
            word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|other| other);
    });
    (left == 0).then_some(found)
}

/// A fault of the simulator's accesses is told by changing the frame's instruction pointer.
pub fn fixup(rip: VirtAddr) -> Option<VirtAddr> {
    Some(rip + 1)
}
