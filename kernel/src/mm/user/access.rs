//! The instructions that touch user memory.

use core::arch::naked_asm;

use platform::VirtAddr;

use crate::hook::cpu;

/// As long as this exists, the routines below may reach user memory.
struct UserAccess;

impl UserAccess {
    #[inline(always)]
    fn begin() -> Self {
        cpu::user_access_begin();
        Self
    }
}

impl Drop for UserAccess {
    #[inline(always)]
    fn drop(&mut self) {
        cpu::user_access_end();
    }
}

/// Copies from user memory; returns how many bytes were left when a fault ended it.
///
/// # Safety
/// `to` is writable for `length` bytes. `from` lies in the user half for that length.
#[inline(always)]
pub unsafe fn copy_in(to: *mut u8, from: VirtAddr, length: usize) -> usize {
    let _access = UserAccess::begin();
    // SAFETY: one side is the caller's, the other lies in the user half, where a fault ends the copy.
    unsafe { copy_user(to, from.as_ptr(), length) }
}

/// Copies to user memory, which lies in the user half for that length; returns how many bytes were left when a fault
/// ended it.
#[inline(always)]
pub fn copy_out(to: VirtAddr, from: &[u8]) -> usize {
    let _access = UserAccess::begin();
    // SAFETY: one side is kernel memory of that length, the other lies in the user half, where a fault ends the copy.
    unsafe { copy_user(to.as_mut_ptr(), from.as_ptr(), from.len()) }
}

/// Reads an aligned word of the user half in one piece; none after a fault.
#[inline]
pub fn load_word(at: VirtAddr) -> Option<u32> {
    let _access = UserAccess::begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let result = unsafe { load_user_word(at.as_ptr()) };
    (result >> 32 == 0).then_some(result as u32)
}

/// Reads a word of the user half; none after a fault.
#[inline(always)]
pub fn load(at: VirtAddr) -> Option<u64> {
    let _access = UserAccess::begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let loaded = unsafe { load_user(at.as_ptr()) };
    (loaded.failed == 0).then_some(loaded.value)
}

/// Writes 2 bytes of the user half; false after a fault.
#[inline(always)]
pub fn store_u16(at: VirtAddr, value: u16) -> bool {
    let _access = UserAccess::begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let failed = unsafe { store_user_u16(at.as_mut_ptr(), value) };
    failed == 0
}

/// Writes 4 bytes of the user half; false after a fault.
#[inline(always)]
pub fn store_u32(at: VirtAddr, value: u32) -> bool {
    let _access = UserAccess::begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let failed = unsafe { store_user_u32(at.as_mut_ptr(), value) };
    failed == 0
}

/// Writes 8 bytes of the user half; false after a fault.
#[inline(always)]
pub fn store_u64(at: VirtAddr, value: u64) -> bool {
    let _access = UserAccess::begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let failed = unsafe { store_user_u64(at.as_mut_ptr(), value) };
    failed == 0
}

/// Sets an aligned word of the user half to `new` if it is `old`; returns what it was, or none after a fault.
pub fn compare_exchange(at: VirtAddr, old: u32, new: u32) -> Option<u32> {
    let _access = UserAccess::begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let result = unsafe { compare_exchange_user(at.as_mut_ptr(), old, new) };
    (result >> 32 == 0).then_some(result as u32)
}

/// Copies `length` bytes; returns how many were not copied.
///
/// Short copies go by words, and then by what the bits of the length say; RDX counts up to 0 and indexes both ends. After a
/// fault the rest is tried again byte by byte, up to the one that cannot be reached.
#[unsafe(naked)]
unsafe extern "C" fn copy_user(to: *mut u8, from: *const u8, length: usize) -> usize {
    naked_asm!(
        "mov ecx, edx",
        "cmp rdx, 64",
        "jae 3f",
        "add rsi, rdx",
        "add rdi, rdx",
        "neg rdx",
        "shr ecx, 3",
        "jz 2f",
        "5:",
        ".globl user_copy_word",
        "user_copy_word:",
        "mov rax, [rsi + rdx]",
        ".globl user_copy_word_store",
        "user_copy_word_store:",
        "mov [rdi + rdx], rax",
        "add rdx, 8",
        "dec ecx",
        "jnz 5b",
        "2:",
        "test dl, 1",
        "jz 6f",
        ".globl user_copy_1",
        "user_copy_1:",
        "mov al, [rsi + rdx]",
        ".globl user_copy_1_store",
        "user_copy_1_store:",
        "mov [rdi + rdx], al",
        "inc rdx",
        "6:",
        "test dl, 2",
        "jz 7f",
        ".globl user_copy_2",
        "user_copy_2:",
        "mov ax, [rsi + rdx]",
        ".globl user_copy_2_store",
        "user_copy_2_store:",
        "mov [rdi + rdx], ax",
        "add rdx, 2",
        "7:",
        "test dl, 4",
        "jz 8f",
        ".globl user_copy_4",
        "user_copy_4:",
        "mov eax, [rsi + rdx]",
        ".globl user_copy_4_store",
        "user_copy_4_store:",
        "mov [rdi + rdx], eax",
        "8:",
        "xor eax, eax",
        "ret",
        "3:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "and edx, 7",
        ".globl user_copy_block",
        "user_copy_block:",
        "rep movsq",
        "add rsi, rdx",
        "add rdi, rdx",
        "neg rdx",
        "jmp 2b",
        // A fault in the block: RCX words and RDX bytes are left.
        ".globl user_copy_block_fixup",
        "user_copy_block_fixup:",
        "lea rdx, [rdx + rcx * 8]",
        "add rsi, rdx",
        "add rdi, rdx",
        "neg rdx",
        ".globl user_copy_fixup",
        "user_copy_fixup:",
        ".globl user_copy_byte",
        "user_copy_byte:",
        "mov al, [rsi + rdx]",
        ".globl user_copy_byte_store",
        "user_copy_byte_store:",
        "mov [rdi + rdx], al",
        "inc rdx",
        "jnz user_copy_byte",
        ".globl user_copy_byte_fixup",
        "user_copy_byte_fixup:",
        "mov rax, rdx",
        "neg rax",
        "ret",
    )
}

