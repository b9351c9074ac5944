//! The CPU this code runs on.

pub(crate) mod control;
pub(crate) mod extended_state;
pub(crate) mod features;
pub(crate) mod local;
pub(crate) mod segments;
pub(crate) mod smap;

use core::arch::asm;
use core::marker::PhantomData;

use platform::{CpuLocal, ExtendedState, IrqState, Kernel, TrapFrame, UserBases, VirtAddr};
use x86_64::registers::model_specific::{GsBase, KernelGsBase, Msr};

use features::{Features, has};
use local::Word;
use segments::CpuTables;
use smap::smap_site;

const IA32_FS_BASE: Msr = Msr::new(0xc000_0100);
const IA32_KERNEL_GS_BASE: Msr = Msr::new(0xc000_0102);

/// [`platform::Cpu`] of a bare PC.
#[derive(Debug)]
pub struct NativeCpu<K>(PhantomData<K>);

/// The interrupt flag in RFLAGS.
const INTERRUPT_FLAG: u64 = TrapFrame::INTERRUPT_FLAG;

#[platform::backend]
impl<K: Kernel> platform::Cpu for NativeCpu<K> {
    fn set_local(local: &'static mut CpuLocal) {
        let local: *mut CpuLocal = local;
        // SAFETY: the caller gives the structure to this CPU for ever.
        let cpu = unsafe {
            (*local).this = VirtAddr(local as u64);
            (*local).platform[Word::Deadline as usize] = u64::MAX;
            (*local).platform[Word::Programmed as usize] = u64::MAX;
            (*local).platform[Word::Destination as usize] = u64::MAX;
            (*local).cpu
        };
        let tables = segments::tables(cpu);
        // SAFETY: this CPU loaded its tables before it entered the kernel; interrupts are disabled.
        unsafe {
            (*local).platform[Word::TaskState as usize] = CpuTables::tss(tables);
            CpuTables::set_local(tables, local);
        }
        KernelGsBase::write(x86_64::VirtAddr::zero());
        GsBase::write(x86_64::VirtAddr::new(local as u64));
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
    fn irq_restore(state: IrqState) {
        if state.0 & INTERRUPT_FLAG != 0 {
            Self::irq_enable();
        } else {
            Self::irq_disable();
        }
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
    fn set_kernel_stack(top: VirtAddr) {
        local::set_kernel_stack(top);
    }

    fn enter_user(frame: &TrapFrame) -> ! {
        // SAFETY: the frame is a user context, the stack is this CPU's kernel stack, interrupts are disabled.
        unsafe { crate::trap::entry::enter_user(frame) }
    }

    #[inline(always)]
    fn user_bases() -> UserBases {
        if has(Features::FSGSBASE) {
            let (fs, gs);
            // SAFETY: enabled in CR4; GS is the kernel's again afterwards, and interrupts are disabled meanwhile.
            unsafe {
                asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) fs, out(reg) gs,
                     options(nostack, preserves_flags));
            }
            return UserBases { fs: VirtAddr(fs), gs: VirtAddr(gs) };
        }
        // SAFETY: the registers exist on every 64-bit CPU.
        unsafe { UserBases { fs: VirtAddr(IA32_FS_BASE.read()), gs: VirtAddr(IA32_KERNEL_GS_BASE.read()) } }
    }

    #[inline(always)]
    fn set_user_bases(bases: UserBases) {
        if has(Features::FSGSBASE) {
            // SAFETY: enabled in CR4, the addresses are canonical; as in `user_bases`.
            unsafe {
                asm!("wrfsbase {}", "swapgs", "wrgsbase {}", "swapgs", in(reg) bases.fs.0, in(reg) bases.gs.0,
                     options(nostack, preserves_flags));
            }
            return;
        }
        // SAFETY: the addresses are canonical.
        unsafe {
            let (mut fs, mut gs) = (IA32_FS_BASE, IA32_KERNEL_GS_BASE);
            fs.write(bases.fs.0);
            gs.write(bases.gs.0);
        }
    }

    fn extended_state_bytes() -> usize {
        extended_state::bytes()
    }

    unsafe fn init_extended(area: ExtendedState) {
        // SAFETY: the hook's caller promised it.
        unsafe { extended_state::init(area) };
    }

    unsafe fn save_extended(area: ExtendedState) {
        // SAFETY: the hook's caller promised it.
        unsafe { extended_state::save(area) };
    }

    unsafe fn restore_extended(area: ExtendedState) -> bool {
        // SAFETY: the hook's caller promised it.
        unsafe { extended_state::restore(area) }
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
}
