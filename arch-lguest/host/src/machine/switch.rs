//! The switch between host and guest.
//!
//! [`enter`] loads a guest's registers and goes to it; whatever takes the processor back pushes the registers into the same
//! place, for the task state segment names the end of [`SwitchBlock`]'s registers as the stack, and lets [`enter`] return.
//! System calls of user mode and the plain return from them are done here without leaving the guest's context.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::mem::offset_of;

use arch_x86::{pop_registers, push_after_rdi};
use lguest_abi::{Hypercall, IRQ_ENABLED, LguestData, USER_FLAGS};
use platform::PhysAddr;

use crate::context::{Context, Mode, Registers};

/// What the entry code knows of the guest that runs.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct SwitchBlock {
    /// Its registers.
    pub context: Context,
    host_stack: u64,
    /// Its shared page; before it has one, a page that sends every call the slow way.
    pub data: *const LguestData,
    /// Top-level table for kernel mode.
    pub kernel_root: PhysAddr,
    /// Top-level table for user mode.
    pub user_root: PhysAddr,
    /// Where its system calls go.
    pub system_call: u64,
    /// Interrupts that wait, as bits.
    pub pending: u64,
    scratch: u64,
    /// System calls of user mode.
    pub system_calls: u64,
    /// Returns from them.
    pub fast_returns: u64,
    /// The interrupt that ended idleness.
    idle_vector: u64,
}

struct Cell(UnsafeCell<SwitchBlock>);

// SAFETY: there is one processor; the host uses the block only while no guest runs.
unsafe impl Sync for Cell {}

static BLOCK: Cell = Cell(UnsafeCell::new(SwitchBlock {
    context: Context {
        registers: Registers {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            vector: 0,
            error_code: 0,
            rip: 0,
            cs: Registers::CODE,
            rflags: Registers::FLAGS,
            rsp: 0,
            ss: Registers::DATA,
        },
        mode: Mode::Kernel,
        gs_base: 0,
    },
    host_stack: 0,
    data: core::ptr::null(),
    kernel_root: PhysAddr(0),
    user_root: PhysAddr(0),
    system_call: 0,
    pending: 0,
    scratch: 0,
    system_calls: 0,
    fast_returns: 0,
    idle_vector: 0,
}));

const _: () = {
    assert!(offset_of!(SwitchBlock, context) == 0 && offset_of!(Context, registers) == 0);
    assert!(size_of::<Registers>() == 176 && offset_of!(Registers, vector) == 120);
};

/// The block, for the host.
///
/// # Safety
/// The reference does not live while [`enter`] is called, nor beside another.
pub unsafe fn block() -> &'static mut SwitchBlock {
    // SAFETY: as the caller promised.
    unsafe { &mut *BLOCK.0.get() }
}

global_asm!(
    r#"
    .section .text.switch, "ax", @progbits

    // extern "C" fn lguest_enter()
    .globl lguest_enter
    .balign 16
lguest_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + {block} + {host_stack}], rsp
    lea rsp, [rip + {block}]
"#,
    pop_registers!(),
    r#"
    add rsp, 16
    iretq

    // RSP at the vector in the block's registers.
    .balign 16
lguest_exit:
    push rdi
