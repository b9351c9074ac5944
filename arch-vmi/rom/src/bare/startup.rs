//! Other CPUs: from the start-up interrupt, in real mode in the low page, to the state the guest wants.
//!
//! The way leads through tables of the ROM's own, which show the low page at its own address and, in the upper half, what the
//! guest's show.

use core::arch::{asm, global_asm, naked_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use vmi_abi::{ApState, InitParameters, SetInitialApStateError};

use super::here::here;
use super::machine::linear;
use super::processor::{copy, is_canonical, write_msr};

global_asm!(
    r#"
    .section .rodata.startup, "a", @progbits
    .code16
startup_code:
    // CS: the low page, at offset 0.
    cli
    cld
    mov ax, cs
    mov ds, ax
    xor ebx, ebx
    mov bx, ax
    shl ebx, 4                      // EBX: the low page
    .byte 0x66, 0x0f, 0x01, 0x16    // lgdt with a 32-bit base
    .word startup_gdt_pointer - startup_code
    mov eax, cr0
    or eax, 1                       // PE
    mov cr0, eax
    .byte 0x66, 0xff, 0x2e          // far jump through a pointer of 32 bits
    .word startup_to_32 - startup_code
    .code32
startup_32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr4
    or eax, 0x20                    // PAE
    mov cr4, eax
    .byte 0x8b, 0x83                // mov eax, [ebx + ...]
    .long startup_cr3 - startup_code
    mov cr3, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    .byte 0x0b, 0x83                // or eax, [ebx + ...]
    .long startup_efer - startup_code
    wrmsr
    mov eax, cr0
    or eax, 0x80000000              // PG
    mov cr0, eax
    .byte 0xff, 0xab                // far jump through a pointer at EBX
    .long startup_to_64 - startup_code
    .code64
startup_64:
    mov ebx, ebx
    .byte 0x48, 0x8b, 0x83          // mov rax, [rbx + ...]
    .long startup_target - startup_code
    jmp rax
    .balign 8
startup_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        // 0x08: 32-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
    .quad 0x00af9b000000ffff        // 0x18: 64-bit code
startup_gdt_pointer:
    .word startup_gdt_pointer - startup_gdt - 1
    .long startup_gdt - startup_code
startup_to_32:
    .long startup_32 - startup_code
    .word 0x08
startup_to_64:
    .long startup_64 - startup_code
    .word 0x18
    .balign 8
startup_cr3:
    .long 0
startup_efer:
    .long 0
startup_target:
    .quad 0
startup_code_end:
"#
);

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 1 << 7;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;
const TABLE_WORDS: usize = 512;

/// Four pages, of which three whole ones are used: private memory need not start at a page boundary.
#[repr(C)]
struct Tables(UnsafeCell<[u64; 4 * TABLE_WORDS]>);
// SAFETY: written in `VMI_Init` and by `SetInitialAPState`, of which one runs at a time.
unsafe impl Sync for Tables {}
static TABLES: Tables = Tables(UnsafeCell::new([0; 4 * TABLE_WORDS]));

#[repr(C)]
struct State(UnsafeCell<ApState>);
// SAFETY: written by `SetInitialAPState` before the CPU it is for is started, one at a time.
unsafe impl Sync for State {}
static STATE: State = State(UnsafeCell::new(
    // SAFETY: all numbers.
    unsafe { core::mem::zeroed() },
));
/// The APIC identity of the CPU that [`STATE`] is for.
static IDENTITY: AtomicU32 = AtomicU32::new(0);
/// Physical address of the low page; zero if there is none.
static LOW_PAGE: AtomicU64 = AtomicU64::new(0);
/// Written to see whether private memory is where the guest says.
static PROBE: AtomicU64 = AtomicU64::new(0);

/// The first of the three tables: top level, third level, second level.
fn tables() -> *mut u64 {
    (TABLES.0.get() as u64).next_multiple_of(4096) as *mut u64
}

/// Whether a word of private memory is seen `offset` further on too.
pub fn is_private_memory_at(offset: u64) -> bool {
    const PATTERN: u64 = 0x564d_4936_3450_524f;
    let other = (&raw const PROBE as u64).wrapping_add(offset) as *mut u64;
    PROBE.store(PATTERN, Relaxed);
    // SAFETY: the guest maps all of physical memory below 4 GiB there, and the number was checked.
    let seen = unsafe { other.read_volatile() } == PATTERN;
    PROBE.store(0, Relaxed);
    seen
}

/// Puts the real-mode code into the low page and makes the tables it goes on with.
pub fn prepare(parameters: &InitParameters) {
    let private = here!("private_start");
    let physical = parameters.data.wrapping_sub(private);
    let tables = tables();
    let frame = |index: u64| (tables as u64 + index * 4096).wrapping_add(physical);
    let code = here!("startup_code");
    let length = here!("startup_code_end") - code;
    let page = parameters.physical_map + parameters.low_page;
    let base = parameters.low_page as u32;
    let at = |symbol: u64| page + (symbol - code);
    let add_base = |symbol: u64| {
        let place = at(symbol) as *mut u32;
        // SAFETY: in the low page, which is the hypervisor's.
        unsafe { place.write_unaligned(place.read_unaligned() + base) };
    };
    let (cr3, efer, target) =
        (at(here!("startup_cr3")), at(here!("startup_efer")), at(here!("startup_target")));
    // SAFETY: three whole tables of private memory, and the low page.
    unsafe {
        tables.write(frame(1) | PRESENT | WRITABLE);
        tables.add(TABLE_WORDS).write(frame(2) | PRESENT | WRITABLE);
        tables.add(2 * TABLE_WORDS).write(PRESENT | WRITABLE | LARGE);
        copy(code as *const u8, page as *mut u8, length as usize);
        (cr3 as *mut u32).write(frame(0) as u32);
        (efer as *mut u32).write((LME | NXE) as u32);
        (target as *mut u64).write(arrive as *const () as u64);
    }
    add_base(here!("startup_gdt_pointer") + 2);
    add_base(here!("startup_to_32"));
    add_base(here!("startup_to_64"));
    LOW_PAGE.store(parameters.low_page, Relaxed);
}

fn is_sound(state: &ApState) -> bool {
    let (pe_pg, pae) = (1 | 1 << 31, 1 << 5);
    state.cr0 & pe_pg == pe_pg
        && state.cr4 & pae != 0
        && state.efer & LME != 0
        && state.cr3 & !0xffff_f000 == 0
        && state.cs & !3 != 0
        && [state.rip, state.fs_base, state.gs_base].into_iter().all(is_canonical)
        && [{ state.gdtr.base }, { state.idtr.base }].into_iter().all(is_canonical)
}

pub extern "C" fn set_initial_ap_state(state: *const ApState, identity: u64) -> i64 {
    // SAFETY: the guest's pointer; a bad one faults. No CPU is on its way: the guest waits for one before it calls for
    // the next.
    let state = unsafe {
        copy(state.cast(), STATE.0.get().cast(), size_of::<ApState>());
        &*STATE.0.get()
    };
    if !is_sound(state) {
        return SetInitialApStateError::BadState as i64;
    }
    #[cfg(feature = "strict")]
    super::rules::load(state.cr3);
    let low_page = LOW_PAGE.load(Relaxed);
    if low_page == 0 {
        return SetInitialApStateError::NoLowPage as i64;
    }
    // 255 is everybody.
    if identity >= 255 {
        return SetInitialApStateError::BadCpu as i64;
    }
    let Some(root) = linear(state.cr3) else { return SetInitialApStateError::BadState as i64 };
    let tables = tables();
    for index in TABLE_WORDS / 2..TABLE_WORDS {
        // SAFETY: the upper halves of the guest's table and of the ROM's.
        unsafe { tables.add(index).write((root as *const u64).add(index).read_volatile()) };
    }
    IDENTITY.store(identity as u32, Relaxed);
    // SAFETY: orders what was written before the start-up interrupt.
    unsafe { asm!("mfence", options(nostack)) };
    (low_page >> 12) as i64
}

/// The first instructions at the ROM's own addresses, still on its own tables.
#[unsafe(naked)]
extern "C" fn arrive() {
    naked_asm!(
        "lea rsp, [rip + {stack} + {stack_bytes}]",
        "xor ebp, ebp",
        "call {arrived}",
        // The state, in the order of `ApState`.
        "lea rax, [rip + {state}]",
        "mov rcx, [rax + 0x10]",
        "mov cr3, rcx",
        "mov rcx, [rax + 0x18]",
        "mov cr4, rcx",
        "mov rcx, [rax + 0x08]",
        "mov cr2, rcx",
        "lgdt [rax + 0xd8]",
        "lidt [rax + 0xe2]",
        "mov ds, word ptr [rax + 0xcc]",
        "mov es, word ptr [rax + 0xce]",
        "mov fs, word ptr [rax + 0xd0]",
        "mov gs, word ptr [rax + 0xd2]",
        "mov ss, word ptr [rax + 0xca]",
        "cmp word ptr [rax + 0xd4], 0",
        "je 2f",
        "lldt word ptr [rax + 0xd4]",
        "2:",
        "cmp word ptr [rax + 0xd6], 0",
        "je 2f",
        "ltr word ptr [rax + 0xd6]",
        "2:",
        "mov ecx, 0xc0000100", // FS base
        "mov rsi, rax",
        "mov eax, [rsi + 0xb8]",
        "mov edx, [rsi + 0xbc]",
        "wrmsr",
        "inc ecx", // GS base
        "mov eax, [rsi + 0xc0]",
        "mov edx, [rsi + 0xc4]",
        "wrmsr",
        "movzx eax, word ptr [rsi + 0xca]",
        "push rax",
        "push qword ptr [rsi + 0x58]",
        "push qword ptr [rsi + 0x30]",
        "movzx eax, word ptr [rsi + 0xc8]",
        "push rax",
        "push qword ptr [rsi + 0x28]",
        "mov rax, [rsi + 0x38]",
        "mov rbx, [rsi + 0x40]",
        "mov rcx, [rsi + 0x48]",
        "mov rdx, [rsi + 0x50]",
        "mov rbp, [rsi + 0x60]",
        "mov rdi, [rsi + 0x70]",
        "mov r8, [rsi + 0x78]",
        "mov r9, [rsi + 0x80]",
        "mov r10, [rsi + 0x88]",
        "mov r11, [rsi + 0x90]",
        "mov r12, [rsi + 0x98]",
        "mov r13, [rsi + 0xa0]",
        "mov r14, [rsi + 0xa8]",
        "mov r15, [rsi + 0xb0]",
        "mov rsi, [rsi + 0x68]",
        "iretq",
        stack = sym STACK,
        stack_bytes = const STACK_BYTES,
        arrived = sym arrived,
        state = sym STATE,
    )
}

const STACK_BYTES: usize = 1024;
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: one CPU is on its way at a time.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

/// Sets EFER and CR0, if this is the CPU that was meant; another stays here for ever.
extern "C" fn arrived() {
    let identity = super::processor::cpuid(1).ebx >> 24;
    if identity != IDENTITY.load(Relaxed) {
        loop {
            // SAFETY: nothing more is to be done on this CPU.
            unsafe { asm!("cli", "hlt", options(nostack)) };
        }
    }
    // SAFETY: the state is not written while a CPU is on its way.
    let (cr0, efer) = unsafe { ((*STATE.0.get()).cr0, (*STATE.0.get()).efer) };
    write_msr(super::processor::EFER, efer | LMA);
    super::control::set_cr0(cr0);
}
