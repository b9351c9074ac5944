//! The first instructions of an image that is loaded by PVH (Xen's `docs/misc/pvh.pandoc`): 32-bit protected mode without
//! paging, EBX at `hvm_start_info`, no stack, no descriptor tables of one's own.
//!
//! The pieces, in the order in which an image puts them together:
//! [`pvh_note!`](crate::pvh_note), [`pvh_tables!`](crate::pvh_tables), [`pvh_check!`](crate::pvh_check),
//! [`pvh_map_4_gib!`](crate::pvh_map_4_gib), [`pvh_long_mode!`](crate::pvh_long_mode),
//! [`pvh_refuse!`](crate::pvh_refuse), [`pvh_descriptors!`](crate::pvh_descriptors). They name what they define `boot_…`.

/// The note that names `pvh_start` as the entry.
#[macro_export]
macro_rules! pvh_note {
    () => {
        r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4                         // "Xen\0"
    .long 8                         // an address
    .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start
"#
    };
}

/// Room for the first page tables: the top level, a table for the first 512 GiB, one more, and 4 GiB.
#[macro_export]
macro_rules! pvh_tables {
    () => {
        r#"
    .section .boot.tables, "aw", @nobits
    .balign 4096
    .globl boot_pml4, boot_low, boot_high, boot_pd
boot_pml4:  .skip 4096
boot_low:   .skip 4096
boot_high:  .skip 4096
boot_pd:    .skip 4096 * 4
"#
    };
}

/// 32-bit code: goes to [`pvh_refuse!`](crate::pvh_refuse) if the CPU lacks one of the features with these bits of CPUID
/// leaf 0x80000001's EDX, which long mode must be among, or if the end of the image is not in memory: a loader may have put
/// it where there is none. Changes EAX to EDX.
#[macro_export]
macro_rules! pvh_check {
    ($($bit:literal),+) => {
        concat!(
            r#"
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb boot_no_long_mode
    mov eax, 0x80000001
    cpuid
"#,
            $("    bt edx, ", $bit, "\n    jnc boot_no_long_mode\n",)+
            r#"
    mov dword ptr [image_end - 4], 0x5aa5c33c
    cmp dword ptr [image_end - 4], 0x5aa5c33c
    jne boot_no_memory
"#
        )
    };
}

/// 32-bit code: lets `boot_low` show the first 4 GiB in pages of 2 MiB at their own address, and `boot_pml4` begin with it.
/// Changes EAX and ECX.
#[macro_export]
macro_rules! pvh_map_4_gib {
    () => {
        r#"
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 21
    or eax, 0x83                    // present, writable, large
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
    mov dword ptr [boot_pml4], offset boot_low + 3
"#
    };
}

/// 32-bit code that goes on in 64-bit mode, on the tables at `boot_pml4`, with these bits in EFER (LME among them) and
/// CR0 (PG and PE among them). Changes EAX, ECX and EDX.
#[macro_export]
macro_rules! pvh_long_mode {
    ($efer:literal, $cr0:literal) => {
        concat!(
            r#"
    mov eax, cr4
    or eax, 0x20                    // PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or eax, "#,
            $efer,
            r#"
    wrmsr
    mov eax, cr0
    or eax, "#,
            $cr0,
            r#"
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
"#
        )
    };
}

/// 32-bit code for an image that cannot run: says why on COM1 and on QEMU's debug console, and ends the machine with
/// status 102. `$long_mode` and `$memory` are what is missing.
#[macro_export]
macro_rules! pvh_refuse {
    ($long_mode:literal, $memory:literal) => {
        concat!(
            r#"
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
boot_no_long_mode_text:
    .asciz "unusable "#,
            $long_mode,
            r#"\n"
boot_no_memory_text:
    .asciz "unusable "#,
            $memory,
            r#"\n"
"#
        )
    };
}

/// Offset of the last byte of the table that [`pvh_descriptors!`](crate::pvh_descriptors) makes.
pub const DESCRIPTORS_LIMIT: u16 = 4 * 8 - 1;

/// The first descriptor table: code of 32 bits at 0x08, of 64 bits at 0x10, data at 0x18.
#[macro_export]
macro_rules! pvh_descriptors {
    () => {
        r#"
    .section .boot.data, "aw", @progbits
    .balign 8
    .globl boot_gdt, boot_gdt_pointer
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
boot_gdt_pointer:
    .word 4 * 8 - 1
    .long boot_gdt
    .long 0                         // the base has 64 bits when it is loaded in 64-bit mode
"#
    };
}
