//! The first instruction, the entry points for events, and what user mode runs.

use core::arch::global_asm;

use lguest_abi::BootInfo;

use crate::words::word;

/// Bytes of one piece of user code.
pub const PIECE_BYTES: u64 = 32;
/// RDI at a system call that comes after an access which must fail.
pub const REACHED: u64 = 0xdead;

global_asm!(
    r#"
    .section .text.entry, "ax", @progbits
    .globl hostile_start, hostile_event, hostile_system_call
hostile_start:
    lea rsp, [rip + hostile_stack_top]
    mov rdi, rsi
    call {start}
    ud2

    // Whatever was interrupted is given up.
hostile_event:
    mov rdi, [rsp]
    lea rsp, [rip + hostile_stack_top]
    call {event}
    ud2

hostile_system_call:
    lea rsp, [rip + hostile_stack_top]
    call {system_call}
    ud2

    // User code: pieces of 32 bytes, each of which ends in an entry to the kernel.
    .section .rodata.user, "a", @progbits
    .globl hostile_user, hostile_user_end
    .balign 32
hostile_user:
    xor edi, edi
    syscall
    .balign 32
    int3
    .balign 32
    ud2
    .balign 32
    hlt
    .balign 32
    movabs rax, 0xffffe00000000000
    mov rax, [rax]
    mov edi, {reached}
    syscall
    .balign 32
    movabs rax, 0xffffe04000100000
    mov rax, [rax]
    mov edi, {reached}
    syscall
    .balign 32
    movabs rax, 0xffffffff80100000
    mov rax, [rax]
    mov edi, {reached}
    syscall
    .balign 32
    movabs rax, 0xffffe00000000000
    lock add qword ptr [rax], 0
    mov edi, {reached}
    syscall
    .balign 32
    wrgsbase rbx
    xor edi, edi
    syscall
    .balign 32
    wrfsbase rbx
    xor edi, edi
    syscall
    .balign 32
2:  jmp 2b
    .balign 32
    int 0x80
    .balign 32
    mov ds, ebx
    mov gs, ebx
    xor edi, edi
    syscall
    .balign 32
    xrstor64 [rbx]
    xor edi, edi
    syscall
    .balign 32
    mov eax, 60
    sysenter
    .balign 32
    cli
    .balign 32
    mov ss, ebx
    syscall
    .balign 32
    movabs rax, 0xffffe00000000000
    jmp rax
hostile_user_end:

    .section .bss.stack, "aw", @nobits
    .balign 4096
    .skip 16384
hostile_stack_top:
"#,
    start = sym start,
    event = sym crate::attack::event,
    system_call = sym crate::attack::system_call,
    reached = const REACHED,
);

unsafe extern "C" {
    static hostile_event: u8;
    static hostile_system_call: u8;
    static hostile_user: u8;
    static hostile_user_end: u8;
}

/// Where events go, and where system calls go.
pub fn entry_points() -> (u64, u64) {
    (&raw const hostile_event as u64, &raw const hostile_system_call as u64)
}

/// What user mode runs.
pub fn user_code() -> &'static [u8] {
    let start = &raw const hostile_user;
    let bytes = &raw const hostile_user_end as usize - start as usize;
    // SAFETY: both symbols lie in the image, in this order.
    unsafe { core::slice::from_raw_parts(start, bytes) }
}

extern "C" fn start(facts: u64) -> ! {
    // SAFETY: the host put the facts there, and the boot map shows them.
    let facts = unsafe { (facts as *const BootInfo).read() };
    let role = word(&facts, b"role").unwrap_or(b"attack");
    match role {
        b"spin" => crate::spin::spin(&facts),
        b"state" => crate::state::keep(&facts),
        b"report" => crate::breach::report_and_break(),
        // In these there are two parts, and who plays which is told by the number.
        _ if facts.guest != 0 && word(&facts, b"beside") != Some(b"other") => crate::watch::watch(&facts),
        b"breach" => crate::breach::break_rules(&facts),
        _ => crate::attack::live(&facts),
    }
}
