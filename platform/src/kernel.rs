//! What the platform calls upward.

use crate::{BootInfo, CpuId, Exception, Interrupt, PhysFrame, TrapFrame};

/// The kernel, as the platform sees it. Backends are generic over it, and so are their entry stubs: the way up is bound
/// at compile time like the way down.
///
/// Every entry from user mode or an interrupt runs on the current CPU's kernel stack with interrupts disabled, GS:0 at
/// [`crate::CpuLocal`], the direction flag clear and user memory out of reach ([`crate::Cpu::user_access_begin`]); it
/// must return with interrupts disabled. What the kernel has written to the frame is what the interrupted context
/// continues with.
pub trait Kernel: Sized + 'static {
    /// Entered once, on CPU 0, with interrupts disabled and paging as [`BootInfo`] says.
    fn boot(info: &'static BootInfo) -> !;

    /// Entered once on each CPU started by [`crate::Smp::start`], on the stack and with the private data given there,
    /// interrupts disabled, the kernel's own translations active.
    fn secondary(cpu: CpuId) -> !;

    /// A system call by the 64-bit `syscall` instruction: number in `rax`, arguments in `rdi`, `rsi`, `rdx`, `r10`,
    /// `r8`, `r9`; the result goes to `rax`. `rcx` and `r11` hold what the instruction put there.
    fn system_call(frame: &mut TrapFrame);

    /// An exception in user mode or in the kernel.
    fn exception(exception: Exception, frame: &mut TrapFrame);

    /// An interrupt.
    fn interrupt(interrupt: Interrupt, frame: &mut TrapFrame);

    /// A frame for a translation table, or none if memory has run out. Content undefined. Called by paging hooks only,
    /// in the context of their caller.
    fn allocate_table_frame() -> Option<PhysFrame>;

    /// Gives back a frame of [`Self::allocate_table_frame`] that no CPU walks any more.
    fn free_table_frame(frame: PhysFrame);
}
