//! The instructions that touch user memory.

use core::arch::naked_asm;

use platform::VirtAddr;

use crate::hook::cpu;

/// Copies from user memory; returns how many bytes were left when a fault ended it.
///
/// # Safety
/// `to` is writable for `length` bytes. `from` lies in the user half for that length.
#[inline]
pub unsafe fn copy_in(to: *mut u8, from: VirtAddr, length: usize) -> usize {
    cpu::user_access_begin();
    // SAFETY: one side is the caller's, the other lies in the user half, where a fault ends the copy.
    let left = unsafe { copy_user(to, from.as_ptr(), length) };
    cpu::user_access_end();
    left
}

/// Copies to user memory, which lies in the user half for that length; returns how many bytes were left when a fault
/// ended it.
#[inline]
pub fn copy_out(to: VirtAddr, from: &[u8]) -> usize {
    cpu::user_access_begin();
    // SAFETY: one side is kernel memory of that length, the other lies in the user half, where a fault ends the copy.
    let left = unsafe { copy_user(to.as_mut_ptr(), from.as_ptr(), from.len()) };
    cpu::user_access_end();
    left
}

/// Reads an aligned word of the user half in one piece; none after a fault.
#[inline]
pub fn load_word(at: VirtAddr) -> Option<u32> {
    cpu::user_access_begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let result = unsafe { load_user_word(at.as_ptr()) };
    cpu::user_access_end();
    (result >> 32 == 0).then_some(result as u32)
}

/// Sets an aligned word of the user half to `new` if it is `old`; returns what it was, or none after a fault.
pub fn compare_exchange(at: VirtAddr, old: u32, new: u32) -> Option<u32> {
    cpu::user_access_begin();
    // SAFETY: the address lies in the user half; a fault there ends the routine with an error.
    let result = unsafe { compare_exchange_user(at.as_mut_ptr(), old, new) };
    cpu::user_access_end();
    (result >> 32 == 0).then_some(result as u32)
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

/// Returns the word, or a value with bit 32 set after a fault.
#[unsafe(naked)]
unsafe extern "C" fn load_user_word(at: *const u32) -> u64 {
    naked_asm!(
        ".globl user_load_word",
        "user_load_word:",
        "mov eax, [rdi]",
        "ret",
        ".globl user_load_word_fixup",
        "user_load_word_fixup:",
        "mov rax, -1",
        "ret",
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
    safe static user_load_word: u8;
    safe static user_load_word_fixup: u8;
    safe static user_compare_exchange: u8;
    safe static user_compare_exchange_fixup: u8;
}

fn address(symbol: &u8) -> VirtAddr {
    VirtAddr(&raw const *symbol as u64)
}

/// Where to go on after a fault at `rip` that cannot be resolved; none if `rip` is no instruction that touches user
/// memory on the kernel's behalf.
pub fn fixup(rip: VirtAddr) -> Option<VirtAddr> {
    let table = [
        (&user_copy_block, &user_copy_block_fixup),
        (&user_copy_words, &user_copy_words_fixup),
        (&user_copy_words_store, &user_copy_words_fixup),
        (&user_copy_tail, &user_copy_tail_fixup),
        (&user_copy_tail_store, &user_copy_tail_fixup),
        (&user_load_word, &user_load_word_fixup),
        (&user_compare_exchange, &user_compare_exchange_fixup),
    ];
    table.into_iter().find(|(at, _)| address(at) == rip).map(|(_, fixup)| address(fixup))
}
