//! The first instructions: PVH entry in 32-bit mode (Xen's `docs/misc/pvh.pandoc`), up to 64-bit mode in the upper half.
//! Other CPUs of a bare machine join on the way ([`super::secondary`]).
//!
//! The first page tables show physical memory below 4 GiB at its own address and in the direct map
//! ([`crate::layout::DIRECT_MAP`]), and its first GiB at [`crate::layout::IMAGE_BASE`]. They stay for the CPUs that start
//! later.

use core::arch::global_asm;

/// Offset of the last byte of the first descriptor table: four descriptors.
pub(super) const GDT_LIMIT: u16 = 4 * 8 - 1;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4                         // "Xen\0"
    .long 8                         // an address
    .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .boot.tables, "aw", @nobits
    .balign 4096
boot_pml4:  .skip 4096
boot_low:   .skip 4096
boot_high:  .skip 4096
boot_pd:    .skip 4096 * 4

    .section .boot.text, "ax", @progbits
    .code32
    .globl image_entry
image_entry:                        // what the ELF header names
pvh_start:
    // EBX: hvm_start_info. No stack, no descriptor tables of ours.
    cli
    cld
    rdtsc
    mov esi, eax
    mov edi, edx
    mov ebp, ebx

    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb boot_no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc boot_no_long_mode

    // The loader may have put the image where there is no memory to keep it.
    mov dword ptr [image_end - 4], 0x5aa5c33c
    cmp dword ptr [image_end - 4], 0x5aa5c33c
    jne boot_no_memory

    // 4 GiB in pages of 2 MiB: present, writable, large.
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 21
    or eax, 0x83
    mov [boot_pd + ecx * 8], eax
    inc ecx
    cmp ecx, 2048
    jb 2b
    mov eax, offset boot_pd + 3
    xor ecx, ecx
2:  mov [boot_low + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jb 2b
    mov dword ptr [boot_high + 510 * 8], offset boot_pd + 3
    mov dword ptr [boot_pml4], offset boot_low + 3
    mov dword ptr [boot_pml4 + 511 * 8], offset boot_high + 3
    mov dword ptr [boot_pml4 + 256 * 8], offset boot_low + 3

    // Less IMAGE_BASE; the sum wraps.
    mov ebx, offset boot_first64 + 0x80000000

    .globl boot_enter_long_mode, boot_high, boot_gdt, boot_gdt_pointer
boot_enter_long_mode:
    // EBX: where to go on, less IMAGE_BASE. ESI, EDI, EBP are kept.
    mov eax, cr4
    or eax, 0x20                    // PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or eax, 0x100                   // LME
    wrmsr
    mov eax, cr0
    or eax, 0x80000001              // PG, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea                      // far jump
    .long 3f
    .word 0x10
    .code64
3:  mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rax, 0xffffffff80000000     // IMAGE_BASE
    add rbx, rax
    jmp rbx

    .code32
boot_no_memory:
    mov ebx, offset boot_no_memory_text
    jmp boot_unusable
boot_no_long_mode:
    mov ebx, offset boot_no_long_mode_text
boot_unusable:
2:  mov al, [ebx]
    test al, al
    jz 3f
    mov edx, 0x3f8
    out dx, al
    out 0xe9, al
    inc ebx
    jmp 2b
3:  mov eax, 102
    out 0xf4, eax
4:  hlt
    jmp 4b
    .code64

    .section .boot.data, "aw", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        // 0x08: 32-bit code
    .quad 0x00af9b000000ffff        // 0x10: 64-bit code
    .quad 0x00cf93000000ffff        // 0x18: data
boot_gdt_pointer:
    .word {gdt_limit}
    .long boot_gdt
    .long 0                         // the base has 64 bits when it is loaded in 64-bit mode
boot_no_long_mode_text:
    .asciz "unusable the CPU has no 64-bit mode\n"
boot_no_memory_text:
    .asciz "unusable too little memory for the kernel image\n"

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
"#,
    gdt_limit = const GDT_LIMIT,
);
