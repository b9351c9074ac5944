//! The CPUs: their private data, and work given to them.

use alloc::boxed::Box;
use alloc::vec;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use platform::{CpuId, CpuLocal, CpuSet, MAX_CPUS, Message, SecondaryStart, StartError, VirtAddr};

use crate::events::Events;
use crate::hook::{cpu, smp};
use crate::user::Excursion;
use crate::wait;

const STACK_BYTES: usize = 64 << 10;

/// What is done on a CPU.
type Work = &'static (dyn Fn() + Sync);

/// Everything kept for one CPU. The head is shared with the platform.
#[repr(C)]
pub struct PerCpu {
    local: UnsafeCell<CpuLocal>,
    /// What has been delivered here.
    pub events: Events,
    /// The way back from user mode.
    pub excursion: Excursion,
    work: spin::Mutex<Option<Work>>,
    busy: AtomicBool,
}

// SAFETY: the head is the platform's and only looked at for the number, which never changes; an excursion is touched
// on its own CPU only; the rest is atomics and locks.
unsafe impl Sync for PerCpu {}

impl PerCpu {
    const fn new(cpu: CpuId) -> Self {
        Self {
            local: UnsafeCell::new(CpuLocal::new(cpu)),
            events: Events::new(),
            excursion: Excursion::new(),
            work: spin::Mutex::new(None),
            busy: AtomicBool::new(false),
        }
    }
}

static BOOT_CPU: PerCpu = PerCpu::new(CpuId(0));
static CPUS: [AtomicPtr<PerCpu>; MAX_CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Makes the boot CPU's data current; the first thing done on it.
pub fn init_boot_cpu() {
    CPUS[0].store((&raw const BOOT_CPU).cast_mut(), Ordering::Release);
    // SAFETY: runs once, before anything else uses the head.
    cpu::set_local(unsafe { &mut *BOOT_CPU.local.get() });
    ONLINE.store(1, Ordering::Release);
}

/// Starts a CPU and waits until it is ready for work.
pub fn start(cpu: CpuId) -> Result<(), StartError> {
    let data: &'static PerCpu = Box::leak(Box::new(PerCpu::new(cpu)));
    CPUS[cpu.index()].store((&raw const *data).cast_mut(), Ordering::Release);
    // SAFETY: the CPU does not run yet, and nobody else looks at the head.
    let local = unsafe { &mut *data.local.get() };
    smp::start(cpu, SecondaryStart { local, stack: stack() })?;
    wait::until("a CPU to come up", || online().contains(cpu));
    Ok(())
}

/// The top of a new stack, which stays for ever.
pub fn stack() -> VirtAddr {
    let stack = Box::leak(vec![0u128; STACK_BYTES / 16].into_boxed_slice());
    VirtAddr(stack.as_ptr_range().end as u64)
}

/// A started CPU does what it is given, and waits for interrupts otherwise.
pub fn work(me: CpuId) -> ! {
    ONLINE.fetch_or(CpuSet::one(me).bits(), Ordering::AcqRel);
    loop {
        cpu::irq_disable();
        let work = this().work.lock().take();
        match work {
            Some(work) => {
                cpu::irq_enable();
                work();
                this().busy.store(false, Ordering::Release);
            }
            None => cpu::wait_for_interrupt(),
        }
    }
}

/// CPUs that are up.
pub fn online() -> CpuSet {
    CpuSet::from_bits(ONLINE.load(Ordering::Acquire))
}

/// CPUs that are up, but for this one.
pub fn others() -> CpuSet {
    online().without(id())
}

/// This CPU's data.
pub fn this() -> &'static PerCpu {
    let data: *const PerCpu;
    // SAFETY: GS:0 is the data's address on every platform once the CPU has been given it.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) data, options(nostack, preserves_flags, readonly));
        &*data
    }
}

/// This CPU's number.
pub fn id() -> CpuId {
    // SAFETY: the number never changes.
    unsafe { (*this().local.get()).cpu }
}

/// The data of a CPU that has been started.
pub fn of(cpu: CpuId) -> &'static PerCpu {
    let data = CPUS[cpu.index()].load(Ordering::Acquire);
    assert!(!data.is_null(), "CPU {} was never started", cpu.0);
    // SAFETY: an address stored there leads to data that lives for ever.
    unsafe { &*data }
}

/// Runs `work` on each of `cpus` (not this one) while `meanwhile` runs here; returns when all are done.
pub fn with_others<R>(cpus: CpuSet, work: &(dyn Fn() + Sync), meanwhile: impl FnOnce() -> R) -> R {
    // SAFETY: nobody uses it any more when this function returns.
    let work = unsafe { core::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
    for cpu in cpus.iter() {
        let other = of(cpu);
        other.busy.store(true, Ordering::Relaxed);
        let state = cpu::irq_save();
        *other.work.lock() = Some(work);
        cpu::irq_restore(state);
    }
    if !cpus.is_empty() {
        smp::send(cpus, Message::Reschedule);
    }
    let result = meanwhile();
    wait::until("the other CPUs to finish", || !cpus.iter().any(|cpu| of(cpu).busy.load(Ordering::Acquire)));
    result
}

/// Runs `work` on every CPU at the same time.
pub fn everywhere(work: &(dyn Fn() + Sync)) {
    with_others(others(), work, work);
}

/// Stops all other CPUs for ever.
pub fn stop_others() {
    let others = others();
    if !others.is_empty() {
        smp::send(others, Message::Stop);
    }
}
