//! From PVH's 32 bits to 64-bit mode in the upper half, on tables that also show the first 4 GiB at their own address.

use core::arch::global_asm;
use core::panic::PanicInfo;

use super::console::{end, say};
use super::{checks, memory, rules};

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4
    .long 8
    .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .boot.tables, "aw", @nobits
    .balign 4096
    .globl boot_pml4, boot_low, boot_high, boot_pd, boot_rom_pd, boot_rom_pt
boot_pml4:   .skip 4096
boot_low:    .skip 4096
boot_high:   .skip 4096
boot_pd:     .skip 4096 * 4
boot_rom_pd: .skip 4096
boot_rom_pt: .skip 4096

    .section .boot.text, "ax", @progbits
    .code32
    .globl pvh_start
pvh_start:
    cli
    cld
    mov ebp, ebx                    // hvm_start_info
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
    mov dword ptr [boot_high + 510 * 8], offset boot_pd + 3
    mov dword ptr [boot_high + 511 * 8], offset boot_rom_pd + 3
    mov dword ptr [boot_rom_pd], offset boot_rom_pt + 3
    mov dword ptr [boot_pml4], offset boot_low + 3
    mov dword ptr [boot_pml4 + 511 * 8], offset boot_high + 3
    mov eax, cr4
    or eax, 0x20                    // PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or eax, 0x900                   // LME, NXE
    wrmsr
    mov eax, cr0
    or eax, 0x80010001              // PG, WP, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    .byte 0xea                      // far jump
    .long 3f
    .word 0x10
    .code64
3:  mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov rax, offset first64
    jmp rax
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00af9b000000ffff        // 0x10: 64-bit code
    .quad 0x00cf93000000ffff        // 0x18: data
    .globl gdt_pointer
gdt_pointer:
    .word 31
    .long gdt
    .long 0

    .section .text.first, "ax", @progbits
first64:
    lea rsp, [rip + first_stack + 65536]
    mov edi, ebp
    xor ebp, ebp
    call rom_guest_main
    ud2

    .section .bss.stack, "aw", @nobits
    .balign 16
first_stack:
    .skip 65536
"#
);

// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
extern "C" fn rom_guest_main(start_info: u64) -> ! {
    let broken = memory::command_line(start_info);
    let rom = memory::Rom::find_and_map();
    match broken.and_then(|line| line.split("break=").nth(1)) {
        None => checks::run(&rom),
        Some(rule) => rules::run(&rom, rule.split(' ').next().unwrap_or_default()),
    }
    say!("rom-guest: all is well");
    end(0)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("rom-guest: panic: {info}");
    end(101)
}
