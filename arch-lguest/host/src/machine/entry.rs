//! The first instructions: PVH entry in 32-bit mode (Xen's `docs/misc/pvh.pandoc`), up to 64-bit mode in the host's own
//! top-level entry.
//!
//! The first page tables show physical memory below 4 GiB at its own address and in the direct map, and its first GiB at
//! the image's address. [`super::paging`] replaces them.

use core::arch::global_asm;

use arch_x86::{pvh_check, pvh_descriptors, pvh_long_mode, pvh_map_4_gib, pvh_note, pvh_refuse, pvh_tables};

global_asm!(
    pvh_note!(),
    pvh_tables!(),
    r#"
    .section .boot.text, "ax", @progbits
    .code32
    .globl pvh_start
pvh_start:
    cli
    cld
    mov ebp, ebx                    // hvm_start_info
"#,
    pvh_check!(29, 20), // long mode, NX
    pvh_map_4_gib!(),
    r#"
    // The host's top-level entry: the same 4 GiB at its start, and the image 256 GiB on.
    mov dword ptr [boot_low + 256 * 8], offset boot_pd + 3
    mov dword ptr [boot_pml4 + 448 * 8], offset boot_low + 3
"#,
    pvh_long_mode!("0x901", "0x80010001"), // NXE, LME, SCE; PG, WP, PE
    r#"
    movabs rax, offset host_first64
    jmp rax
"#,
    pvh_refuse!(
        "the CPU has no 64-bit mode or cannot forbid execution of pages",
        "too little memory for the hypervisor"
    ),
    pvh_descriptors!(),
    r#"
    .section .text.boot, "ax", @progbits
    .code64
host_first64:
    lea rsp, [rip + stack_top]
    mov edi, ebp                    // hvm_start_info
    xor ebp, ebp
    call lguest_host_start
    ud2
"#
);

/// Called by the first instructions, on the first page tables.
// SAFETY: the name is this program's own.
#[unsafe(no_mangle)]
extern "C" fn lguest_host_start(start_info: u64) -> ! {
    super::run::main(start_info)
}
