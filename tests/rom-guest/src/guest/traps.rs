//! Exceptions end the guest; the timer's interrupt is counted.

use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use vmi_abi::TablePointer;

use super::calls::APIC;

/// The timer's vector.
pub const VECTOR: u8 = 0x40;
const END_OF_INTERRUPT: u64 = APIC + 0xb0;

/// Interrupts of the timer so far.
pub static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

#[repr(C, align(16))]
struct Gates(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: written once, before any interrupt and any other CPU.
unsafe impl Sync for Gates {}
static GATES: Gates = Gates(UnsafeCell::new([[0; 2]; 256]));

extern "C" fn interrupted() {
    INTERRUPTS.fetch_add(1, SeqCst);
    // SAFETY: the register, mapped at its own address; in this mode it may be written as memory.
    unsafe { (END_OF_INTERRUPT as *mut u32).write_volatile(0) };
}

extern "C" fn excepted(first: u64, second: u64) -> ! {
    panic!("exception: the stack has {first:#x} {second:#x}");
}

#[unsafe(naked)]
extern "C" fn timer() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "cld",
        "call {}",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "iretq",
        sym interrupted
    )
}

#[unsafe(naked)]
extern "C" fn exception() {
    naked_asm!("mov rdi, [rsp]", "mov rsi, [rsp + 8]", "call {}", sym excepted)
}

/// The table, for the CPU that does not load it itself.
pub fn pointer() -> TablePointer {
    TablePointer { limit: 4095, base: GATES.0.get() as u64 }
}

/// Fills and loads the table; the old interrupt controllers deliver nothing.
pub fn load() {
    let gates = GATES.0.get().cast::<[u64; 2]>();
    let set = |vector: usize, handler: u64| {
        let low = handler & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        // SAFETY: 256 gates.
        unsafe { gates.add(vector).write([low, handler >> 32]) };
    };
    (0..32).for_each(|vector| set(vector, exception as *const () as u64));
    set(usize::from(VECTOR), timer as *const () as u64);
    let pointer = pointer();
    // SAFETY: the table stays.
    unsafe {
        asm!("out 0x21, al", "out 0xa1, al", in("al") 0xffu8, options(nostack, nomem));
        asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack));
    }
}
