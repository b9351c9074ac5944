//! The CPU this code runs on.

use crate::{CpuLocal, TrapFrame, VirtAddr};

/// The interrupt flag as it was, for [`Cpu::irq_restore`].
#[must_use = "interrupts stay disabled unless the state is restored"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IrqState(pub u64);

/// The user mode segment bases (Linux's `arch_prctl(2)` FS and GS).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UserBases {
    /// Base of FS: thread-local storage.
    pub fs: VirtAddr,
    /// Base of GS.
    pub gs: VirtAddr,
}

/// Where a task's extended register state is kept: at least [`Cpu::extended_state_bytes`] bytes, aligned to 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtendedState(pub VirtAddr);

/// The CPU this code runs on.
#[crate::part(cpu)]
pub trait Cpu {
    /// Makes `local` this CPU's private data: sets `local.this` and the kernel's GS base.
    ///
    /// Variation of: `wrmsr` to IA32_GS_BASE. Context: once a CPU, interrupts disabled. The structure stays where it
    /// is for ever.
    fn set_local(local: &'static mut CpuLocal);

    /// Disables interrupts. Variation of: `cli`.
    fn irq_disable();

    /// Enables interrupts; one that is pending is delivered at once. Variation of: `sti`.
    fn irq_enable();

    /// Disables interrupts and returns what the flag was. Variation of: `pushf; cli; pop`.
    fn irq_save() -> IrqState;

    /// Sets the interrupt flag to what [`Cpu::irq_save`] found. Variation of: `popf`.
    fn irq_restore(state: IrqState);

    /// Enables interrupts and waits until one has been delivered: no interrupt can slip in between. Returns at once if
    /// one is pending. Variation of: `sti; hlt`, and nothing more. Context: interrupts disabled; returns with them
    /// enabled.
    fn wait_for_interrupt();

    /// Waits for ever with interrupts disabled, taking no processor time. Variation of: `cli; hlt` in a loop.
    fn halt() -> !;

    /// The next entry from user mode on this CPU starts at `top` (16-byte aligned). Variation of: writing TSS.RSP0.
    /// Context: interrupts disabled.
    fn set_kernel_stack(top: VirtAddr);

    /// Begins the change from one task to another: until [`Cpu::end_switch`], what [`crate::Paging::activate`],
    /// [`Cpu::set_kernel_stack`] and [`Cpu::set_user_bases`] set on this CPU may lag behind, so that it can be done at
    /// once. Variation of: `arch_start_context_switch`. Context: interrupts disabled until the end; does not nest.
    fn begin_switch();

    /// All is as it was set since [`Cpu::begin_switch`]. Variation of: `arch_end_context_switch`. Context: interrupts
    /// disabled.
    fn end_switch();

    /// Leaves the kernel for user mode with the registers of `frame`, which is a user context. The kernel stack is
    /// abandoned. Variation of: `iretq`. Context: interrupts disabled.
    fn enter_user(frame: &TrapFrame) -> !;

    /// This CPU's current user segment bases, as set last or as user mode changed them. Variation of: `rdfsbase`, and
    /// `rdgsbase` between two `swapgs`. Context: interrupts disabled.
    fn user_bases() -> UserBases;

    /// Sets the user segment bases; both are canonical addresses of the user half. Variation of: `wrfsbase`, and
    /// `wrgsbase` between two `swapgs`. Context: interrupts disabled.
    fn set_user_bases(bases: UserBases);

    /// Bytes that [`ExtendedState`] takes on this machine. Variation of: CPUID leaf 0xD. After discovery.
    fn extended_state_bytes() -> usize;

    /// Writes the state that a new program starts with (x87, SSE and so on at their reset values, exceptions masked).
    /// Variation of: `fninit` and clearing XSTATE_BV.
    ///
    /// # Safety
    /// `area` is writable for [`Cpu::extended_state_bytes`] bytes and 64-byte aligned.
    unsafe fn init_extended(area: ExtendedState);

    /// Saves this CPU's x87, SSE, AVX… registers. Variation of: `xsave64`. Context: the registers hold user state: the
    /// kernel itself uses none of them.
    ///
    /// # Safety
    /// `area` is writable for [`Cpu::extended_state_bytes`] bytes and 64-byte aligned.
    unsafe fn save_extended(area: ExtendedState);

    /// Loads this CPU's x87, SSE, AVX… registers. A state that the CPU would refuse (a user program may have written
    /// it through a signal frame) returns false, and the registers are then those of [`Cpu::init_extended`].
    /// Variation of: `xrstor64`.
    ///
    /// # Safety
    /// `area` is readable for [`Cpu::extended_state_bytes`] bytes and 64-byte aligned.
    unsafe fn restore_extended(area: ExtendedState) -> bool;

    /// User memory may be accessed until [`Cpu::user_access_end`]. Variation of: `stac`. Does not nest.
    fn user_access_begin();

    /// User memory is out of reach again. Variation of: `clac`.
    fn user_access_end();
}