/// What [`load_user`] returns.
#[repr(C)]
struct Loaded {
    failed: u64,
    value: u64,
}

#[unsafe(naked)]
unsafe extern "C" fn load_user(at: *const u64) -> Loaded {
    naked_asm!(".globl user_load", "user_load:", "mov rdx, [rdi]", "xor eax, eax", "ret",)
}

/// Returns 0, or something else after a fault; so do the other two.
#[unsafe(naked)]
unsafe extern "C" fn store_user_u16(at: *mut u16, value: u16) -> u64 {
    naked_asm!(
        ".globl user_store_2",
        "user_store_2:",
        "mov [rdi], si",
        "xor eax, eax",
        "ret",
        ".globl user_access_fixup",
        "user_access_fixup:",
        "mov rax, -1",
        "ret",
    )
}

#[unsafe(naked)]
unsafe extern "C" fn store_user_u32(at: *mut u32, value: u32) -> u64 {
    naked_asm!(".globl user_store_4", "user_store_4:", "mov [rdi], esi", "xor eax, eax", "ret",)
}

#[unsafe(naked)]
unsafe extern "C" fn store_user_u64(at: *mut u64, value: u64) -> u64 {
    naked_asm!(".globl user_store_8", "user_store_8:", "mov [rdi], rsi", "xor eax, eax", "ret",)
}

/// Returns the word, or a value with bit 32 set after a fault.
#[unsafe(naked)]
unsafe extern "C" fn load_user_word(at: *const u32) -> u64 {
    naked_asm!(".globl user_load_word", "user_load_word:", "mov eax, [rdi]", "ret",)
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
    )
}

unsafe extern "C" {
    safe static user_copy_word: u8;
    safe static user_copy_word_store: u8;
    safe static user_copy_1: u8;
    safe static user_copy_1_store: u8;
    safe static user_copy_2: u8;
    safe static user_copy_2_store: u8;
    safe static user_copy_4: u8;
    safe static user_copy_4_store: u8;
    safe static user_copy_byte: u8;
    safe static user_copy_byte_store: u8;
    safe static user_copy_block: u8;
    safe static user_copy_block_fixup: u8;
    safe static user_copy_fixup: u8;
    safe static user_copy_byte_fixup: u8;
    safe static user_load: u8;
    safe static user_load_word: u8;
    safe static user_store_2: u8;
    safe static user_store_4: u8;
    safe static user_store_8: u8;
    safe static user_compare_exchange: u8;
    safe static user_access_fixup: u8;
}

fn address(symbol: &u8) -> VirtAddr {
    VirtAddr(&raw const *symbol as u64)
}

/// Where to go on after a fault at `rip` that cannot be resolved; none if `rip` is no instruction that touches user
/// memory on the kernel's behalf.
pub fn fixup(rip: VirtAddr) -> Option<VirtAddr> {
    let table = [
        (&user_copy_block, &user_copy_block_fixup),
        (&user_copy_word, &user_copy_fixup),
        (&user_copy_word_store, &user_copy_fixup),
        (&user_copy_1, &user_copy_fixup),
        (&user_copy_1_store, &user_copy_fixup),
        (&user_copy_2, &user_copy_fixup),
        (&user_copy_2_store, &user_copy_fixup),
        (&user_copy_4, &user_copy_fixup),
        (&user_copy_4_store, &user_copy_fixup),
        (&user_copy_byte, &user_copy_byte_fixup),
        (&user_copy_byte_store, &user_copy_byte_fixup),
        (&user_load, &user_access_fixup),
        (&user_load_word, &user_access_fixup),
        (&user_store_2, &user_access_fixup),
        (&user_store_4, &user_access_fixup),
        (&user_store_8, &user_access_fixup),
        (&user_compare_exchange, &user_access_fixup),
    ];
    table.into_iter().find(|(at, _)| address(at) == rip).map(|(_, fixup)| address(fixup))
}
