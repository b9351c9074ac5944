//! The sensitive operations of a PC: everything that only its most privileged code may do, or that would show it that
//! it is not.
//!
//! The rest of this crate knows what a PC is made of and is generic over how these operations are done: by the bare
//! instructions ([`crate::bare::Bare`]), or by calls to a hypervisor that shows its guests a PC.
//!
//! Unless a function says otherwise it may be called in any context and neither sleeps nor changes the interrupt flag.
//! Code that must be assembly writes a sensitive instruction as `sensitive!("swapgs")`, which is the instruction itself
//! or, where the machine is [`Machine::RECORDED`], a site that the machine patches.

use core::arch::x86_64::CpuidResult;
use core::sync::atomic::AtomicU64;

use platform::{
    IrqState, Kernel, Nanoseconds, PhysAddr, PhysFrame, PhysRange, Protection, Unusable, VirtAddr,
};
use x86_64::structures::DescriptorTablePointer;

use crate::boot::memory_map::MemoryMap;
use crate::cpu::features::Features;
use crate::interrupts::local_apic::Register;
use crate::paging::entry::{Entry, Level};
use crate::time::Sources;

/// Which translations [`Machine::flush_translations`] drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Those of the active space, but for global pages.
    Space,
    /// All.
    Everything,
}

/// What a CPU starts with: 64-bit mode, interrupts disabled, all other general registers zero.
#[derive(Clone, Copy, Debug)]
pub struct SecondaryState {
    /// CR3
    pub cr3: u64,
    /// CR4
    pub cr4: u64,
    /// CR0
    pub cr0: u64,
    /// IA32_EFER
    pub efer: u64,
    /// RSP
    pub stack: VirtAddr,
    /// RIP
    pub entry: VirtAddr,
    /// Its private data, which it will find by GS.
    pub local: VirtAddr,
    /// Its table of segments.
    pub gdt: DescriptorTablePointer,
}

