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
    fn checked(self, length: usize) -> KResult<VirtAddr> {
        let end = self.0.checked_add(length as u64).ok_or(Errno::EFAULT)?;
        if end > user_top().0 { Err(Errno::EFAULT) } else { Ok(VirtAddr(self.0)) }
    }

    /// Whether `length` bytes from here lie in the user half, whatever is mapped there (Linux's `access_ok`).
    pub fn check(self, length: usize) -> KResult<()> {
        self.checked(length).map(drop)
    }

    /// Copies bytes from here. On failure nothing is said of what was copied.
    pub fn read_bytes(self, to: &mut [u8]) -> KResult<()> {
        if self.read_partial(to)? == to.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies bytes from here to memory that has none yet. On failure nothing is said of what was copied.
    pub fn read_uninit(self, to: &mut [MaybeUninit<u8>]) -> KResult<&mut [u8]> {
        let from = self.checked(to.len())?;
        // SAFETY: `to` is writable for its length.
        if unsafe { access::copy_in(to.as_mut_ptr().cast(), from, to.len()) } != 0 {
            return Err(Errno::EFAULT);
        }
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
        if self.write_partial(from)? == from.len() { Ok(()) } else { Err(Errno::EFAULT) }
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
    #[inline]
    pub fn read<T: FromBytes>(self) -> KResult<T> {
        let mut value = MaybeUninit::<T>::uninit();
        self.read_to(&mut value)?;
        // SAFETY: it was read, whole.
        Ok(unsafe { value.assume_init() })
    }

    /// Reads a value to where it is used: none of the copies that [`Self::read`] may make of a large one.
    #[inline]
    pub fn read_to<T: FromBytes>(self, to: &mut MaybeUninit<T>) -> KResult<&mut T> {
        let from = self.checked(size_of::<T>())?;
        // SAFETY: `to` is writable for its size.
        if unsafe { access::copy_in(to.as_mut_ptr().cast(), from, size_of::<T>()) } != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: all of its bytes were written, and any bytes make a `FromBytes`.
        Ok(unsafe { to.assume_init_mut() })
    }

    /// Writes a value.
    #[inline]
    pub fn write<T: IntoBytes + Immutable>(self, value: &T) -> KResult<()> {
        self.write_bytes(value.as_bytes())
    }

    /// Reads `count` values that lie behind one another.
    pub fn read_array<T: FromBytes>(self, count: usize) -> KResult<Vec<T>> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EINVAL)?;
        self.check(bytes)?;
        let mut values = Vec::<T>::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: there is room for so many bytes.
        if unsafe { access::copy_in(values.as_mut_ptr().cast(), VirtAddr(self.0), bytes) } != 0 {
            return Err(Errno::EFAULT);
        }
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
