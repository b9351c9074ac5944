//! The first instructions: PVH entry in 32-bit mode (Xen's `docs/misc/pvh.pandoc`), up to 64-bit mode in the upper half;
//! other CPUs join on the way.
//!
//! The first page tables show physical memory below 4 GiB twice: at its own address, and, its first GiB, at
//! [`crate::layout::IMAGE_BASE`]. They stay for the CPUs that start later.

use core::arch::global_asm;

/// What a starting CPU loads, in the order the code below reads it; filled by [`crate::smp`].
#[repr(C)]
pub(crate) struct StartRegisters {
    pub cr3: u64,
    pub cr4: u64,
    pub cr0: u64,
    pub efer: u64,
    pub stack: u64,
    pub entry: u64,
}

unsafe extern "C" {
    /// Real-mode code for a page below 1 MiB, up to [`secondary_trampoline_end`].
    pub(crate) static secondary_trampoline: u8;
    pub(crate) static secondary_trampoline_end: u8;
    pub(crate) static mut secondary_registers: StartRegisters;
}

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

    // Less IMAGE_BASE; the sum wraps.
    mov ebx, offset boot_first64 + 0x80000000

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

    // A CPU that was sent here by the trampoline, in flat 32-bit mode.
secondary_start32:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov ebx, offset secondary_start64 + 0x80000000
    jmp boot_enter_long_mode

    .section .boot.data, "aw", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        // 0x08: 32-bit code
    .quad 0x00af9b000000ffff        // 0x10: 64-bit code
    .quad 0x00cf93000000ffff        // 0x18: data
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt
    .long 0                         // the base has 64 bits when it is loaded in 64-bit mode
boot_no_long_mode_text:
    .asciz "unusable the CPU has no 64-bit mode\n"
boot_no_memory_text:
    .asciz "unusable too little memory for the kernel image\n"

    .section .rodata.trampoline, "a", @progbits
    .code16
    .globl secondary_trampoline
    .globl secondary_trampoline_end
secondary_trampoline:
    // CS: this page, at offset 0.
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16    // lgdt with a 32-bit base
    .word secondary_gdt_pointer - secondary_trampoline
    mov eax, cr0
    or eax, 1                       // PE
    mov cr0, eax
    .byte 0x66, 0xea                // far jump with a 32-bit offset
    .long secondary_start32
    .word 0x08
    .balign 4
secondary_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt
secondary_trampoline_end:
    .code64

    .section .data.secondary, "aw", @progbits
    .balign 8
    .globl secondary_registers
secondary_registers:
    .skip 48

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

secondary_start64:
    lea rbx, [rip + secondary_registers]
    mov eax, [rbx + 24]
    mov edx, [rbx + 28]
    mov ecx, 0xc0000080             // EFER, for NXE, before tables that use it
    wrmsr
    mov rax, [rbx + 16]
    mov cr0, rax
    mov rax, [rbx]
    mov cr3, rax
    mov rax, [rbx + 8]
    mov cr4, rax
    mov rsp, [rbx + 32]
    xor ebp, ebp
    call [rbx + 40]
    ud2
"#
);
