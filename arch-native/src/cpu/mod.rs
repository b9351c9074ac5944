//! The CPU this code runs on.

pub(crate) mod control;
pub(crate) mod extended_state;
pub mod features;
pub mod local;
pub(crate) mod segments;
pub(crate) mod smap;

use core::arch::asm;
use core::marker::PhantomData;

use platform::{CpuLocal, ExtendedState, IrqState, Kernel, TrapFrame, UserBases, VirtAddr};
use x86_64::PrivilegeLevel;
use x86_64::instructions::segmentation::{CS, Segment};

use crate::irq::was_enabled;
use crate::machine::Machine;
use crate::sensitive::sensitive;
use features::{Features, has};
use local::Word;
use segments::CpuTables;

const IA32_FS_BASE: u32 = 0xc000_0100;
const IA32_GS_BASE: u32 = 0xc000_0101;
const IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// The privilege level that the kernel has been given. A function of its own, so that an audit finds the one place.
#[cold]
#[inline(never)]
pub fn privilege_level() -> PrivilegeLevel {
    CS::get_reg().rpl()
}

/// [`platform::Cpu`] of a PC.
#[derive(Debug)]
pub struct PcCpu<K, M>(PhantomData<(K, M)>);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Cpu for PcCpu<K, M> {
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
        // SAFETY: this CPU loaded its tables before it entered the kernel; interrupts are disabled, and nothing relies
        // on the segment bases yet.
        unsafe {
            (*local).platform[Word::TaskState as usize] = CpuTables::tss(tables);
            CpuTables::set_local(tables, local);
            M::write_msr(IA32_KERNEL_GS_BASE, 0);
            M::write_msr(IA32_GS_BASE, local as u64);
        }
    }

    #[inline(always)]
    fn irq_disable() {
        M::irq_disable();
    }

    #[inline(always)]
    fn irq_enable() {
        M::irq_enable();
    }

    #[inline(always)]
    fn irq_save() -> IrqState {
        M::irq_save()
    }

    #[inline(always)]
    fn irq_restore(state: IrqState) {
        if was_enabled(state) {
            M::irq_enable();
        } else {
            M::irq_disable();
        }
    }

    #[inline(always)]
    fn wait_for_interrupt() {
        M::wait_for_interrupt();
    }

    #[cold]
    fn halt() -> ! {
        M::halt()
    }

    #[inline(always)]
    fn set_kernel_stack(top: VirtAddr) {
        local::set_kernel_stack::<M>(top);
    }

    #[inline(always)]
    fn begin_switch() {
        M::begin_switch();
    }

    #[inline(always)]
    fn end_switch() {
        M::end_switch();
    }

    fn enter_user(frame: &TrapFrame) -> ! {
        // SAFETY: the frame is a user context, the stack is this CPU's kernel stack, interrupts are disabled.
        unsafe { crate::trap::entry::enter_user::<M>(frame) }
    }

    #[inline(always)]
    fn user_bases() -> UserBases {
        if has(Features::FSGSBASE) {
            let (fs, gs);
            // SAFETY: enabled in CR4; GS is the kernel's again afterwards, and interrupts are disabled meanwhile.
            unsafe {
                asm!("rdfsbase {fs}", sensitive!("swapgs"), "rdgsbase {gs}", sensitive!("swapgs"),
                     fs = out(reg) fs, gs = out(reg) gs, recorded = const M::RECORDED as u32);
            }
            return UserBases { fs: VirtAddr(fs), gs: VirtAddr(gs) };
        }
        // SAFETY: the registers exist on every 64-bit CPU.
        unsafe {
            UserBases {
                fs: VirtAddr(M::read_msr(IA32_FS_BASE)),
                gs: VirtAddr(M::read_msr(IA32_KERNEL_GS_BASE)),
            }
        }
    }

    #[inline(always)]
    fn set_user_bases(bases: UserBases) {
        if has(Features::FSGSBASE) {
            // SAFETY: enabled in CR4, the addresses are canonical; as in `user_bases`.
            unsafe {
                asm!("wrfsbase {fs}", sensitive!("swapgs"), "wrgsbase {gs}", sensitive!("swapgs"),
                     fs = in(reg) bases.fs.0, gs = in(reg) bases.gs.0, recorded = const M::RECORDED as u32);
            }
            return;
        }
        // SAFETY: the addresses are canonical, and the kernel uses neither base.
        unsafe {
            M::write_msr(IA32_FS_BASE, bases.fs.0);
            M::write_msr(IA32_KERNEL_GS_BASE, bases.gs.0);
        }
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

    #[inline(always)]
    fn user_access_begin() {
        M::user_access_begin();
    }

    #[inline(always)]
    fn user_access_end() {
        M::user_access_end();
    }
}
