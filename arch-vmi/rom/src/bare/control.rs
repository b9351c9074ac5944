//! Control and debug registers, waiting, batches of changes to the CPU.

use core::arch::asm;

use vmi_abi::LazyMode;

use super::machine::{Pending, PerCpu, with_cpu};
use super::processor::general_protection;
use super::{page_table_calls, segments};

/// Puts a change off if a batch of the CPU's state is open.
pub fn put_off(change: u64, note: impl FnOnce(&mut PerCpu)) -> bool {
    with_cpu(|cpu| {
        let lazy = cpu.lazy == LazyMode::Cpu as u64;
        if lazy {
            cpu.pending |= change;
            note(cpu);
        }
        lazy
    })
    .unwrap_or(false)
}

macro_rules! control_register {
    ($($set:ident $get:ident $register:literal;)*) => {$(
        pub extern "C" fn $set(value: u64) {
            // SAFETY: the guest asks for it.
            unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack)) };
        }

        pub extern "C" fn $get() -> u64 {
            let value;
            // SAFETY: reads a register.
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nostack, nomem)) };
            value
        }
    )*};
}
control_register! {
    set_cr0 get_cr0 "cr0";
    set_cr2 get_cr2 "cr2";
    load_cr3 get_cr3 "cr3";
    set_cr4 get_cr4 "cr4";
}

pub extern "C" fn set_cr3(value: u64) {
    if put_off(Pending::CR3, |cpu| cpu.pending_cr3 = value) {
        return;
    }
    page_table_calls::flush_queue();
    #[cfg(feature = "strict")]
    super::rules::load(value);
    load_cr3(value);
}

pub extern "C" fn clts() {
    if !put_off(Pending::CLTS, |_| {}) {
        // SAFETY: the guest asks for it.
        unsafe { asm!("clts", options(nostack)) };
    }
}

pub extern "C" fn wbinvd() {
    // SAFETY: writes the caches back.
    unsafe { asm!("wbinvd", options(nostack)) };
}

macro_rules! debug_registers {
    ($($number:literal $register:literal),*) => {
        pub extern "C" fn set_dr(number: u64, value: u64) {
            match number {
                // SAFETY: the guest asks for it.
                $($number => unsafe {
                    asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack));
                },)*
                _ => general_protection(),
            }
        }

        pub extern "C" fn get_dr(number: u64) -> u64 {
            let value: u64;
            match number {
                // SAFETY: reads a register.
                $($number => unsafe {
                    asm!(concat!("mov {}, ", $register), out(reg) value, options(nostack, nomem));
                },)*
                _ => {
                    general_protection();
                    value = 0;
                }
            }
            value
        }
    };
}
debug_registers!(0 "dr0", 1 "dr1", 2 "dr2", 3 "dr3", 6 "dr6", 7 "dr7");

pub extern "C" fn set_xcr0(value: u64) {
    // SAFETY: the guest asks for it.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack));
    }
}

/// IODelay: a write to a port that nothing uses.
pub extern "C" fn io_delay() {
    super::processor::out_byte(0x80, 0);
}

pub extern "C" fn halt() {
    #[cfg(feature = "strict")]
    super::rules::halt();
    // SAFETY: interrupts stay blocked for the one instruction after `sti`, so none is lost.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}

/// SetLazyMode: whatever begins, what was put off is done first.
pub extern "C" fn set_lazy_mode(mode: u64) {
    if LazyMode::from_number(mode).is_none() {
        return;
    }
    #[cfg(feature = "strict")]
    super::rules::lazy_mode(mode);
    page_table_calls::flush_queue();
    let put_off = with_cpu(|cpu| {
        cpu.lazy = mode;
        let what = (cpu.pending, cpu.pending_cr3, cpu.pending_stack, cpu.pending_bases);
        cpu.pending = 0;
        what
    });
    // The calls below would put it off again if the new mode were CPU; batches do not nest.
    let Some((pending, cr3, [tss, stack], bases)) = put_off else { return };
    if pending & Pending::KERNEL_STACK != 0 {
        segments::write_kernel_stack(tss, stack);
    }
    for (which, base) in (0u64..).zip(bases) {
        if pending & (Pending::FIRST_BASE << which) != 0 {
            segments::write_base(which, base);
        }
    }
    if pending & Pending::CR3 != 0 {
        #[cfg(feature = "strict")]
        super::rules::load(cr3);
        load_cr3(cr3);
    }
    if pending & Pending::CLTS != 0 {
        // SAFETY: the guest asked for it.
        unsafe { asm!("clts", options(nostack)) };
    }
}
