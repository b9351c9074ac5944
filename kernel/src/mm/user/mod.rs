//! Access to user memory.
//!
//! Every access goes through one of a few small assembly routines at known addresses ([`access`]). A fault inside them is
//! resolved as the user's own would be, or ends the routine early; the caller sees how far it came.

#[cfg_attr(not(target_os = "none"), path = "simulated.rs")]
mod access;

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::VirtAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use access::fixup;

use crate::errno::{Errno, KResult};

/// An address a user program gave: not to be trusted, and reached only through this module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct UserAddr(pub u64);

/// One past the highest user address; set once at boot.
static USER_TOP: AtomicU64 = AtomicU64::new(0x7fff_ffff_f000);

/// Sets the end of user memory. At boot.
pub fn set_user_top(top: VirtAddr) {
    USER_TOP.store(top.0, Ordering::Relaxed);
}

/// One past the highest user address.
#[inline]
pub fn user_top() -> VirtAddr {
    VirtAddr(USER_TOP.load(Ordering::Relaxed))
}

impl UserAddr {
    /// The null pointer, which most calls take for "none".
    pub const NULL: Self = Self(0);

    /// Whether it is null.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further on; wraps, which later checks find.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The virtual address, if `length` bytes from here lie in the user half.
    #[inline(always)]
    fn checked(self, length: usize) -> KResult<VirtAddr> {
        let end = self.0.checked_add(length as u64).ok_or(Errno::EFAULT)?;
        if end > user_top().0 { Err(Errno::EFAULT) } else { Ok(VirtAddr(self.0)) }
    }

    /// Whether `length` bytes from here lie in the user half, whatever is mapped there (Linux's `access_ok`).
    pub fn check(self, length: usize) -> KResult<()> {
        self.checked(length).map(drop)
    }

