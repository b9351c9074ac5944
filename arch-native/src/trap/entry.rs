//! Entry from and return to whatever was interrupted.
//!
//! Every way in builds a [`TrapFrame`] on the kernel stack. Interrupts and exceptions other than NMI, #DF and #MC tell by
//! the interrupted code selector whether GS must be swapped; those three may strike between the mode change and the
//! swap, so they run on stacks of their own and set GS by its register.

use core::arch::naked_asm;
use core::mem::offset_of;

use arch_x86::{pop_registers, push_after_rdi};
use platform::{CpuLocal, Kernel, TrapFrame};

use super::handlers;
use crate::cpu::local::{Word, offset};
use crate::machine::Machine;
use crate::sensitive::sensitive;

/// The vector of the first interrupt stub.
pub const FIRST_INTERRUPT: usize = 32;
/// Bytes from one interrupt stub to the next.
pub const STUB_BYTES: u64 = 16;

/// Goes back to what a frame at RSP describes.
#[unsafe(naked)]
unsafe extern "C" fn return_from_trap<M: Machine>() {
    naked_asm!(
        "cmp byte ptr [rsp + {cs}], {user_code}",
        "jne 3f",
        pop_registers!(),
        "add rsp, 8",
        sensitive!("swapgs"),
        sensitive!("iretq to user"),
        "3:",
        pop_registers!(),
        "add rsp, 8",
        sensitive!("iretq"),
        cs = const offset_of!(TrapFrame, cs),
        user_code = const TrapFrame::USER_CODE,
        recorded = const M::RECORDED as u32,
    )
}

/// The target of the `syscall` instruction.
///
/// The way back is `sysretq` if the frame still is what that leaves behind (RCX is RIP, R11 is RFLAGS), the address is
/// canonical (some processors fault in kernel mode otherwise) and neither TF nor RF is set; else `iretq`.
#[unsafe(naked)]
pub unsafe extern "C" fn system_call_entry<K: Kernel, M: Machine>() {
    naked_asm!(
        sensitive!("swapgs on entry"),
        "mov gs:[{user_stack}], rsp",
        "mov rsp, gs:[{system_call_stack}]",
        "push {user_data}",
        "push qword ptr gs:[{user_stack}]",
        "push r11",
        "push {user_code}",
        "push rcx",
        "push rax",
        "push rdi",
        push_after_rdi!(),
        "mov rdi, rsp",
        "call {handler}",
        pop_registers!(),
        "cmp rcx, [rsp + 8]",
        "jne 2f",
        "cmp r11, [rsp + 24]",
        "jne 2f",
        "cmp dword ptr [rsp + 12], 0x7fff",
        "ja 2f",
        "test r11d, 0x10100",
        "jnz 2f",
        // On this stack, not on user mode's.
        sensitive!("swapgs"),
        "mov rsp, [rsp + 32]",
        sensitive!("sysretq"),
        "2:",
        "add rsp, 8",
        sensitive!("swapgs"),
        sensitive!("iretq to user"),
        user_stack = const offset(Word::UserStack),
        system_call_stack = const offset(Word::SystemCallStack),
        user_data = const TrapFrame::USER_DATA,
        user_code = const TrapFrame::USER_CODE,
        handler = sym handlers::system_call::<K>,
        recorded = const M::RECORDED as u32,
    )
}

