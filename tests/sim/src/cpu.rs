//! The CPU a hook runs on.

use core::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use platform::{Cpu, CpuLocal, ExtendedState, IrqState, Kernel, TrapFrame, UserBases, VirtAddr};

use crate::pending::{deliver, is_pending};
use crate::state::{CpuState, NEVER, current, discovered, here, here_disabled, loose_irq, violation};
use crate::{user, wait};

/// One thread a CPU.
#[derive(Debug)]
pub struct SimCpu<K>(PhantomData<fn() -> K>);

/// Bytes of an extended state: a mark, the one register, and room that nobody may count on.
const EXTENDED_BYTES: usize = 640;
const EXTENDED_MARK: u64 = 0x7665_6374_6f72_2121;
/// The register of a new program.
const EXTENDED_RESET: u64 = 0;

const ARCH_SET_GS: libc::c_int = 0x1001;

/// Sets this thread's GS base.
fn set_gs(base: u64) {
    // SAFETY: nothing on the build machine uses GS but the code under test, which expects exactly this base.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
    assert_eq!(result, 0, "arch_prctl(ARCH_SET_GS): {}", std::io::Error::last_os_error());
}

/// Gives a CPU that has not called [`Cpu::set_local`] yet something harmless at GS:0.
pub fn set_placeholder(cpu: &CpuState) {
    set_gs(Box::leak(Box::new(CpuLocal::new(cpu.id))) as *mut CpuLocal as u64);
}

/// Makes `local` the private data of `cpu`, which is this thread.
pub fn adopt_local(cpu: &CpuState, local: *mut CpuLocal) {
    // SAFETY: the kernel gave the structure away for ever; the other fields are not touched.
    unsafe { (&raw mut (*local).this).write(VirtAddr(local as u64)) };
    set_gs(local as u64);
    cpu.local.store(local, SeqCst);
}

fn check_area(hook: &str, area: ExtendedState) {
    if !area.0.0.is_multiple_of(64) {
        violation(format!("{hook}: {:?} is not aligned to 64", area.0));
    }
}

fn check_base(hook: &str, base: VirtAddr) {
    if base.0 >= crate::memory::USER_TOP {
        violation(format!("{hook}: {base:?} is no user address"));
    }
}

#[platform::backend]
impl<K: Kernel> Cpu for SimCpu<K> {
    fn set_local(local: &'static mut CpuLocal) {
        let cpu = here_disabled("Cpu::set_local");
        if local.cpu != cpu.id {
            violation(format!("Cpu::set_local on CPU {} with the data of CPU {}", cpu.id.0, local.cpu.0));
        }
        let local: *mut CpuLocal = local;
        let before = cpu.local.load(SeqCst);
        if !before.is_null() && before != local {
            violation(format!("Cpu::set_local was called twice on CPU {}", cpu.id.0));
        }
        adopt_local(cpu, local);
    }

    fn irq_disable() {
        match current() {
            Some(_) => here("Cpu::irq_disable").irq_enabled.store(false, SeqCst),
            None => drop(loose_irq(false)),
        }
    }

    fn irq_enable() {
        if current().is_none() {
            loose_irq(true);
            return;
        }
        let cpu = here("Cpu::irq_enable");
        cpu.irq_enabled.store(true, SeqCst);
        if is_pending(cpu) {
            deliver("Cpu::irq_enable");
        }
    }

    fn irq_save() -> IrqState {
        IrqState(u64::from(match current() {
            Some(_) => here("Cpu::irq_save").irq_enabled.swap(false, SeqCst),
            None => loose_irq(false),
        }))
    }

    fn irq_restore(state: IrqState) {
        match state.0 {
            0 => Self::irq_disable(),
            1 => Self::irq_enable(),
            other => violation(format!("Cpu::irq_restore: {other} is no state of irq_save")),
        }
    }

    fn wait_for_interrupt() {
        let cpu = here_disabled("Cpu::wait_for_interrupt");
        cpu.irq_enabled.store(true, SeqCst);
        while deliver("Cpu::wait_for_interrupt") == 0 {
            wait::wait(cpu, NEVER, true);
        }
    }