"#,
    push_after_rdi!(),
    r#"
    cld
    mov rsp, [rip + {block} + {host_stack}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .balign 16
lguest_trap:
    test byte ptr [rsp + 24], 3
    jnz lguest_exit
    // In the host: the end of idleness, or the host's own fault.
    cmp qword ptr [rsp], 32
    jb lguest_fatal
    pop qword ptr [rip + {block} + {idle_vector}]
    add rsp, 8
    and qword ptr [rsp + 16], -0x201
    iretq
lguest_fatal:
    cld
    pop rdi
    pop rsi
    pop rdx
    and rsp, -16
    call {fault}
    ud2

    .balign 16
lguest_nmi:
    iretq

    // One of 16 bytes a vector.
    .globl lguest_gates
    .balign 16
lguest_gates:
    .set lguest_vector, 0
    .rept 256
    .balign 16
    .if lguest_vector == 2
    jmp lguest_nmi
    .elseif lguest_vector == 8 || lguest_vector == 18
    push lguest_vector
    jmp lguest_fatal
    .elseif (lguest_vector >= 10 && lguest_vector <= 14) || lguest_vector == 17 || lguest_vector == 21
    push lguest_vector
    jmp lguest_trap
    .else
    push 0
    push lguest_vector
    jmp lguest_trap
    .endif
    .set lguest_vector, lguest_vector + 1
    .endr

    // The target of `syscall`. RSP is the guest's until the slow way.
    .globl lguest_system_call
    .balign 16
lguest_system_call:
    mov [rip + {block} + {scratch}], r11
    cmp dword ptr [rip + {block} + {mode}], 0
    mov r11, [rip + {block} + {data}]
    je 2f

    // User mode: RCX is RIP, `scratch` RFLAGS.
    mov [r11 + {user_rip}], rcx
    mov rcx, [rip + {block} + {scratch}]
    mov [r11 + {user_rflags}], rcx
    mov dword ptr [r11 + {irq_enabled}], 0
    rdgsbase rcx
    mov [r11 + {user_gsbase}], rcx
    mov rcx, [r11 + {kernel_gsbase}]
    shl rcx, 16
    sar rcx, 16
    wrgsbase rcx
    mov dword ptr [rip + {block} + {mode}], 0
    mov rcx, [rip + {block} + {kernel_root}]
    mov cr3, rcx
    inc qword ptr [rip + {block} + {system_calls}]
    mov rcx, [rip + {block} + {system_call}]
    mov r11d, 0x202
    sysretq

    // Kernel mode: a plain SYSRET with nothing else to do, or the slow way.
2:  cmp rax, {sysret}
    jne lguest_hypercall
    mov eax, [r11 + {blocked}]
    not eax
    and eax, [rip + {block} + {pending}]
    or eax, [r11 + {hcall_pending}]
    jnz 3f
    mov rax, [r11 + {user_rip}]
    shr rax, 47
    jnz 3f
    test dword ptr [r11 + {user_rflags}], 0x10100 // TF, RF
    jnz 3f
    mov rcx, [r11 + {user_gsbase}]
    shl rcx, 16
    sar rcx, 16
    wrgsbase rcx
    mov rcx, [rip + {block} + {user_root}]
    mov cr3, rcx
    mov dword ptr [rip + {block} + {mode}], 1
    mov dword ptr [r11 + {irq_enabled}], {enabled}
    inc qword ptr [rip + {block} + {fast_returns}]
    mov rcx, [r11 + {user_rip}]
    mov rax, [r11 + {user_rax}]
    mov r11, [r11 + {user_rflags}]
    and r11d, {flags}
    or r11d, 0x202
    sysretq

3:  mov eax, {sysret}
lguest_hypercall:
    mov [rip + {block} + {rip}], rcx
    mov rcx, [rip + {block} + {scratch}]
    mov [rip + {block} + {rflags}], rcx
    mov [rip + {block} + {rsp}], rsp
    mov qword ptr [rip + {block} + {vector}], {hypercall}
    lea rsp, [rip + {block} + {vector}]
    jmp lguest_exit
"#,
    block = sym BLOCK,
    fault = sym super::run::host_fault,
    host_stack = const offset_of!(SwitchBlock, host_stack),
    idle_vector = const offset_of!(SwitchBlock, idle_vector),
    scratch = const offset_of!(SwitchBlock, scratch),
    mode = const offset_of!(Context, mode),
    data = const offset_of!(SwitchBlock, data),
    kernel_root = const offset_of!(SwitchBlock, kernel_root),
    user_root = const offset_of!(SwitchBlock, user_root),
    system_call = const offset_of!(SwitchBlock, system_call),
    system_calls = const offset_of!(SwitchBlock, system_calls),
    fast_returns = const offset_of!(SwitchBlock, fast_returns),
    pending = const offset_of!(SwitchBlock, pending),
    vector = const offset_of!(Registers, vector),
    rip = const offset_of!(Registers, rip),
    rflags = const offset_of!(Registers, rflags),
    rsp = const offset_of!(Registers, rsp),
    user_rip = const offset_of!(LguestData, user_rip),
    user_rflags = const offset_of!(LguestData, user_rflags),
    user_rax = const offset_of!(LguestData, user_rax),
    user_gsbase = const offset_of!(LguestData, user_gsbase),
    kernel_gsbase = const offset_of!(LguestData, kernel_gsbase),
    irq_enabled = const offset_of!(LguestData, irq_enabled),
    blocked = const offset_of!(LguestData, blocked_interrupts),
    hcall_pending = const offset_of!(LguestData, hcall_pending),
    sysret = const Hypercall::Sysret as u64,
    hypercall = const Registers::HYPERCALL,
    enabled = const IRQ_ENABLED,
    flags = const USER_FLAGS,
);

unsafe extern "C" {
    fn lguest_enter();
    static lguest_gates: u8;
    static lguest_system_call: u8;
}

/// The target of `syscall`.
pub fn system_call_entry() -> u64 {
    &raw const lguest_system_call as u64
}

/// The target of gate `vector`.
pub fn gate_entry(vector: usize) -> u64 {
    &raw const lguest_gates as u64 + vector as u64 * 16
}

/// The stack for traps from a guest: the end of the block's registers.
pub fn exit_stack() -> u64 {
    BLOCK.0.get() as u64 + size_of::<Registers>() as u64
}

/// Runs the guest of the block until something takes the processor back.
///
/// # Safety
/// The block's roots have the host's entry, its selectors are the guests', RIP is canonical, and `data` is a shared page.
pub unsafe fn enter() {
    // SAFETY: the entry code reads and writes the block, which nobody refers to now; interrupts are disabled in the host.
    unsafe {
        let block = BLOCK.0.get();
        asm!("wrgsbase {}", in(reg) (*block).context.gs_base, options(nostack));
        lguest_enter();
        asm!("rdgsbase {}", out(reg)(*block).context.gs_base, options(nostack));
    }
}

/// Waits for an interrupt, and returns its vector.
pub fn idle() -> u64 {
    // SAFETY: the trap code notes the vector and returns with interrupts disabled; none is lost between the two instructions.
    unsafe {
        asm!("sti", "hlt", "cli");
        (*BLOCK.0.get()).idle_vector
    }
}
