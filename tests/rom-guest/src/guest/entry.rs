//! From PVH's 32 bits to 64-bit mode in the upper half, on tables that also show the first 4 GiB at their own address.

use core::arch::global_asm;
use core::panic::PanicInfo;

use arch_x86::{pvh_descriptors, pvh_long_mode, pvh_map_4_gib, pvh_note, pvh_tables};

use super::console::{end, say};
use super::{checks, memory, rules};

global_asm!(
    pvh_note!(),
    pvh_tables!(),
    r#"
    .globl boot_rom_pd, boot_rom_pt
boot_rom_pd: .skip 4096
boot_rom_pt: .skip 4096

    .section .boot.text, "ax", @progbits
    .code32
    .globl pvh_start
pvh_start:
    cli
    cld
    mov ebp, ebx                    // hvm_start_info
"#,
    pvh_map_4_gib!(),
    r#"
    mov dword ptr [boot_high + 510 * 8], offset boot_pd + 3
    mov dword ptr [boot_high + 511 * 8], offset boot_rom_pd + 3
    mov dword ptr [boot_rom_pd], offset boot_rom_pt + 3
    mov dword ptr [boot_pml4 + 511 * 8], offset boot_high + 3
"#,
    pvh_long_mode!("0x900", "0x80010001"), // LME, NXE; PG, WP, PE
    r#"
    mov rax, offset first64
    jmp rax
"#,
    pvh_descriptors!(),
    r#"
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