    fn halt() -> ! {
        let cpu = here("Cpu::halt");
        cpu.irq_enabled.store(false, SeqCst);
        wait::halt(cpu)
    }

    fn set_kernel_stack(top: VirtAddr) {
        let cpu = here_disabled("Cpu::set_kernel_stack");
        let local = cpu.local.load(SeqCst);
        if local.is_null() {
            violation("Cpu::set_kernel_stack was called before Cpu::set_local".to_owned());
        }
        if !top.0.is_multiple_of(16) || top.0 == 0 {
            violation(format!("Cpu::set_kernel_stack: {top:?} is no top of a stack"));
        }
        // SAFETY: the field belongs to this hook, and `local` lives for ever.
        unsafe { (&raw mut (*local).kernel_stack).write(top) };
    }

    fn begin_switch() {
        let cpu = here_disabled("Cpu::begin_switch");
        if cpu.switching.swap(true, SeqCst) {
            violation("Cpu::begin_switch: a change of tasks is under way".to_owned());
        }
    }

    fn end_switch() {
        let cpu = here_disabled("Cpu::end_switch");
        if !cpu.switching.swap(false, SeqCst) {
            violation("Cpu::end_switch: no change of tasks is under way".to_owned());
        }
    }

    fn enter_user(frame: &TrapFrame) -> ! {
        here_disabled("Cpu::enter_user");
        user::return_to_user(frame)
    }

    fn user_bases() -> UserBases {
        let cpu = here_disabled("Cpu::user_bases");
        UserBases { fs: VirtAddr(cpu.user_fs.load(SeqCst)), gs: VirtAddr(cpu.user_gs.load(SeqCst)) }
    }

    fn set_user_bases(bases: UserBases) {
        let cpu = here_disabled("Cpu::set_user_bases");
        check_base("Cpu::set_user_bases", bases.fs);
        check_base("Cpu::set_user_bases", bases.gs);
        cpu.user_fs.store(bases.fs.0, SeqCst);
        cpu.user_gs.store(bases.gs.0, SeqCst);
    }

    fn extended_state_bytes() -> usize {
        drop(discovered("Cpu::extended_state_bytes"));
        EXTENDED_BYTES
    }

    unsafe fn init_extended(area: ExtendedState) {
        check_area("Cpu::init_extended", area);
        // SAFETY: the caller promises a writable, aligned area of EXTENDED_BYTES.
        unsafe {
            area.0.as_mut_ptr::<u8>().write_bytes(0, EXTENDED_BYTES);
            area.0.as_mut_ptr::<[u64; 2]>().write([EXTENDED_MARK, EXTENDED_RESET]);
        }
    }

    unsafe fn save_extended(area: ExtendedState) {
        let cpu = here("Cpu::save_extended");
        check_area("Cpu::save_extended", area);
        // SAFETY: the caller promises a writable, aligned area of EXTENDED_BYTES.
        unsafe { area.0.as_mut_ptr::<[u64; 2]>().write([EXTENDED_MARK, cpu.vector.load(SeqCst)]) };
    }

    unsafe fn restore_extended(area: ExtendedState) -> bool {
        let cpu = here("Cpu::restore_extended");
        check_area("Cpu::restore_extended", area);
        // SAFETY: the caller promises a readable, aligned area of EXTENDED_BYTES.
        let [mark, register] = unsafe { area.0.as_ptr::<[u64; 2]>().read() };
        let valid = mark == EXTENDED_MARK;
        cpu.vector.store(if valid { register } else { EXTENDED_RESET }, SeqCst);
        valid
    }

    fn user_access_begin() {
        if here("Cpu::user_access_begin").user_access.swap(true, SeqCst) {
            violation("Cpu::user_access_begin does not nest".to_owned());
        }
    }

    fn user_access_end() {
        here("Cpu::user_access_end").user_access.store(false, SeqCst);
    }
}