/// Stubs of [`STUB_BYTES`] each for the vectors from [`FIRST_INTERRUPT`] on: each pushes its vector's complement, so that
/// `orig_rax` is negative.
#[unsafe(naked)]
pub unsafe extern "C" fn interrupt_stubs<K: Kernel, M: Machine>() {
    naked_asm!(
        ".set native_stub_vector, 32",
        ".rept 224",
        ".balign 16",
        "push -1 - native_stub_vector",
        "jmp {common}",
        ".set native_stub_vector, native_stub_vector + 1",
        ".endr",
        common = sym interrupt_entry::<K, M>,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn interrupt_entry<K: Kernel, M: Machine>() {
    naked_asm!(
        "push rdi",
        push_after_rdi!(),
        "cmp byte ptr [rsp + {cs}], {user_code}",
        "jne 2f",
        sensitive!("swapgs"),
        "2:",
        "cld",
        sensitive!("clac"),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {handler}",
        "add rsp, 8",
        "jmp {return_from_trap}",
        cs = const offset_of!(TrapFrame, cs),
        user_code = const TrapFrame::USER_CODE,
        return_from_trap = sym return_from_trap::<M>,
        handler = sym handlers::interrupt::<K, M>,
        recorded = const M::RECORDED as u32,
    )
}

/// A page fault: the one exception that is frequent has a way of its own.
#[unsafe(naked)]
pub unsafe extern "C" fn page_fault_entry<K: Kernel, M: Machine>() {
    naked_asm!(
        "push rdi",
        push_after_rdi!(),
        "cmp byte ptr [rsp + {cs}], {user_code}",
        "jne 2f",
        sensitive!("swapgs"),
        "2:",
        "cld",
        sensitive!("clac"),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {handler}",
        "add rsp, 8",
        "jmp {return_from_trap}",
        cs = const offset_of!(TrapFrame, cs),
        user_code = const TrapFrame::USER_CODE,
        return_from_trap = sym return_from_trap::<M>,
        handler = sym handlers::page_fault::<K, M>,
        recorded = const M::RECORDED as u32,
    )
}

/// An exception for which the processor pushes no error code.
#[unsafe(naked)]
pub unsafe extern "C" fn exception_stub<K: Kernel, M: Machine, const VECTOR: u8>() {
    naked_asm!(
        "push 0",
        "push rdi",
        "mov edi, {vector}",
        "jmp {common}",
        vector = const VECTOR,
        common = sym exception_entry::<K, M>,
    )
}

/// An exception for which the processor pushes an error code.
#[unsafe(naked)]
pub unsafe extern "C" fn exception_with_code_stub<K: Kernel, M: Machine, const VECTOR: u8>() {
    naked_asm!(
        "push rdi",
        "mov edi, {vector}",
        "jmp {common}",
        vector = const VECTOR,
        common = sym exception_entry::<K, M>,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn exception_entry<K: Kernel, M: Machine>() {
    naked_asm!(
        push_after_rdi!(),
        "cmp byte ptr [rsp + {cs}], {user_code}",
        "jne 2f",
        sensitive!("swapgs"),
        "2:",
        "cld",
        sensitive!("clac"),
        "mov esi, edi",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {handler}",
        "add rsp, 8",
        "jmp {return_from_trap}",
        cs = const offset_of!(TrapFrame, cs),
        user_code = const TrapFrame::USER_CODE,
        return_from_trap = sym return_from_trap::<M>,
        handler = sym handlers::exception::<K, M>,
        recorded = const M::RECORDED as u32,
    )
}

/// NMI and #MC.
#[unsafe(naked)]
pub unsafe extern "C" fn stacked_exception_stub<K: Kernel, M: Machine, const VECTOR: u8>() {
    naked_asm!(
        "push 0",
        "push rdi",
        "mov edi, {vector}",
        "jmp {common}",
        vector = const VECTOR,
        common = sym stacked_exception_entry::<K, M>,
    )
}

/// #DF.
#[unsafe(naked)]
pub unsafe extern "C" fn stacked_exception_with_code_stub<K: Kernel, M: Machine, const VECTOR: u8>() {
    naked_asm!(
        "push rdi",
        "mov edi, {vector}",
        "jmp {common}",
        vector = const VECTOR,
        common = sym stacked_exception_entry::<K, M>,
    )
}

/// On a stack of its own, above whose frame lies the address of this CPU's private data.
#[unsafe(naked)]
unsafe extern "C" fn stacked_exception_entry<K: Kernel, M: Machine>() {
    naked_asm!(
        push_after_rdi!(),
        "cld",
        sensitive!("clac"),
        "mov ecx, 0xc0000101", // IA32_GS_BASE
        sensitive!("rdmsr"),
        "shl rdx, 32",
        "lea rbx, [rdx + rax]",
        "mov rax, [rsp + {frame_bytes}]",
        "mov rdx, rax",
        "shr rdx, 32",
        sensitive!("wrmsr"),
        "mov esi, edi",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {handler}",
        "add rsp, 8",
        "mov ecx, 0xc0000101",
        "mov rax, rbx",
        "mov rdx, rbx",
        "shr rdx, 32",
        sensitive!("wrmsr"),
        pop_registers!(),
        "add rsp, 8",
        sensitive!("iretq"),
        frame_bytes = const size_of::<TrapFrame>(),
        handler = sym handlers::exception::<K, M>,
        recorded = const M::RECORDED as u32,
    )
}

/// [`platform::Cpu::enter_user`]: the frame may lie anywhere, also on the stack that is abandoned. Of the words pushed
/// there only those that were read already are overwritten, for a frame ends at the stack's top at the highest.
#[unsafe(naked)]
pub unsafe extern "C" fn enter_user<M: Machine>(frame: *const TrapFrame) -> ! {
    naked_asm!(
        "mov rax, [rdi + {rip}]",
        "mov rcx, [rdi + {rflags}]",
        "mov rdx, [rdi + {rsp}]",
        "mov rsp, gs:[{system_call_stack}]",
        "push {user_data}",
        "push rdx",
        "push rcx",
        "push {user_code}",
        "push rax",
        "mov r15, [rdi]",
        "mov r14, [rdi + 0x08]",
        "mov r13, [rdi + 0x10]",
        "mov r12, [rdi + 0x18]",
        "mov rbp, [rdi + 0x20]",
        "mov rbx, [rdi + 0x28]",
        "mov r11, [rdi + 0x30]",
        "mov r10, [rdi + 0x38]",
        "mov r9, [rdi + 0x40]",
        "mov r8, [rdi + 0x48]",
        "mov rax, [rdi + 0x50]",
        "mov rcx, [rdi + 0x58]",
        "mov rdx, [rdi + 0x60]",
        "mov rsi, [rdi + 0x68]",
        "mov rdi, [rdi + 0x70]",
        sensitive!("swapgs"),
        sensitive!("iretq to user"),
        rip = const offset_of!(TrapFrame, rip),
        rflags = const offset_of!(TrapFrame, rflags),
        rsp = const offset_of!(TrapFrame, rsp),
        system_call_stack = const offset(Word::SystemCallStack),
        user_data = const TrapFrame::USER_DATA,
        user_code = const TrapFrame::USER_CODE,
        recorded = const M::RECORDED as u32,
    )
}

/// Whether `rip` is where a return to user mode faults, if the frame is not one user mode can have.
#[cfg(target_os = "none")]
pub fn is_user_return(rip: u64) -> bool {
    unsafe extern "C" {
        static user_returns_start: [u64; 0];
        static user_returns_end: [u64; 0];
    }
    let start = (&raw const user_returns_start).cast::<u64>();
    let bytes = &raw const user_returns_end as usize - start as usize;
    // SAFETY: the linker script puts these symbols around whole addresses.
    unsafe { core::slice::from_raw_parts(start, bytes / 8) }.contains(&rip)
}

/// On the build machine nothing of this runs.
#[cfg(not(target_os = "none"))]
pub fn is_user_return(_: u64) -> bool {
    false
}

const _: () = {
    assert!(offset_of!(TrapFrame, rdi) == 0x70 && offset_of!(TrapFrame, orig_rax) == 0x78);
    assert!(size_of::<TrapFrame>() == 168 && offset_of!(TrapFrame, rip) == 0x80);
    assert!(offset_of!(CpuLocal, kernel_stack) == 8);
};
