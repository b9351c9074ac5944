//! The first instructions: in kernel mode, on the host's boot map, with nothing but an address in RSI.

use core::arch::global_asm;

global_asm!(
    ".pushsection .text.boot, \"ax\", @progbits",
    ".globl image_entry",
    "image_entry:",
    "lea rsp, [rip + boot_stack_top]",
    "mov rdi, rsi",
    "xor ebp, ebp",
    "call lguest_boot_entry",
    "ud2",
    ".popsection",
);
