//! Access to user memory.
//!
//! Every access goes through one of two small assembly routines at known addresses. A fault inside them is resolved as
//! the user's own would be, or ends the routine early; the caller sees how far it came.

use alloc::vec::Vec;
use core::arch::naked_asm;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::VirtAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, KResult};
use crate::hook::cpu;

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

    /// Copies bytes from here until a fault; returns how many. An address outside the user half is an error at once.
    pub fn read_partial(self, to: &mut [u8]) -> KResult<usize> {
        let from = self.checked(to.len())?;
        Ok(to.len() - copy(to.as_mut_ptr(), from.as_ptr(), to.len()))
    }

    /// Copies bytes to here. On failure nothing is said of what was copied.
    pub fn write_bytes(self, from: &[u8]) -> KResult<()> {
        if self.write_partial(from)? == from.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies bytes to here until a fault; returns how many. An address outside the user half is an error at once.
    pub fn write_partial(self, from: &[u8]) -> KResult<usize> {
        let to = self.checked(from.len())?;
        Ok(from.len() - copy(to.as_mut_ptr(), from.as_ptr(), from.len()))
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
        let from = self.checked(size_of::<T>())?;
        let mut value = MaybeUninit::<T>::uninit();
        if copy(value.as_mut_ptr().cast(), from.as_ptr(), size_of::<T>()) != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: all of its bytes were written, and any bytes make a `FromBytes`.
        Ok(unsafe { value.assume_init() })
    }

    /// Writes a value.
    #[inline]
    pub fn write<T: IntoBytes + Immutable>(self, value: &T) -> KResult<()> {
        self.write_bytes(value.as_bytes())
    }

    /// Reads `count` values that lie behind one another.
    pub fn read_array<T: FromBytes + Clone>(self, count: usize) -> KResult<Vec<T>> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EINVAL)?;
        self.check(bytes)?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        for index in 0..count {
            values.push(self.offset((index * size_of::<T>()) as u64).read::<T>()?);
        }
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
        self.read::<u32>()
    }

    /// Sets an aligned 32-bit word to `new` if it is `old`, in one step; returns what it was.
    pub fn compare_exchange_u32(self, old: u32, new: u32) -> KResult<u32> {
        if !self.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let at = self.checked(4)?;
        cpu::user_access_begin();
        // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
        let result = unsafe { compare_exchange_user(at.as_mut_ptr(), old, new) };
        cpu::user_access_end();
        if result >> 32 == 0 { Ok(result as u32) } else { Err(Errno::EFAULT) }
    }
}

/// Copies between user and kernel memory; returns how many bytes were left when a fault ended it.
#[inline]
fn copy(to: *mut u8, from: *const u8, length: usize) -> usize {
    cpu::user_access_begin();
    // SAFETY: one side is kernel memory of that length, the other lies in the user half, where a fault ends the copy.
    let left = unsafe { copy_user(to, from, length) };
    cpu::user_access_end();
    left
}

/// Copies `length` bytes; returns how many were not copied. Words first where there are some.
#[unsafe(naked)]
unsafe extern "C" fn copy_user(to: *mut u8, from: *const u8, length: usize) -> usize {
    naked_asm!(
        "mov rcx, rdx",
        "cmp rdx, 64",
        "jae 3f",
        "shr rcx, 3",
        "jz 2f",
        ".globl user_copy_words",
        "5:",
        "user_copy_words:",
        "mov rax, [rsi]",
        ".globl user_copy_words_store",
        "user_copy_words_store:",
        "mov [rdi], rax",
        "add rsi, 8",
        "add rdi, 8",
        "sub rdx, 8",
        "dec rcx",
        "jnz 5b",
        "2:",
        "test rdx, rdx",
        "jz 4f",
        "6:",
        ".globl user_copy_tail",
        "user_copy_tail:",
        "mov al, [rsi]",
        ".globl user_copy_tail_store",
        "user_copy_tail_store:",
        "mov [rdi], al",
        "inc rsi",
        "inc rdi",
        "dec rdx",
        "jnz 6b",
        "4:",
        "mov rax, rdx",
        "ret",
        "3:",
        "shr rcx, 3",
        "and edx, 7",
        ".globl user_copy_block",
        "user_copy_block:",
        "rep movsq",
        "jmp 2b",
        // A fault in the block: RCX words and RDX bytes are left; the words are tried again byte by byte.
        ".globl user_copy_block_fixup",
        "user_copy_block_fixup:",
        "lea rdx, [rdx + rcx * 8]",
        "jmp 2b",
        // A fault in a word: RDX bytes are left; the same.
        ".globl user_copy_words_fixup",
        "user_copy_words_fixup:",
        "jmp 2b",
    )
}

/// Returns the old value, or a value with bit 32 set after a fault.
#[unsafe(naked)]
unsafe extern "C" fn compare_exchange_user(at: *mut u32, old: u32, new: u32) -> u64 {
    naked_asm!(
        "mov eax, esi",
        ".globl user_compare_exchange",
        "user_compare_exchange:",
        "lock cmpxchg [rdi], edx",
        "mov eax, eax",
        "ret",
        ".globl user_compare_exchange_fixup",
        "user_compare_exchange_fixup:",
        "mov rax, -1",
        "ret",
        ".globl user_copy_tail_fixup",
        "user_copy_tail_fixup:",
        "mov rax, rdx",
        "ret",
    )
}

unsafe extern "C" {
    safe static user_copy_words: u8;
    safe static user_copy_words_store: u8;
    safe static user_copy_words_fixup: u8;
    safe static user_copy_tail: u8;
    safe static user_copy_tail_store: u8;
    safe static user_copy_tail_fixup: u8;
    safe static user_copy_block: u8;
    safe static user_copy_block_fixup: u8;
    safe static user_compare_exchange: u8;
    safe static user_compare_exchange_fixup: u8;
}

fn address(symbol: &u8) -> VirtAddr {
    VirtAddr(&raw const *symbol as u64)
}

/// Whether the instruction at `rip` is one that touches user memory on the kernel's behalf.
pub fn is_user_access(rip: VirtAddr) -> bool {
    fixup(rip).is_some()
}

/// Where to go on after a fault at `rip` that cannot be resolved.
pub fn fixup(rip: VirtAddr) -> Option<VirtAddr> {
    let table = [
        (&user_copy_block, &user_copy_block_fixup),
        (&user_copy_words, &user_copy_words_fixup),
        (&user_copy_words_store, &user_copy_words_fixup),
        (&user_copy_tail, &user_copy_tail_fixup),
        (&user_copy_tail_store, &user_copy_tail_fixup),
        (&user_compare_exchange, &user_compare_exchange_fixup),
    ];
    table.into_iter().find(|(at, _)| address(at) == rip).map(|(_, fixup)| address(fixup))
}
