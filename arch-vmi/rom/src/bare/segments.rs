//! Descriptor tables, kernel stack, segment bases, system-call entry.

use core::arch::asm;

use vmi_abi::{SegmentBase, TablePointer};

use super::control::put_off;
use super::machine::{IrqGuard, Pending};
use super::processor::{
    EFER, FMASK, FS_BASE, LSTAR, STAR, general_protection, is_canonical, read_msr, write_msr,
};

macro_rules! by_pointer {
    ($($name:ident $instruction:literal;)*) => {$(
        pub extern "C" fn $name(pointer: *mut TablePointer) {
            // SAFETY: the guest's pointer, of ten bytes; a bad one faults.
            unsafe { asm!(concat!($instruction, " [{}]"), in(reg) pointer, options(nostack)) };
        }
    )*};
}
by_pointer! {
    set_gdt "lgdt";
    set_idt "lidt";
    get_gdt "sgdt";
    get_idt "sidt";
}

macro_rules! selector {
    ($($set:ident $load:literal $get:ident $store:literal;)*) => {$(
        pub extern "C" fn $set(selector: u64) {
            // SAFETY: the guest asks for it; a bad selector faults.
            unsafe { asm!(concat!($load, " {:x}"), in(reg) selector, options(nostack)) };
        }

        pub extern "C" fn $get() -> u64 {
            let selector: u64;
            // SAFETY: reads a register.
            unsafe { asm!(concat!($store, " {}"), out(reg) selector, options(nostack, nomem)) };
            selector
        }
    )*};
}
selector! {
    set_ldt "lldt" get_ldt "sldt";
    set_tr "ltr" get_tr "str";
}

/// WriteGDTEntry and WriteLDTEntry.
pub extern "C" fn write_descriptor(table: *mut u64, index: u64, value: u64) {
    // SAFETY: the guest's table and index.
    unsafe { table.wrapping_add(index as usize).write_volatile(value) };
}

/// WriteIDTEntry: nothing is delivered through half a gate.
pub extern "C" fn write_gate(table: *mut [u64; 2], index: u64, low: u64, high: u64) {
    let _guard = IrqGuard::new();
    let gate = table.wrapping_add(index as usize).cast::<u64>();
    // SAFETY: the guest's table and index.
    unsafe {
        gate.wrapping_add(1).write_volatile(high);
        gate.write_volatile(low);
    }
}

pub extern "C" fn update_kernel_stack(tss: u64, stack: u64) {
    if !put_off(Pending::KERNEL_STACK, |cpu| cpu.pending_stack = [tss, stack]) {
        write_kernel_stack(tss, stack);
    }
}

pub fn write_kernel_stack(tss: u64, stack: u64) {
    // SAFETY: the guest's task state segment; RSP0 lies 4 bytes into it.
    unsafe { ((tss + 4) as *mut u64).write_unaligned(stack) };
}

pub extern "C" fn set_segment_base(which: u64, base: u64) {
    if SegmentBase::from_number(which).is_none() || !is_canonical(base) {
        general_protection();
        return;
    }
    // Where this CPU's memory is depends on GS itself: that one is never put off.
    let gs = which == SegmentBase::Gs as u64;
    let note = |cpu: &mut super::machine::PerCpu| {
        if let Some(pending) = cpu.pending_bases.get_mut(which as usize) {
            *pending = base;
        }
    };
    if gs || !put_off(Pending::FIRST_BASE << which, note) {
        write_base(which, base);
    }
}

pub fn write_base(which: u64, base: u64) {
    write_msr(FS_BASE + which as u32, base);
}

pub extern "C" fn get_segment_base(which: u64) -> u64 {
    if SegmentBase::from_number(which).is_none() {
        general_protection();
        return 0;
    }
    read_msr(FS_BASE + which as u32)
}

pub extern "C" fn load_gs_index(selector: u64) {
    let _guard = IrqGuard::new();
    // SAFETY: the kernel's GS base is back before anybody can see it; a bad selector faults with user mode's, as the
    // native instructions do.
    unsafe { asm!("swapgs", "mov gs, {:x}", "mfence", "swapgs", in(reg) selector, options(nostack)) };
}

pub extern "C" fn set_syscall_entry(entry: u64, star: u64, mask: u64) {
    const SYSTEM_CALL_EXTENSIONS: u64 = 1;
    if !is_canonical(entry) {
        general_protection();
        return;
    }
    write_msr(STAR, star);
    write_msr(LSTAR, system_call_target(entry));
    write_msr(FMASK, mask);
    write_msr(EFER, read_msr(EFER) | SYSTEM_CALL_EXTENSIONS);
}

#[cfg(not(feature = "strict"))]
fn system_call_target(entry: u64) -> u64 {
    entry
}

/// The strict ROM answers NOP for SyscallSwapGS, so it changes GS on the way.
#[cfg(feature = "strict")]
fn system_call_target(entry: u64) -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static ENTRY: AtomicU64 = AtomicU64::new(0);

    #[unsafe(naked)]
    extern "C" fn swap_and_go_on() {
        core::arch::naked_asm!("swapgs", "jmp [rip + {entry}]", entry = sym ENTRY)
    }

    ENTRY.store(entry, Relaxed);
    swap_and_go_on as *const () as u64
}
