//! Entry from and return to whatever was interrupted.
//!
//! The host delivers an event with hardware's five words and one more for the event on the kernel stack, and the entry
//! point says which mode was interrupted; pushing the general registers makes a [`TrapFrame`] of it. GS is the kernel's
//! and interrupts are disabled in any case. Only the host can go to user mode; kernel mode is returned to by `iretq`.

use core::arch::naked_asm;
use core::mem::offset_of;

use arch_x86::{pop_registers, push_after_rdi};
use lguest_abi::{Hypercall, LguestData};
use platform::{Kernel, TrapFrame};

use super::handlers;
use crate::cpu::SYSTEM_CALL_STACK;
use crate::data::DATA;

/// Code and stack selectors of either mode as the processor has them (`ABI.md`).
const CODE: u64 = 0x33;
const DATA_SELECTOR: u64 = 0x2b;

#[cfg(target_os = "none")]
mod shared {
    //! The ways out.

    use core::arch::global_asm;
    use core::mem::offset_of;

    use arch_x86::pop_registers;
    use lguest_abi::{Hypercall, IRQ_ENABLED, LguestData};
    use platform::TrapFrame;

    use super::{CODE, DATA_SELECTOR};
    use crate::data::DATA;

    unsafe extern "C" {
        static lguest_noirq_start: u8;
        static lguest_noirq_end: u8;
    }

    global_asm!(
        ".pushsection .text.lguest_return, \"ax\", @progbits",
        // To kernel mode, with a frame at RSP. If calls wait in the ring, the interrupted code may be about to use what
        // they change: the host returns to it.
        ".balign 16",
        ".globl lguest_return_to_kernel, lguest_return_to_user, lguest_iret",
        "lguest_return_to_kernel:",
        "cmp dword ptr [rip + {data} + {hcall_pending}], 0",
        "jne lguest_return_to_user",
        "mov qword ptr [rsp + {cs}], {code}",
        "mov qword ptr [rsp + {ss}], {data_selector}",
        "test dword ptr [rsp + {rflags}], {interrupt_flag}",
        "jz 2f",
        pop_registers!(),
        "add rsp, 8",
        // Here all registers are the interrupted context's and RSP is at the five words: should an interrupt come
        // between these labels, the host takes the rest of the return from there.
        ".globl lguest_noirq_start, lguest_noirq_end",
        "lguest_noirq_start:",
        "mov dword ptr [rip + {data} + {irq_enabled}], {enabled}",
        "cmp dword ptr [rip + {data} + {irq_pending}], 0",
        "jne 3f",
        "iretq",
        "lguest_noirq_end:",
        "2:",
        pop_registers!(),
        "add rsp, 8",
        "iretq",
        // One is pending: the host delivers it after the return. Until then nothing may use the words of the page.
        "3:",
        "mov dword ptr [rip + {data} + {irq_enabled}], 0",
        "mov qword ptr [rsp + 8], {kernel_code}",
        "jmp lguest_iret",
        // To user mode, with a frame at RSP; or wherever its CS says.
        ".balign 16",
        "lguest_return_to_user:",
        pop_registers!(),
        "add rsp, 8",
        // With the five words at RSP, all other registers loaded, interrupts disabled.
        "lguest_iret:",
        "mov [rip + {data} + {user_rax}], rax",
        "mov [rip + {data} + {user_rcx}], rcx",
        "mov [rip + {data} + {user_r11}], r11",
        "mov eax, {iret}",
        "syscall",
        "ud2",
        ".popsection",
        data = sym DATA,
        hcall_pending = const offset_of!(LguestData, hcall_pending),
        irq_enabled = const offset_of!(LguestData, irq_enabled),
        irq_pending = const offset_of!(LguestData, irq_pending),
        user_rax = const offset_of!(LguestData, user_rax),
        user_rcx = const offset_of!(LguestData, user_rcx),
        user_r11 = const offset_of!(LguestData, user_r11),
        enabled = const IRQ_ENABLED,
        interrupt_flag = const TrapFrame::INTERRUPT_FLAG,
        code = const CODE,
        data_selector = const DATA_SELECTOR,
        kernel_code = const TrapFrame::KERNEL_CODE,
        iret = const Hypercall::Iret as u64,
        cs = const offset_of!(TrapFrame, cs),
        ss = const offset_of!(TrapFrame, ss),
        rflags = const offset_of!(TrapFrame, rflags),
    );

    /// The instructions of the last part of a return to kernel mode.
    pub fn noirq_window() -> (u64, u64) {
        (&raw const lguest_noirq_start as u64, &raw const lguest_noirq_end as u64)
    }
}

#[cfg(target_os = "none")]
pub(crate) use shared::noirq_window;

/// A system call: RSP and all other registers but RCX and R11, which are free, are user mode's.
///
/// The way back is SYSRET if the frame still is what that leaves behind (RCX is RIP, R11 is RFLAGS), else IRET.
#[unsafe(naked)]
pub unsafe extern "C" fn system_call_entry<K: Kernel>() {
    naked_asm!(
        "mov rcx, rsp",
        "mov rsp, [rip + {system_call_stack}]",
        "mov r11, [rip + {data} + {user_rflags}]",
        "push {user_data}",
        "push rcx",
        "mov rcx, [rip + {data} + {user_rip}]",
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
        "mov [rip + {data} + {user_rip}], rcx",
        "mov [rip + {data} + {user_rflags}], r11",
        "mov [rip + {data} + {user_rax}], rax",
        "mov rsp, [rsp + 32]",
        "mov eax, {sysret}",
        "syscall",
        "ud2",
        "2:",
        "add rsp, 8",
        "jmp lguest_iret",
        system_call_stack = sym SYSTEM_CALL_STACK,
        data = sym DATA,
        user_rip = const offset_of!(LguestData, user_rip),
        user_rflags = const offset_of!(LguestData, user_rflags),
        user_rax = const offset_of!(LguestData, user_rax),
        user_data = const TrapFrame::USER_DATA,
        user_code = const TrapFrame::USER_CODE,
        sysret = const Hypercall::Sysret as u64,
        handler = sym handlers::system_call::<K>,
    )
}

/// An event in user mode.
#[unsafe(naked)]
pub unsafe extern "C" fn user_event_entry<K: Kernel>() {
    naked_asm!(
        "push rdi",
        push_after_rdi!(),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {handler}",
        "add rsp, 8",
        "jmp lguest_return_to_user",
        handler = sym handlers::event::<K>,
    )
}

/// An event in kernel mode.
#[unsafe(naked)]
pub unsafe extern "C" fn kernel_event_entry<K: Kernel>() {
    naked_asm!(
        "push rdi",
        push_after_rdi!(),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {handler}",
        "add rsp, 8",
        "jmp lguest_return_to_kernel",
        handler = sym handlers::event::<K>,
    )
}

/// [`platform::Cpu::enter_user`]: the host takes the five words where they are, for it copies them before anything else
/// runs.
#[unsafe(naked)]
pub unsafe extern "C" fn enter_user(frame: *const TrapFrame) -> ! {
    naked_asm!("mov rsp, rdi", "jmp lguest_return_to_user",)
}

const _: () = {
    // What the pushes make, and where the host's words end up.
    assert!(offset_of!(TrapFrame, rdi) == 0x70 && offset_of!(TrapFrame, orig_rax) == 0x78);
    assert!(size_of::<TrapFrame>() == 168 && offset_of!(TrapFrame, rip) == 0x80);
};
