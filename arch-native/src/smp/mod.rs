//! Other CPUs: started by INIT and start-up interrupts, reached by interprocessor interrupts.

mod synchronize;

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use platform::{CpuId, CpuSet, Kernel, Message, PhysAddr, SecondaryStart, StartError, VirtAddr};

use crate::cpu::segments::{self, CpuTables};
use crate::cpu::{PcCpu, control, extended_state};
use crate::interrupts::local_apic::{self, NmiLines};
use crate::interrupts::vectors;
use crate::machine::{Machine, SecondaryState};
use crate::time::tsc;
use crate::trap::idt;

/// [`platform::Smp`] of a PC.
#[derive(Debug)]
pub struct PcSmp<K, M>(PhantomData<(K, M)>);

/// Page below 1 MiB for the first instructions of a CPU; zero if there is none.
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);
static NMI_LINES: AtomicU8 = AtomicU8::new(0);

/// Remembers the page kept for starting CPUs.
pub fn set_trampoline(page: Option<PhysAddr>) {
    TRAMPOLINE.store(page.map_or(0, |page| page.0), Ordering::Relaxed);
}

/// Remembers which local interrupt lines carry NMI.
pub fn set_nmi_lines(lines: NmiLines) {
    NMI_LINES.store(u8::from(lines.line0) | u8::from(lines.line1) << 1, Ordering::Relaxed);
}

fn nmi_lines() -> NmiLines {
    let bits = NMI_LINES.load(Ordering::Relaxed);
    NmiLines { line0: bits & 1 != 0, line1: bits & 2 != 0 }
}

/// How far the CPU that is being started has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
enum Progress {
    /// None is being started.
    Idle = 0,
    /// It was sent the start-up interrupts.
    Called = 1,
    /// It runs and has taken what it was given: from now on it will enter the kernel.
    Arrived = 2,
    /// It is about to enter the kernel.
    Ready = 3,
    /// It came too late and must stop.
    Abandoned = 4,
    /// It arrived and cannot go on.
    Failed = 5,
}

static PROGRESS: AtomicU32 = AtomicU32::new(Progress::Idle as u32);

fn advance(from: Progress, to: Progress) -> bool {
    PROGRESS.compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

fn is_at(progress: Progress) -> bool {
    PROGRESS.load(Ordering::Acquire) == progress as u32
}

struct Handover(UnsafeCell<Option<(CpuId, SecondaryStart)>>);

// SAFETY: written by CPU 0 before a CPU is called, taken by that CPU once it has arrived.
unsafe impl Sync for Handover {}

static HANDOVER: Handover = Handover(UnsafeCell::new(None));

/// Nanoseconds within which a CPU must answer.
const PATIENCE: u64 = 1_000_000_000;
/// Intel's multiprocessor specification, B.4: how long after INIT the first start-up interrupt may follow, and after that
/// the second. CPUs of this century need no pause after INIT, and emulators none at all.
const AFTER_INIT: u64 = 10_000;
const BEFORE_SECOND_STARTUP: u64 = 200_000;

/// Waits until `done` or for `nanoseconds`; whether it was done.
fn wait(nanoseconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = tsc::ticks();
    let most = tsc::nanosecond().apply_up(nanoseconds);
    loop {
        if done() {
            return true;
        }
        if tsc::ticks().wrapping_sub(start) > most {
            return false;
        }
        core::hint::spin_loop();
    }
}

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Smp for PcSmp<K, M> {
    #[cold]
    fn start(cpu: CpuId, with: SecondaryStart) -> Result<(), StartError> {
        let page = TRAMPOLINE.load(Ordering::Relaxed);
        if page == 0 {
            return Err(StartError::Refused);
        }
        let Some(id) = local_apic::find(cpu).filter(|_| cpu.0 != 0) else {
            return Err(StartError::NoSuchCpu);
        };
        if !make_tables(cpu) {
            return Err(StartError::Refused);
        }
        // First, for one that did not answer an earlier call might answer it now.
        local_apic::send_init::<M>(id);
        let state = SecondaryState {
            cr3: crate::paging::kernel_root().start().0,
            cr4: control::cr4().bits(),
            cr0: control::cr0().bits(),
            efer: control::efer().bits(),
            stack: with.stack,
            entry: VirtAddr(secondary::<K, M> as *const () as u64),
            local: VirtAddr(&raw const *with.local as u64),
            gdt: CpuTables::gdt(segments::tables(cpu)),
        };
        // SAFETY: no other CPU is being started, and the page is kept for this.
        let Some(vector) = (unsafe { M::set_start(id, PhysAddr(page), &state) }) else {
            return Err(StartError::Refused);
        };
        // SAFETY: no CPU is being started, so none reads it.
        unsafe { *HANDOVER.0.get() = Some((cpu, with)) };
        PROGRESS.store(Progress::Called as u32, Ordering::Release);

        wait(AFTER_INIT, || false);
        local_apic::send_startup::<M>(id, vector);
        if !wait(BEFORE_SECOND_STARTUP, || !is_at(Progress::Called)) {
            local_apic::send_startup::<M>(id, vector);
            wait(PATIENCE, || !is_at(Progress::Called));
        }
        if advance(Progress::Called, Progress::Abandoned) {
            return Err(StartError::NoAnswer);
        }
        synchronize::as_first();
        // However long it takes, for it enters the kernel whatever is said of it here.
        while is_at(Progress::Arrived) {
            core::hint::spin_loop();
        }
        let ready = is_at(Progress::Ready);
        PROGRESS.store(Progress::Idle as u32, Ordering::Release);
        if ready { Ok(()) } else { Err(StartError::Refused) }
    }

    #[inline]
    fn send(cpus: CpuSet, message: Message) {
        local_apic::send::<M>(cpus, vectors::of_message(message));
    }
}

/// Makes the tables that the CPU will load; false if there is no memory for them.
fn make_tables(cpu: CpuId) -> bool {
    // A CPU that came too late once may still use its tables: they are kept.
    if segments::tables(cpu).is_null() {
        // SAFETY: the layout is not empty.
        let tables = unsafe { alloc::alloc::alloc_zeroed(Layout::new::<CpuTables>()) }.cast::<CpuTables>();
        if tables.is_null() {
            return false;
        }
        // SAFETY: zeroed memory of ours.
        unsafe { CpuTables::init(tables) };
        segments::register(cpu, tables);
    }
    true
}

/// The first Rust code of a CPU, on the stack it was given and the kernel's translations, interrupts disabled.
extern "C" fn secondary<K: Kernel, M: Machine>() -> ! {
    if !advance(Progress::Called, Progress::Arrived) {
        // Too late: nobody expects this CPU any more.
        M::halt();
    }
    // SAFETY: CPU 0 wrote it before it called this CPU, and waits.
    let Some((cpu, with)) = (unsafe { (*HANDOVER.0.get()).take() }) else { M::halt() };
    // SAFETY: the tables were made for this CPU; the table of gates is complete since the boot.
    unsafe {
        CpuTables::load::<M>(segments::tables(cpu));
        idt::load::<K, M>();
    }
    extended_state::enable::<M>();
    PcCpu::<K, M>::set_local(with.local);
    if local_apic::enable::<M>(nmi_lines()).is_err() {
        PROGRESS.store(Progress::Failed as u32, Ordering::Release);
        M::halt();
    }
    M::enable_timer();
    synchronize::as_second();
    PROGRESS.store(Progress::Ready as u32, Ordering::Release);
    K::secondary(cpu)
}
