//! The sensitive operations as the bare instructions, for a kernel that has the machine for itself.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{
    IrqState, Kernel, Nanoseconds, PhysAddr, PhysFrame, PhysRange, Protection, Unusable, VirtAddr,
};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;

use crate::boot::memory_map::MemoryMap;
use crate::cpu::features::{Features, has};
use crate::cpu::smap::smap_site;
use crate::interrupts::local_apic::{IA32_APIC_BASE, Register};
use crate::machine::{Machine, Scope, SecondaryState};
use crate::paging::entry::{Entry, Level};
use crate::time::{Sources, apic_timer, calibrate, rtc};
use crate::trap::entry;

const IA32_STAR: u32 = 0xc000_0081;
const IA32_LSTAR: u32 = 0xc000_0082;
const IA32_FMASK: u32 = 0xc000_0084;

/// The bare machine.
#[derive(Debug)]
pub enum Bare {}

impl Machine for Bare {
    const NAME: &'static str = "native";
    const UNUSED: Features = Features::empty();
    const RECORDED: bool = false;

    #[inline(always)]
    fn begin(_: &mut MemoryMap, _: Option<PhysAddr>) -> Result<(), Unusable> {
        Ok(())
    }

    fn refuse<K: Kernel>(reason: Unusable) -> ! {
        #[cfg(target_os = "none")]
        {
            crate::console::init::<Self>();
            crate::power::unusable::<K, Self>(reason)
        }
        #[cfg(not(target_os = "none"))]
        unreachable!("{}", reason.0)
    }