    /// All reads of more than a word.
    ///
    /// # Safety
    /// `to` is writable for `length` bytes.
    unsafe fn copy_to(self, to: *mut u8, length: usize) -> KResult<()> {
        let from = self.checked(length)?;
        // SAFETY: the caller's promise.
        if unsafe { access::copy_in(to, from, length) } == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies bytes from here. On failure nothing is said of what was copied.
    #[inline(always)]
    pub fn read_bytes(self, to: &mut [u8]) -> KResult<()> {
        // SAFETY: `to` is writable for its length.
        unsafe { self.copy_to(to.as_mut_ptr(), to.len()) }
    }

    /// Copies bytes from here to memory that has none yet. On failure nothing is said of what was copied.
    pub fn read_uninit(self, to: &mut [MaybeUninit<u8>]) -> KResult<&mut [u8]> {
        // SAFETY: `to` is writable for its length.
        unsafe { self.copy_to(to.as_mut_ptr().cast(), to.len())? };
        // SAFETY: all of its bytes were written.
        Ok(unsafe { to.assume_init_mut() })
    }

    /// Copies bytes from here until a fault; returns how many. An address outside the user half is an error at once.
    pub fn read_partial(self, to: &mut [u8]) -> KResult<usize> {
        let from = self.checked(to.len())?;
        // SAFETY: `to` is writable for its length.
        Ok(to.len() - unsafe { access::copy_in(to.as_mut_ptr(), from, to.len()) })
    }

    /// Copies bytes to here. On failure nothing is said of what was copied.
    pub fn write_bytes(self, from: &[u8]) -> KResult<()> {
        let to = self.checked(from.len())?;
        if access::copy_out(to, from) == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies bytes to here until a fault; returns how many. An address outside the user half is an error at once.
    pub fn write_partial(self, from: &[u8]) -> KResult<usize> {
        let to = self.checked(from.len())?;
        Ok(from.len() - access::copy_out(to, from))
    }

    /// Writes zeros to here.
    pub fn clear(self, length: usize) -> KResult<()> {
        const ZEROS: [u8; 256] = [0; 256];
        self.check(length)?;
        let mut done = 0;
        while done < length {
            let part = (length - done).min(ZEROS.len());
            self.offset(done as u64).write_bytes(&ZEROS[..part])?;
            done += part;
        }
        Ok(())
    }

    /// Reads a value.
    #[inline(always)]
    pub fn read<T: FromBytes>(self) -> KResult<T> {
        if size_of::<T>() == size_of::<u64>() {
            let value = self.load_u64()?;
            // SAFETY: of the same size, and any bytes make a `FromBytes`.
            return Ok(unsafe { core::mem::transmute_copy(&value) });
        }
        let mut value = MaybeUninit::<T>::uninit();
        self.read_to(&mut value)?;
        // SAFETY: it was read, whole.
        Ok(unsafe { value.assume_init() })
    }

    /// Reads a value to where it is used: none of the copies that [`Self::read`] may make of a large one.
    #[inline(always)]
    pub fn read_to<T: FromBytes>(self, to: &mut MaybeUninit<T>) -> KResult<&mut T> {
        // SAFETY: `to` is writable for its size.
        unsafe { self.copy_to(to.as_mut_ptr().cast(), size_of::<T>())? };
        // SAFETY: all of its bytes were written, and any bytes make a `FromBytes`.
        Ok(unsafe { to.assume_init_mut() })
    }

    fn load_u64(self) -> KResult<u64> {
        access::load(self.checked(8)?).ok_or(Errno::EFAULT)
    }

    /// Writes a value: in one piece if it is no more than a word.
    #[inline(always)]
    pub fn write<T: IntoBytes + Immutable>(self, value: &T) -> KResult<()> {
        let bytes = value.as_bytes();
        if let Ok(bytes) = bytes.try_into() {
            self.store_u16(u16::from_ne_bytes(bytes))
        } else if let Ok(bytes) = bytes.try_into() {
            self.store_u32(u32::from_ne_bytes(bytes))
        } else if let Ok(bytes) = bytes.try_into() {
            self.store_u64(u64::from_ne_bytes(bytes))
        } else {
            self.write_bytes(bytes)
        }
    }

    fn store_u16(self, value: u16) -> KResult<()> {
        if access::store_u16(self.checked(2)?, value) { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn store_u32(self, value: u32) -> KResult<()> {
        if access::store_u32(self.checked(4)?, value) { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn store_u64(self, value: u64) -> KResult<()> {
        if access::store_u64(self.checked(8)?, value) { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads `count` values that lie behind one another.
    pub fn read_array<T: FromBytes>(self, count: usize) -> KResult<Vec<T>> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EINVAL)?;
        self.check(bytes)?;
        let mut values = Vec::<T>::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: there is room for so many bytes.
        unsafe { self.copy_to(values.as_mut_ptr().cast(), bytes)? };
        // SAFETY: all were written, and any bytes make a `FromBytes`.
        unsafe { values.set_len(count) };
        Ok(values)
    }

    /// Reads a string up to its NUL, which is left off. `limit` bytes without a NUL are `too_long`.
    pub fn read_string(self, limit: usize, too_long: Errno) -> KResult<Vec<u8>> {
        let mut string = Vec::new();
        loop {
            // Up to the end of the page at most, so that a string just before an unmapped page is read whole.
            let here = self.offset(string.len() as u64);
            let to_page_end = 4096 - (here.0 & 4095) as usize;
            let part = to_page_end.min(limit - string.len()).min(256);
            if part == 0 {
                return Err(too_long);
            }
            let mut buffer = [0; 256];
            let read = here.read_up_to_top(&mut buffer[..part])?;
            if read == 0 {
                return Err(Errno::EFAULT);
            }
            let found = buffer[..read].iter().position(|&byte| byte == 0);
            string.try_reserve(found.unwrap_or(read)).map_err(|_| Errno::ENOMEM)?;
            string.extend_from_slice(&buffer[..found.unwrap_or(read)]);
            if found.is_some() {
                return Ok(string);
            }
        }
    }

    fn read_up_to_top(self, to: &mut [u8]) -> KResult<usize> {
        let room = user_top().0.saturating_sub(self.0).min(to.len() as u64) as usize;
        self.read_partial(&mut to[..room])
    }

    /// Reads an aligned 32-bit word in one piece (futexes).
    pub fn load_u32(self) -> KResult<u32> {
        if !self.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let at = self.checked(4)?;
        access::load_word(at).ok_or(Errno::EFAULT)
    }

    /// Sets an aligned 32-bit word to `new` if it is `old`, in one step; returns what it was.
    pub fn compare_exchange_u32(self, old: u32, new: u32) -> KResult<u32> {
        if !self.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let at = self.checked(4)?;
        access::compare_exchange(at, old, new).ok_or(Errno::EFAULT)
    }
}
