//! The first instructions of another CPU of a bare machine: from real mode to 64-bit mode, on the page tables of the boot
//! ([`super::entry`]) first.

use core::arch::global_asm;

use platform::PhysAddr;

use crate::layout::direct;
use crate::machine::SecondaryState;

/// What the code below loads, in the order it reads it.
#[repr(C)]
struct Registers {
    cr3: u64,
    cr4: u64,
    cr0: u64,
    efer: u64,
    stack: u64,
    entry: u64,
    /// What CPUID leaf 1 tells of the identity of the CPU that all this is for.
    initial_apic_id: u8,
}

unsafe extern "C" {
    /// Real-mode code for a page below 1 MiB, up to [`secondary_trampoline_end`].
    static secondary_trampoline: u8;
    static secondary_trampoline_end: u8;
    static mut secondary_registers: Registers;
}

/// Puts code into `page` that makes the CPU whose APIC has the identity `apic` load what `start` says. Another stops: one
/// that was given up may still come, and nothing of this is for it.
///
/// # Safety
/// No CPU is being started, and the page is kept for this.
pub unsafe fn place(page: PhysAddr, apic: u32, start: &SecondaryState) {
    // SAFETY: no CPU is being started, so none loads the registers; the code is always the same.
    unsafe {
        (&raw mut secondary_registers).write(Registers {
            cr3: start.cr3,
            cr4: start.cr4,
            cr0: start.cr0,
            efer: start.efer,
            stack: start.stack.0,
            entry: start.entry.0,
            initial_apic_id: apic as u8,
        });
        let code = &raw const secondary_trampoline;
        let bytes = &raw const secondary_trampoline_end as usize - code as usize;
        direct(page).as_mut_ptr::<u8>().copy_from_nonoverlapping(code, bytes);
    }
}

global_asm!(
    r#"
    .section .rodata.secondary_trampoline, "a", @progbits
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
    .word {gdt_limit}
    .long boot_gdt
secondary_trampoline_end:

    .section .boot.secondary, "ax", @progbits
    .code32
    // Sent here by the trampoline, in flat 32-bit mode.
secondary_start32:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov ebx, offset secondary_start64 + 0x80000000
    jmp boot_enter_long_mode
    .code64

    .section .data.secondary, "aw", @progbits
    .balign 8
    .globl secondary_registers
secondary_registers:
    .skip {registers_bytes}

    .section .text.secondary, "ax", @progbits
secondary_start64:
    mov eax, 1
    cpuid
    shr ebx, 24                     // the initial APIC ID
    mov eax, ebx
    lea rbx, [rip + secondary_registers]
    cmp al, [rbx + 48]
    je 2f
3:
    cli
    hlt
    jmp 3b
2:
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
"#,
    gdt_limit = const arch_x86::DESCRIPTORS_LIMIT,
    registers_bytes = const size_of::<Registers>(),
);