    #[inline(always)]
    fn irq_disable() {
        // SAFETY: the contract lets the kernel do so. Memory is not `nomem`: accesses stay on their side.
        unsafe { asm!("cli", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn irq_enable() {
        // SAFETY: as above.
        unsafe { asm!("sti", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn irq_save() -> IrqState {
        let flags: u64;
        // SAFETY: as above; the stack is balanced.
        unsafe { asm!("pushfq", "cli", "pop {}", out(reg) flags, options(preserves_flags)) };
        IrqState(flags)
    }

    #[inline(always)]
    fn wait_for_interrupt() {
        // SAFETY: interrupts stay blocked for the one instruction after `sti`, so none is lost.
        unsafe { asm!("sti", "hlt", options(nostack, preserves_flags)) };
    }

    #[cold]
    fn halt() -> ! {
        loop {
            // SAFETY: an NMI may end the wait; the loop goes on.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }

    #[inline(always)]
    fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
        __cpuid_count(leaf, subleaf)
    }

    #[inline(always)]
    unsafe fn read_msr(register: u32) -> u64 {
        // SAFETY: as the caller promised.
        unsafe { Msr::new(register).read() }
    }

    #[inline(always)]
    unsafe fn write_msr(register: u32, value: u64) {
        // SAFETY: as the caller promised.
        unsafe { Msr::new(register).write(value) };
    }

    #[inline(always)]
    unsafe fn set_cr0(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn cr2() -> u64 {
        let address: u64;
        // SAFETY: only reads the register.
        unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
        address
    }

    #[inline(always)]
    unsafe fn set_cr3(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    unsafe fn set_cr4(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    unsafe fn set_xcr0(value: u64) {
        // SAFETY: as the caller promised.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("rax") value as u32, in("rdx") value >> 32,
                 options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn user_access_begin() {
        // SAFETY: changes the AC flag only.
        unsafe { asm!(smap_site!("stac"), options(nostack)) };
    }

    #[inline(always)]
    fn user_access_end() {
        // SAFETY: changes the AC flag only.
        unsafe { asm!(smap_site!("clac"), options(nostack)) };
    }

    unsafe fn set_system_call(entry: VirtAddr, selectors: u64, masked: u64) {
        // SAFETY: as the caller promised.
        unsafe {
            Self::write_msr(IA32_LSTAR, entry.0);
            Self::write_msr(IA32_FMASK, masked);
            Self::write_msr(IA32_STAR, selectors);
        }
    }

    #[inline(always)]
    unsafe fn load_gdt(table: &DescriptorTablePointer) {
        // SAFETY: as the caller promised.
        unsafe { x86_64::instructions::tables::lgdt(table) };
    }

    #[inline(always)]
    unsafe fn load_idt(table: &DescriptorTablePointer) {
        // SAFETY: as the caller promised.
        unsafe { x86_64::instructions::tables::lidt(table) };
    }

    #[inline(always)]
    unsafe fn load_task_register(selector: u16) {
        // SAFETY: as the caller promised.
        unsafe { asm!("ltr {:x}", in(reg) selector, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    unsafe fn set_kernel_stack(task_state: u64, top: VirtAddr) {
        // SAFETY: the caller promised a task state segment: RSP0 lies 4 bytes into it.
        unsafe { ((task_state + 4) as *mut u64).write_unaligned(top.0) };
    }

    #[inline]
    fn is_user_return(rip: u64) -> bool {
        entry::is_user_return(rip)
    }

    #[inline(always)]
    fn invalidate_page(page: VirtAddr) {
        // SAFETY: dropping a translation is always allowed.
        unsafe { asm!("invlpg [{}]", in(reg) page.0, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn flush_translations(scope: Scope) {
        if scope == Scope::Everything {
            let flags = Cr4::read();
            // SAFETY: without the flag all translations are dropped, and nothing else changes.
            unsafe {
                Cr4::write(flags - Cr4Flags::PAGE_GLOBAL);
                Cr4::write(flags);
            }
        }
        // Without global pages that flag is no flag. The number of the space is part of what is read, and the bit that
        // keeps translations reads as zero.
        // SAFETY: what is loaded is what was there.
        unsafe {
            asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn announce_table(_: PhysFrame, _: Level) {}

    #[inline(always)]
    fn release_table(_: PhysFrame, _: Level) {}

    #[inline(always)]
    fn set_entry(slot: &AtomicU64, entry: Entry, _: Level) {
        slot.store(entry.0, Relaxed);
    }

    #[inline(always)]
    fn set_entry_in_batch(slot: &AtomicU64, entry: Entry) {
        slot.store(entry.0, Relaxed);
    }

    #[inline(always)]
    fn batch<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline(always)]
    fn begin_switch() {}

    #[inline(always)]
    fn end_switch() {}

    #[inline(always)]
    fn adopt_tables(_: PhysFrame, _: PhysAddr) {}

    fn beside_image() -> impl IntoIterator<Item = (VirtAddr, PhysRange, Protection)> {
        []
    }

    fn enable_apic(_: u64) -> Result<(), Unusable> {
        const ENABLE: u64 = 1 << 11;
        const X2APIC: u64 = 1 << 10;
        let set = |from: u64, to: u64| {
            if to != from {
                // SAFETY: enables the APIC in the mode it comes up in, or goes on from there to x2APIC mode.
                unsafe { Self::write_msr(IA32_APIC_BASE, to) };
            }
            to
        };
        // SAFETY: every CPU with an APIC has the register.
        let found = unsafe { Self::read_msr(IA32_APIC_BASE) };
        let enabled = set(found, found | ENABLE);
        if has(Features::X2APIC) {
            set(enabled, enabled | X2APIC);
        }
        Ok(())
    }

    #[inline(always)]
    fn read_apic(memory: u64, register: Register) -> u32 {
        match memory {
            // SAFETY: the register exists in x2APIC mode, which is on if there is no memory.
            0 => unsafe { Msr::new(register.msr()).read() as u32 },
            memory => apic_pointer(memory, register).read(),
        }
    }

    #[inline(always)]
    fn write_apic(memory: u64, register: Register, value: u32) {
        match memory {
            // SAFETY: the register exists in x2APIC mode, which is on if there is no memory.
            0 => unsafe { Msr::new(register.msr()).write(u64::from(value)) },
            memory => apic_pointer(memory, register).write(value),
        }
    }

    #[inline(always)]
    unsafe fn in8(port: u16) -> u8 {
        // SAFETY: as the caller promised.
        unsafe { Port::new(port).read() }
    }

    #[inline(always)]
    unsafe fn in16(port: u16) -> u16 {
        // SAFETY: as the caller promised.
        unsafe { Port::new(port).read() }
    }

    #[inline(always)]
    unsafe fn in32(port: u16) -> u32 {
        // SAFETY: as the caller promised.
        unsafe { Port::new(port).read() }
    }

    #[inline(always)]
    unsafe fn out8(port: u16, value: u8) {
        // SAFETY: as the caller promised.
        unsafe { Port::new(port).write(value) };
    }

    #[inline(always)]
    unsafe fn out16(port: u16, value: u16) {
        // SAFETY: as the caller promised.
        unsafe { Port::new(port).write(value) };
    }

    #[inline(always)]
    unsafe fn out32(port: u16, value: u32) {
        // SAFETY: as the caller promised.
        unsafe { Port::new(port).write(value) };
    }

    fn find_rates(sources: Sources) -> Result<(), Unusable> {
        calibrate::run(sources)
    }

    fn enable_timer() {
        apic_timer::enable();
    }

    #[inline(always)]
    fn set_timer(left: Nanoseconds) {
        apic_timer::set(left);
    }

    fn wall_clock() -> Option<Nanoseconds> {
        rtc::read()
    }

    #[inline(always)]
    fn stolen() -> Nanoseconds {
        Nanoseconds::ZERO
    }

    unsafe fn set_start(apic: u32, page: PhysAddr, start: &SecondaryState) -> Option<u8> {
        #[cfg(target_os = "none")]
        // SAFETY: as the caller promised.
        unsafe {
            crate::boot::secondary::place(page, apic, start);
        }
        #[cfg(not(target_os = "none"))]
        let _ = (apic, start);
        Some((page.0 >> 12) as u8)
    }

    #[inline(always)]
    fn restart() {}

    #[inline(always)]
    fn power_off() {}
}

fn apic_pointer(memory: u64, register: Register) -> VolatilePtr<'static, u32> {
    let address = (memory + register.offset()) as *mut u32;
    // SAFETY: the registers are mapped for ever, aligned, and never null.
    unsafe { VolatilePtr::new(NonNull::new_unchecked(address)) }
}