/// How the sensitive operations are done.
pub trait Machine: Sized + 'static {
    /// [`platform::Platform::NAME`].
    const NAME: &'static str;
    /// Features that are left alone whatever CPUID says.
    const UNUSED: Features;
    /// Sensitive instructions in assembly are recorded sites.
    const RECORDED: bool;

    // The beginning.

    /// Makes the other operations usable, on the first page tables, on the boot CPU. It may take memory from `memory`,
    /// and `low_page`, a page below 1 MiB, is kept for starting CPUs.
    fn begin(memory: &mut MemoryMap, low_page: Option<PhysAddr>) -> Result<(), Unusable>;
    /// Says why the boot cannot go on and ends the machine, though no other operation can be used yet.
    fn refuse<K: Kernel>(reason: Unusable) -> !;

    // The interrupt flag.

    /// `cli`
    fn irq_disable();
    /// `sti`
    fn irq_enable();
    /// `pushf; cli; pop`
    fn irq_save() -> IrqState;
    /// `sti; hlt`: no interrupt slips in between.
    fn wait_for_interrupt();
    /// `cli; hlt` in a loop.
    fn halt() -> !;

    // The processor's registers.

    /// `cpuid`
    fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult;
    /// `rdmsr`
    ///
    /// # Safety
    /// The register exists.
    unsafe fn read_msr(register: u32) -> u64;
    /// `wrmsr`
    ///
    /// # Safety
    /// The register takes the value, and nothing that runs relies on the old one.
    unsafe fn write_msr(register: u32, value: u64);
    /// `mov cr0, …`
    ///
    /// # Safety
    /// Nothing that runs relies on what changes.
    unsafe fn set_cr0(value: u64);
    /// `mov …, cr2`: the address of the last page fault.
    fn cr2() -> u64;
    /// `mov cr3, …`
    ///
    /// # Safety
    /// The space maps all that the kernel uses.
    unsafe fn set_cr3(value: u64);
    /// `mov cr4, …`
    ///
    /// # Safety
    /// The CPU has what is enabled, and nothing that runs relies on what changes.
    unsafe fn set_cr4(value: u64);
    /// `xsetbv` with ECX 0.
    ///
    /// # Safety
    /// XSAVE is enabled, and the CPU supports the combination.
    unsafe fn set_xcr0(value: u64);
    /// `stac`, where the CPU has it.
    fn user_access_begin();
    /// `clac`, where the CPU has it.
    fn user_access_end();

    // Descriptor tables and ways in.

    /// Makes `syscall` enter at `entry`, with the selectors of IA32_STAR and the flags of IA32_FMASK.
    ///
    /// # Safety
    /// The code at `entry` takes what the processor delivers.
    unsafe fn set_system_call(entry: VirtAddr, selectors: u64, masked: u64);

    /// `lgdt`
    ///
    /// # Safety
    /// The table stays for ever and has what the segment registers name.
    unsafe fn load_gdt(table: &DescriptorTablePointer);
    /// `lidt`
    ///
    /// # Safety
    /// The table stays for ever.
    unsafe fn load_idt(table: &DescriptorTablePointer);
    /// `ltr`
    ///
    /// # Safety
    /// The descriptor is a task state segment's, which stays for ever.
    unsafe fn load_task_register(selector: u16);
    /// Sets RSP0 in this CPU's task state segment.
    ///
    /// # Safety
    /// `task_state` is the address of the loaded one, and `top` that of a stack.
    unsafe fn set_kernel_stack(task_state: u64, top: VirtAddr);
    /// Whether `rip`, where the kernel was stopped by an exception, is that of a return to user mode.
    fn is_user_return(rip: u64) -> bool;

    // Translations.

    /// `invlpg`
    fn invalidate_page(page: VirtAddr);
    /// Drops translations on this CPU. Context: interrupts disabled.
    fn flush_translations(scope: Scope);
    /// `frame` is about to be linked as a table of `level`; what it holds is in place.
    fn announce_table(frame: PhysFrame, level: Level);
    /// `frame` is no table of `level` any more: nothing leads to it.
    fn release_table(frame: PhysFrame, level: Level);
    /// Writes an entry of an announced table.
    fn set_entry(slot: &AtomicU64, entry: Entry, level: Level);
    /// As [`Self::set_entry`] within [`Self::batch`], for a leaf that is not read again before the batch ends.
    fn set_entry_in_batch(slot: &AtomicU64, entry: Entry);
    /// Does `work`, whose [`Self::set_entry_in_batch`] have taken effect at its end. `work` allocates nothing.
    fn batch<R>(work: impl FnOnce() -> R) -> R;
    /// Begins a change from one task to another: until [`Self::end_switch`] the address space, the segment bases and
    /// the kernel stack may lag behind. Context: interrupts disabled.
    fn begin_switch();
    /// Ends it: all is as it was set. Context: interrupts disabled.
    fn end_switch();
    /// `root` and the tables below it, which the first page tables show at their own addresses and in the direct map,
    /// are complete and about to be loaded for the first time. Physical memory ends at `memory_end`.
    fn adopt_tables(root: PhysFrame, memory_end: PhysAddr);
    /// What must be mapped beside the image, and where.
    fn beside_image() -> impl IntoIterator<Item = (VirtAddr, PhysRange, Protection)>;

    // Devices.

    /// Makes this CPU's local APIC work, in x2APIC mode if that is a feature in use; else its registers are mapped at
    /// `memory`. GS is at this CPU's private data. Context: interrupts disabled, once a CPU.
    fn enable_apic(memory: u64) -> Result<(), Unusable>;
    /// Reads a register of the local APIC; its registers are mapped at `memory`, or not if that is 0.
    fn read_apic(memory: u64, register: Register) -> u32;
    /// Writes a register of the local APIC, as above.
    fn write_apic(memory: u64, register: Register, value: u32);
    /// `in`, eight bits.
    ///
    /// # Safety
    /// Reading does no harm. So for the other widths.
    unsafe fn in8(port: u16) -> u8;
    /// `in`, sixteen bits.
    ///
    /// # Safety
    /// As above.
    unsafe fn in16(port: u16) -> u16;
    /// `in`, 32 bits.
    ///
    /// # Safety
    /// As above.
    unsafe fn in32(port: u16) -> u32;
    /// `out`, eight bits.
    ///
    /// # Safety
    /// Writing does what is wanted. So for the other widths.
    unsafe fn out8(port: u16, value: u8);
    /// `out`, sixteen bits.
    ///
    /// # Safety
    /// As above.
    unsafe fn out16(port: u16, value: u16);
    /// `out`, 32 bits.
    ///
    /// # Safety
    /// As above.
    unsafe fn out32(port: u16, value: u32);

    // Time.

    /// Finds the rates of the time stamp counter ([`crate::time::tsc::set_rate`]) and of the timer. Context: interrupts
    /// disabled, the timer free.
    fn find_rates(sources: Sources) -> Result<(), Unusable>;
    /// Sets this CPU's timer up, with nothing to come. Its vector is [`crate::interrupts::vectors::TIMER`].
    fn enable_timer();
    /// Lets this CPU's timer interrupt once in `left`, not before; it may be early if it cannot reach that far.
    fn set_timer(left: Nanoseconds);
    /// Time since 1970-01-01 00:00 UTC, if there is a clock that knows.
    fn wall_clock() -> Option<Nanoseconds>;
    /// Time for which this CPU was ready to run while something else had the processor, since the boot.
    fn stolen() -> Nanoseconds;

    // CPUs.

    /// Says what the CPU whose APIC's identity is `apic` starts with; returns the vector for its start-up interrupt, or
    /// nothing if it cannot be started. `page` is kept for its first instructions, below 1 MiB.
    ///
    /// # Safety
    /// No other CPU is being started; `start` is such as the kernel's first code there expects.
    unsafe fn set_start(apic: u32, page: PhysAddr, start: &SecondaryState) -> Option<u8>;

    // The end.

    /// Restarts the machine by a way of its own; returns if it has none.
    fn restart();
    /// Switches the machine off by a way of its own; returns if it has none.
    fn power_off();
}
