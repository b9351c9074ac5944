//! Data of each CPU, found through GS.

pub mod calls;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use platform::{CpuId, CpuLocal, CpuSet, MAX_CPUS};

use crate::mm::frames::CpuFrames;
use crate::process::Task;
use crate::sched::RunQueue;
use crate::sync::IrqLock;
use crate::time::{CpuTimers, TimerEvent};

/// Everything the kernel keeps for one CPU. The head is shared with the platform.
#[repr(C)]
pub struct PerCpu {
    local: UnsafeCell<CpuLocal>,
    /// The running task; set by the scheduler alone.
    pub current: AtomicPtr<Task>,
    /// The task in [`Self::current`] should give way at the next return to user mode.
    pub need_resched: AtomicBool,
    /// Tasks ready to run here.
    pub run_queue: IrqLock<RunQueue>,
    /// Timers armed here.
    pub timers: IrqLock<CpuTimers>,
    /// What serves them.
    pub timer_event: TimerEvent,
    /// Free frames kept close. Used with interrupts disabled, by this CPU alone.
    pub frames: IrqLock<CpuFrames>,
    /// Functions other CPUs want run here.
    pub calls: calls::CallQueue,
    /// Interrupts taken, for `/proc/stat`.
    pub interrupts: AtomicU64,
    /// Context switches made, for `/proc/stat`.
    pub switches: AtomicU64,
}

// SAFETY: `local` is written by the platform's entry code and `Cpu::set_kernel_stack` on its own CPU only, and read
// by others only for the CPU's number, which never changes. The other fields are atomics and locks.
unsafe impl Sync for PerCpu {}

const fn assert_head_first() {
    assert!(offset_of!(PerCpu, local) == 0);
}
const _: () = assert_head_first();

impl PerCpu {
    const fn new(cpu: CpuId) -> Self {
        Self {
            local: UnsafeCell::new(CpuLocal::new(cpu)),
            current: AtomicPtr::new(ptr::null_mut()),
            need_resched: AtomicBool::new(false),
            run_queue: IrqLock::new(RunQueue::new()),
            timers: IrqLock::new(CpuTimers::new()),
            timer_event: TimerEvent::new(),
            frames: IrqLock::new(CpuFrames::new()),
            calls: IrqLock::new(VecDeque::new()),
            interrupts: AtomicU64::new(0),
            switches: AtomicU64::new(0),
        }
    }
}

static BOOT_CPU: PerCpu = PerCpu::new(CpuId(0));
static CPUS: [AtomicPtr<PerCpu>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Makes the boot CPU's data current; the first thing done on it.
pub fn init_boot_cpu() {
    // SAFETY: runs once, before anything else uses the boot CPU's data.
    crate::hook::cpu::set_local(unsafe { &mut *BOOT_CPU.local.get() });
    CPUS[0].store((&raw const BOOT_CPU).cast_mut(), Ordering::Release);
    set_online(CpuId(0));
}

/// Makes the data of a CPU about to start. Returns the head for the platform.
pub fn create(cpu: CpuId) -> &'static mut CpuLocal {
    let data: &'static PerCpu = Box::leak(Box::new(PerCpu::new(cpu)));
    crate::time::reserve_timers(data);
    CPUS[cpu.index()].store((&raw const *data).cast_mut(), Ordering::Release);
    // SAFETY: the CPU does not run yet, and nobody else looks at its head.
    unsafe { &mut *data.local.get() }
}

/// Says that a CPU takes part in scheduling.
pub fn set_online(cpu: CpuId) {
    ONLINE.fetch_or(CpuSet::one(cpu).bits(), Ordering::AcqRel);
}

/// CPUs that take part in scheduling.
pub fn online() -> CpuSet {
    CpuSet::from_bits(ONLINE.load(Ordering::Acquire))
}

/// The data of the CPU this runs on. A task may be moved to another CPU whenever interrupts are enabled and it gives
/// way, so whoever must stay on the CPU has interrupts disabled or does not block meanwhile.
#[inline(always)]
pub fn this_cpu() -> &'static PerCpu {
    let data: *const PerCpu;
    // SAFETY: GS:0 holds the address of this CPU's data on every platform from `init_boot_cpu` or `Smp::start` on.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) data, options(nostack, preserves_flags, readonly));
        &*data
    }
}

/// The number of the CPU this runs on.
#[inline(always)]
pub fn cpu_id() -> CpuId {
    let id: u32;
    // SAFETY: as in `this_cpu`; the number lies at GS:16 (`CpuLocal::cpu`).
    unsafe { asm!("mov {0:e}, gs:[16]", out(reg) id, options(nostack, preserves_flags, readonly)) };
    CpuId(id)
}

/// The running task's address, from this CPU's data.
#[inline(always)]
pub fn current_task() -> *const Task {
    let task: *const Task;
    // SAFETY: as in `this_cpu`; one load, so the answer is right even if the task is moved to another CPU around it.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) task, const offset_of!(PerCpu, current),
             options(nostack, preserves_flags, readonly));
    }
    task
}

/// The data of `cpu`, if it has been created.
pub fn of(cpu: CpuId) -> Option<&'static PerCpu> {
    let data = CPUS[cpu.index()].load(Ordering::Acquire);
    // SAFETY: a stored address leads to data that lives for ever.
    unsafe { data.as_ref() }
}
