//! The first instructions: PVH entry in 32-bit mode (Xen's `docs/misc/pvh.pandoc`), up to 64-bit mode in the upper half.
//! Other CPUs of a bare machine join on the way ([`super::secondary`]).
//!
//! The first page tables show physical memory below 4 GiB at its own address and in the direct map
//! ([`crate::layout::DIRECT_MAP`]), and its first GiB at [`crate::layout::IMAGE_BASE`]. They stay for the CPUs that start
//! later.

use core::arch::global_asm;

use arch_x86::{pvh_check, pvh_descriptors, pvh_long_mode, pvh_map_4_gib, pvh_note, pvh_refuse, pvh_tables};

global_asm!(
    pvh_note!(),
    pvh_tables!(),
    r#"
    .section .boot.text, "ax", @progbits
    .code32
    .globl image_entry
image_entry:                        // what the ELF header names
pvh_start:
    cli
    cld
    rdtsc
    mov esi, eax
    mov edi, edx
    mov ebp, ebx                    // hvm_start_info
"#,
    pvh_check!(29), // long mode
    pvh_map_4_gib!(),
    r#"
    mov dword ptr [boot_high + 510 * 8], offset boot_pd + 3
    mov dword ptr [boot_pml4 + 511 * 8], offset boot_high + 3
    mov dword ptr [boot_pml4 + 256 * 8], offset boot_low + 3

    // Less IMAGE_BASE; the sum wraps.
    mov ebx, offset boot_first64 + 0x80000000

    .globl boot_enter_long_mode
boot_enter_long_mode:
    // EBX: where to go on, less IMAGE_BASE. ESI, EDI, EBP are kept.
"#,
    pvh_long_mode!("0x100", "0x80000001"), // LME; PG, PE
    r#"
    mov rax, 0xffffffff80000000     // IMAGE_BASE
    add rbx, rax
    jmp rbx
"#,
    pvh_refuse!("the CPU has no 64-bit mode", "too little memory for the kernel image"),
    pvh_descriptors!(),
    r#"
    .section .text.boot, "ax", @progbits
boot_first64:
    lea rsp, [rip + boot_stack_top]
    mov eax, esi
    shl rdi, 32
    lea rsi, [rdi + rax]            // time stamp counter at the first instruction
    mov edi, ebp                    // hvm_start_info
    xor ebp, ebp
    call native_boot_entry
    ud2
"#
);
