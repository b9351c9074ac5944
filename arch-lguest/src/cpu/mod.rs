//! The CPU this code runs on.

pub(crate) mod extended_state;

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use platform::{CpuLocal, ExtendedState, IrqState, Kernel, TrapFrame, UserBases, VirtAddr};

use crate::data::DATA;
use crate::{host, irq, ring};

/// [`platform::Cpu`] of an lguest guest.
#[derive(Debug)]
pub struct LguestCpu<K>(PhantomData<K>);

/// Where a system call starts to push: eight below the kernel stack's top, so that the stack is aligned once the
/// registers are on it.
pub(crate) static SYSTEM_CALL_STACK: AtomicU64 = AtomicU64::new(0);

#[platform::backend]
impl<K: Kernel> platform::Cpu for LguestCpu<K> {
    fn set_local(local: &'static mut CpuLocal) {
        let local: *mut CpuLocal = local;
        // SAFETY: the caller gives the structure to this CPU for ever.
        unsafe { (*local).this = VirtAddr(local as u64) };
        DATA.kernel_gsbase.store(local as u64, Relaxed);
        // SAFETY: the processor has the instruction (`ABI.md`), and the address is the kernel's own.
        unsafe { asm!("wrgsbase {}", in(reg) local, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn irq_disable() {
        irq::disable();
    }

    #[inline(always)]
    fn irq_enable() {
        irq::enable();
    }

    #[inline(always)]
    fn irq_save() -> IrqState {
        let state = irq::flag();
        irq::disable();
        IrqState(state.into())
    }

    #[inline(always)]
    fn irq_restore(state: IrqState) {
        if state.0 != 0 {
            irq::enable();
        } else {
            irq::disable();
        }
    }

    #[inline(always)]
    fn wait_for_interrupt() {
        host::wait_for_interrupt();
    }

    #[cold]
    fn halt() -> ! {
        irq::disable();
        host::halt()
    }

    #[inline(always)]
    fn set_kernel_stack(top: VirtAddr) {
        // SAFETY: GS:0 is this CPU's `CpuLocal`.
        unsafe {
            asm!("mov gs:[{}], {}", const offset_of!(CpuLocal, kernel_stack), in(reg) top.0,
                 options(nostack, preserves_flags));
        }
        DATA.kernel_stack.store(top.0, Relaxed);
        SYSTEM_CALL_STACK.store(top.0 - 8, Relaxed);
    }

    /// All is set at once.
    #[inline(always)]
    fn begin_switch() {}

    #[inline(always)]
    fn end_switch() {}

    fn enter_user(frame: &TrapFrame) -> ! {
        // SAFETY: the frame is a user context, and interrupts are disabled.
        unsafe { crate::trap::entry::enter_user(frame) }
    }

    #[inline(always)]
    fn user_bases() -> UserBases {
        let fs;
        // SAFETY: the processor has the instruction (`ABI.md`).
        unsafe { asm!("rdfsbase {}", out(reg) fs, options(nomem, nostack, preserves_flags)) };
        UserBases { fs: VirtAddr(fs), gs: VirtAddr(DATA.user_gsbase.load(Relaxed)) }
    }

    #[inline(always)]
    fn set_user_bases(bases: UserBases) {
        // SAFETY: as above, and the address is canonical.
        unsafe { asm!("wrfsbase {}", in(reg) bases.fs.0, options(nostack, preserves_flags)) };
        DATA.user_gsbase.store(bases.gs.0, Relaxed);
    }

    fn extended_state_bytes() -> usize {
        arch_x86::extended_state::bytes()
    }

    unsafe fn init_extended(area: ExtendedState) {
        // SAFETY: the hook's caller promised it.
        unsafe { arch_x86::extended_state::init(area) };
    }

    unsafe fn save_extended(area: ExtendedState) {
        // SAFETY: the hook's caller promised it.
        unsafe { arch_x86::extended_state::save(area) };
    }

    unsafe fn restore_extended(area: ExtendedState) -> bool {
        // SAFETY: the hook's caller promised it.
        unsafe { arch_x86::extended_state::restore(area) }
    }

    /// User memory is as the ring says it will be: the ring is run first.
    #[inline(always)]
    fn user_access_begin() {
        if ring::is_waiting() {
            ring::run();
        }
    }

    #[inline(always)]
    fn user_access_end() {}
}
