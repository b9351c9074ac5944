//! Raw memory, mapped and touched on purpose.

use crate::call;
use crate::sys::Sys;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Size of a page, bytes.
pub const PAGE: usize = 4096;
/// First address beyond user space with four-level paging.
pub const USER_END: usize = 0x0000_8000_0000_0000;
/// An address in the kernel's half.
pub const KERNEL: usize = 0xffff_ffff_8000_0000;
/// An address that no four- or five-level page table can map.
pub const NON_CANONICAL: usize = 0x8000_1234_5678_0000;

/// Read and write.
pub const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// Private anonymous memory.
pub const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
/// Shared anonymous memory.
pub const SHARED: i32 = libc::MAP_SHARED | libc::MAP_ANONYMOUS;

/// `mmap` in full.
pub fn mmap(addr: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> Sys {
    call!(SYS_mmap, addr, len, prot, flags, fd, offset)
}

/// Private anonymous memory of `len` bytes, readable and writable.
pub fn anon(len: usize) -> usize {
    crate::ok!(mmap(0, len, RW, ANON, -1, 0))
}

/// Anonymous memory of `len` bytes shared with children.
pub fn shared(len: usize) -> usize {
    crate::ok!(mmap(0, len, RW, SHARED, -1, 0))
}

/// An address at which nothing is mapped, each call another, where later mappings without an address do not come.
pub fn unmapped() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0x2bad_0000_0000);
    let at = NEXT.fetch_add(16 * PAGE, SeqCst);
    let flags = ANON | libc::MAP_FIXED_NOREPLACE;
    crate::eq!(mmap(at, 3 * PAGE, RW, flags, -1, 0), Ok(at));
    crate::ok!(munmap(at, 3 * PAGE));
    at + PAGE
}

/// `munmap`.
pub fn munmap(addr: usize, len: usize) -> Sys {
    call!(SYS_munmap, addr, len)
}

/// `mprotect`.
pub fn mprotect(addr: usize, len: usize, prot: i32) -> Sys {
    call!(SYS_mprotect, addr, len, prot)
}

/// Writes `value` at `addr`, exactly once.
pub fn poke<T: Copy>(addr: usize, value: T) {
    // SAFETY: see the crate documentation; a bad address raises the signal that the case is about.
    unsafe { (addr as *mut T).write_volatile(value) }
}

/// Reads from `addr`, exactly once.
pub fn peek<T: Copy>(addr: usize) -> T {
    // SAFETY: as for `poke`.
    unsafe { (addr as *const T).read_volatile() }
}

/// The bytes at `addr` as a slice.
pub fn bytes(addr: usize, len: usize) -> &'static mut [u8] {
    // SAFETY: as for `poke`; the caller maps the range first and keeps it.
    unsafe { std::slice::from_raw_parts_mut(addr as *mut u8, len) }
}

/// A reference into memory mapped by the case, for atomics in shared pages.
pub fn at<T>(addr: usize) -> &'static T {
    // SAFETY: as for `bytes`; used for atomics, for which all bit patterns are values.
    unsafe { &*(addr as *const T) }
}

/// A stack of `len` bytes with an unmapped page below it; gives its top.
pub fn stack(len: usize) -> usize {
    let area = anon(len + PAGE);
    crate::ok!(mprotect(area, PAGE, libc::PROT_NONE));
    area + len + PAGE
}

/// Calls the machine code at `addr` as `extern "C" fn() -> usize`.
pub fn run_code(addr: usize) -> usize {
    // SAFETY: as for `poke`; a wrong address raises the signal that the case is about.
    let code: extern "C" fn() -> usize = unsafe { std::mem::transmute(std::hint::black_box(addr)) };
    code()
}
