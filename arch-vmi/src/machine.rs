//! The sensitive operations as calls of the ROM.

use core::arch::asm;
use core::arch::x86_64::CpuidResult;
use core::sync::atomic::AtomicU64;

use arch_native::boot::memory_map::MemoryMap;
use arch_native::cpu::features::Features;
use arch_native::interrupts::local_apic::{self, Register};
use arch_native::is_recorded_user_return;
use arch_native::machine::{Machine, Scope, SecondaryState};
use arch_native::paging::entry::{Entry, Level};
use arch_native::time::Sources;
use platform::{
    IrqState, Kernel, Nanoseconds, PhysAddr, PhysFrame, PhysRange, Protection, Unusable, VirtAddr,
};
use vmi_abi::{Call, FlushTlb, RebootKind};
use x86_64::structures::DescriptorTablePointer;

use crate::call::{place, vmi, vmi_system_v};
use crate::{cpus, native, patch, refuse, rom, tables, time};

/// A PC that a VMI hypervisor shows.
#[derive(Debug)]
pub enum VmiMachine {}

/// CPUID leaf 7: supervisor mode access prevention.
const SMAP: u32 = 1 << 20;
/// A task priority above that of every interrupt.
const NOTHING: u32 = 0xff;

impl Machine for VmiMachine {
    const NAME: &'static str = "vmi";
    /// The hypervisor shows xAPIC registers and keeps the timer; it is told of address spaces without numbers.
    const UNUSED: Features = Features::X2APIC.union(Features::TSC_DEADLINE).union(Features::PCID);
    const RECORDED: bool = true;

    fn begin(memory: &mut MemoryMap, low_page: Option<PhysAddr>) -> Result<(), Unusable> {
        // SAFETY: called once, on the first page tables, under which the image is writable; the page is kept.
        unsafe {
            let placed = rom::start(memory, low_page)?;
            patch::all(&placed, || Self::cpuid(0, 0).eax >= 7 && Self::cpuid(7, 0).ebx & SMAP != 0)
        }
    }

    fn refuse<K: Kernel>(reason: Unusable) -> ! {
        refuse::refuse(reason)
    }

    #[inline(always)]
    fn irq_disable() {
        // SAFETY: the contract lets the kernel do so.
        unsafe { vmi!(DisableInterrupts) };
    }

    #[inline(always)]
    fn irq_enable() {
        // SAFETY: as above.
        unsafe { vmi!(EnableInterrupts) };
    }

    #[inline(always)]
    fn irq_save() -> IrqState {
        let flags: u64;
        // SAFETY: only reads the flag.
        unsafe { vmi!(GetInterruptMask, out("rax") flags) };
        Self::irq_disable();
        IrqState(flags)
    }

    #[inline(always)]
    fn wait_for_interrupt() {
        // SAFETY: the contract lets the kernel do so.
        unsafe { vmi_system_v!(Halt) };
    }

    /// There is no way to wait with interrupts disabled: they are held back by their priority instead.
    #[cold]
    fn halt() -> ! {
        Self::irq_disable();
        if tables::is_bound() {
            local_apic::write::<Self>(Register::TaskPriority, NOTHING);
        }
        loop {
            if tables::is_bound() {
                Self::wait_for_interrupt();
            }
            core::hint::spin_loop();
        }
    }

    fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
        let (eax, ebx, ecx, edx): (u32, u64, u32, u32);
        // SAFETY: changes these registers only; RBX, which the compiler keeps for itself, is put back.
        unsafe {
            asm!(
                "mov {rbx}, rbx",
                place!(),
                "xchg {rbx}, rbx",
                vmi_call = const Call::Cpuid as u8,
                vmi_bytes = const native::place_bytes(Call::Cpuid),
                rbx = out(reg) ebx,
                inlateout("eax") leaf => eax,
                inlateout("ecx") subleaf => ecx,
                lateout("edx") edx,
            );
        }
        CpuidResult { eax, ebx: ebx as u32, ecx, edx }
    }

    unsafe fn read_msr(register: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: as the caller promised.
        unsafe { vmi!(Rdmsr, in("ecx") register, out("eax") low, out("edx") high) };
        u64::from(high) << 32 | u64::from(low)
    }

    unsafe fn write_msr(register: u32, value: u64) {
        // SAFETY: as the caller promised.
        unsafe { vmi!(Wrmsr, in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32) };
    }

    unsafe fn set_cr0(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetCr0, "rdi" = value) };
    }

    #[inline(always)]
    fn cr2() -> u64 {
        let address: u64;
        // SAFETY: only reads the register.
        unsafe { vmi_system_v!(GetCr2; address) };
        address
    }

    #[inline(always)]
    unsafe fn set_cr3(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetCr3, "rdi" = value) };
    }

    unsafe fn set_cr4(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetCr4, "rdi" = value) };
    }

    unsafe fn set_xcr0(value: u64) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetXcr0, "rdi" = value) };
    }

    #[inline(always)]
    fn user_access_begin() {
        // SAFETY: changes the AC flag only.
        unsafe { vmi!(UserAccessBegin) };
    }

    #[inline(always)]
    fn user_access_end() {
        // SAFETY: changes the AC flag only.
        unsafe { vmi!(UserAccessEnd) };
    }

    unsafe fn set_system_call(entry: VirtAddr, selectors: u64, masked: u64) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetSyscallEntry, "rdi" = entry.0, "rsi" = selectors, "rdx" = masked) };
    }

    unsafe fn load_gdt(table: &DescriptorTablePointer) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetGdt, "rdi" = &raw const *table) };
    }

    unsafe fn load_idt(table: &DescriptorTablePointer) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetIdt, "rdi" = &raw const *table) };
    }

    unsafe fn load_task_register(selector: u16) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(SetTr, "rdi" = u64::from(selector)) };
    }

    #[inline(always)]
    unsafe fn set_kernel_stack(task_state: u64, top: VirtAddr) {
        // SAFETY: as the caller promised.
        unsafe { vmi_system_v!(UpdateKernelStack, "rdi" = task_state, "rsi" = top.0) };
    }

    fn is_user_return(rip: u64) -> bool {
        rom::is_iret_fault(rip) || is_recorded_user_return(rip)
    }

    #[inline(always)]
    fn invalidate_page(page: VirtAddr) {
        // SAFETY: dropping a translation is always allowed.
        unsafe {
            vmi!(
                InvalPage,
                inout("rdi") page.0 => _,
                out("rax") _,
                out("rcx") _,
                out("rdx") _,
                out("rsi") _,
            );
        }
    }

    fn flush_translations(scope: Scope) {
        let flags = match scope {
            Scope::Space => FlushTlb::TLB,
            Scope::Everything => FlushTlb::TLB | FlushTlb::GLOBAL,
        };
        // SAFETY: as above.
        unsafe { vmi_system_v!(FlushTlb, "rdi" = flags.bits()) };
    }

    #[inline(always)]
    fn announce_table(frame: PhysFrame, level: Level) {
        tables::announce(frame, level);
    }

    #[inline(always)]
    fn release_table(frame: PhysFrame, level: Level) {
        tables::release(frame, level);
    }

    #[inline(always)]
    fn set_entry(slot: &AtomicU64, entry: Entry, level: Level) {
        tables::set(slot, entry, level);
    }

    #[inline(always)]
    fn set_entry_in_batch(slot: &AtomicU64, entry: Entry) {
        tables::set(slot, entry, Level::LEAF);
    }

    #[inline(always)]
    fn batch<R>(work: impl FnOnce() -> R) -> R {
        tables::batch(work)
    }

    #[inline(always)]
    fn begin_switch() {
        tables::begin_switch();
    }

    #[inline(always)]
    fn end_switch() {
        tables::end_switch();
    }

    fn adopt_tables(root: PhysFrame, memory_end: PhysAddr) {
        tables::adopt(root, memory_end);
    }

    fn beside_image() -> impl IntoIterator<Item = (VirtAddr, PhysRange, Protection)> {
        rom::placed().into_iter().flat_map(|placed| placed.mappings())
    }

    fn enable_apic(memory: u64) -> Result<(), Unusable> {
        cpus::bind(memory)
    }

    #[inline(always)]
    fn read_apic(memory: u64, register: Register) -> u32 {
        let value: u32;
        // SAFETY: the registers are mapped there.
        unsafe { vmi_system_v!(ApicRead, "rdi" = memory + register.offset(); value) };
        value
    }

    #[inline(always)]
    fn write_apic(memory: u64, register: Register, value: u32) {
        // SAFETY: the registers are mapped there.
        unsafe { vmi_system_v!(ApicWrite, "rdi" = memory + register.offset(), "esi" = value) };
    }

    #[inline(always)]
    unsafe fn in8(port: u16) -> u8 {
        let value: u8;
        // SAFETY: as the caller promised.
        unsafe { vmi!(Inb, in("dx") port, out("al") value) };
        value
    }

    #[inline(always)]
    unsafe fn in16(port: u16) -> u16 {
        let value: u16;
        // SAFETY: as the caller promised.
        unsafe { vmi!(Inw, in("dx") port, out("ax") value) };
        value
    }

    #[inline(always)]
    unsafe fn in32(port: u16) -> u32 {
        let value: u32;
        // SAFETY: as the caller promised.
        unsafe { vmi!(Inl, in("dx") port, out("eax") value) };
        value
    }

    #[inline(always)]
    unsafe fn out8(port: u16, value: u8) {
        // SAFETY: as the caller promised.
        unsafe { vmi!(Outb, in("dx") port, in("al") value) };
    }

    #[inline(always)]
    unsafe fn out16(port: u16, value: u16) {
        // SAFETY: as the caller promised.
        unsafe { vmi!(Outw, in("dx") port, in("ax") value) };
    }

    #[inline(always)]
    unsafe fn out32(port: u16, value: u32) {
        // SAFETY: as the caller promised.
        unsafe { vmi!(Outl, in("dx") port, in("eax") value) };
    }

    fn find_rates(_: Sources) -> Result<(), Unusable> {
        if rom::placed().is_some_and(|placed| !placed.found.known_device) {
            log::warn!("the VMI ROM names an unknown vendor or device");
        }
        time::find_rates()
    }

    fn enable_timer() {
        time::enable_timer();
    }

    #[inline(always)]
    fn set_timer(left: Nanoseconds) {
        time::set_timer(left);
    }

    fn wall_clock() -> Option<Nanoseconds> {
        time::wall_clock()
    }

    fn stolen() -> Nanoseconds {
        time::stolen()
    }

    unsafe fn set_start(apic: u32, _: PhysAddr, start: &SecondaryState) -> Option<u8> {
        // SAFETY: as the caller promised.
        unsafe { cpus::set_start(apic, start) }
    }

    fn restart() {
        // SAFETY: the machine is to be restarted.
        unsafe { vmi_system_v!(Reboot, "rdi" = RebootKind::Hard as u64) };
    }

    fn power_off() {
        // SAFETY: the machine is to be switched off.
        unsafe { vmi_system_v!(Shutdown) };
    }
}
