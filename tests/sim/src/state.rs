//! What the simulated machine is made of: one CPU state a thread, and one world they share.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use platform::{
    BootInfo, CpuId, CpuLocal, CpuSet, Exception, Interrupt, Kernel, MAX_CPUS, PhysFrame, TrapFrame,
};

use crate::lines::Lines;
use crate::outcome::{Failure, FailureKind, finish};

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// One CPU. All of it may be read by any thread; unless said otherwise, only the CPU's own thread writes it.
pub struct CpuState {
    pub id: CpuId,
    pub irq_enabled: AtomicBool,
    /// Bit n: message n of [`crate::pending`] waits. Senders set bits.
    pub messages: AtomicU32,
    /// When the timer goes off, or [`NEVER`].
    pub deadline: AtomicU64,
    /// Whether a line waits for this CPU; kept by [`Lines::update`].
    pub line_ready: AtomicBool,
    pub user_access: AtomicBool,
    /// Private data, or null before `set_local`.
    pub local: AtomicPtr<CpuLocal>,
    pub user_fs: AtomicU64,
    pub user_gs: AtomicU64,
    /// A change of tasks is under way.
    pub switching: AtomicBool,
    /// Stands for all extended registers.
    pub vector: AtomicU64,
    /// The user context that runs here, or 0 in the kernel: a `*mut user::Context`.
    pub user_context: AtomicUsize,
    /// What the next entry from user mode tells the kernel.
    pub entry: Mutex<Option<(UserEntry, TrapFrame)>>,
}

/// Why user mode enters the kernel.
#[derive(Clone, Copy)]
pub enum UserEntry {
    SystemCall,
    Exception(Exception),
    Interrupt(Interrupt),
}

impl CpuState {
    const fn new(id: u32) -> Self {
        Self {
            id: CpuId(id),
            irq_enabled: AtomicBool::new(false),
            messages: AtomicU32::new(0),
            deadline: AtomicU64::new(NEVER),
            line_ready: AtomicBool::new(false),
            user_access: AtomicBool::new(false),
            local: AtomicPtr::new(std::ptr::null_mut()),
            user_fs: AtomicU64::new(0),
            user_gs: AtomicU64::new(0),
            switching: AtomicBool::new(false),
            vector: AtomicU64::new(0),
            user_context: AtomicUsize::new(0),
            entry: Mutex::new(None),
        }
    }
}

/// What a CPU does, as far as virtual time is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Off,
    Running,
    Waiting {
        /// Goes on at this time at the latest.
        until: u64,
        /// Goes on when an interrupt is pending.
        interruptible: bool,
    },
    Halted,
}

/// What all CPUs share, but for translations.
pub struct World {
    pub status: [Status; MAX_CPUS],
    pub started: CpuSet,
    pub discovered: bool,
    pub lines: Lines,
    pub input: VecDeque<u8>,
    /// What the test does at a time, in order of time and of registration.
    pub events: BTreeMap<(u64, u64), Box<dyn FnOnce() + Send>>,
    pub event_count: u64,
    /// How many of them are being done: they may wake a CPU.
    pub acting: usize,
    /// Threads outside the machine that may still do something.
    pub outside: usize,
}

/// The way up, bound by [`crate::Machine::run`].
#[derive(Clone, Copy)]
pub struct Entries {
    pub boot: fn(&'static BootInfo) -> !,
    pub secondary: fn(CpuId) -> !,
    pub system_call: fn(&mut TrapFrame),
    pub exception: fn(Exception, &mut TrapFrame),
    pub interrupt: fn(Interrupt, &mut TrapFrame),
    pub allocate_table_frame: fn() -> Option<PhysFrame>,
    pub free_table_frame: fn(PhysFrame),
}

impl Entries {
    pub const fn of<K: Kernel>() -> Self {
        Self {
            boot: K::boot,
            secondary: K::secondary,
            system_call: K::system_call,
            exception: K::exception,
            interrupt: K::interrupt,
            allocate_table_frame: K::allocate_table_frame,
            free_table_frame: K::free_table_frame,
        }
    }
}

/// Facts of the machine that do not change while it runs.
pub struct Facts {
    pub entries: Entries,
    pub cpus: usize,
    pub refused_cpus: CpuSet,
    pub wall_clock: u64,
    pub description: &'static str,
    pub unusable: Option<&'static str>,
    pub message_lines: u32,
    pub echo: bool,
}

pub static FACTS: OnceLock<Facts> = OnceLock::new();
pub static CPUS: [CpuState; MAX_CPUS] = {
    let mut cpus = [const { CpuState::new(0) }; MAX_CPUS];
    let mut i = 0;
    while i < MAX_CPUS {
        cpus[i] = CpuState::new(i as u32);
        i += 1;
    }
    cpus
};
static WORLD: Mutex<World> = Mutex::new(World {
    status: [Status::Off; MAX_CPUS],
    started: CpuSet::EMPTY,
    discovered: false,
    lines: Lines::new(),
    input: VecDeque::new(),
    events: BTreeMap::new(),
    event_count: 0,
    acting: 0,
    outside: 0,
});
/// Signalled when something may have ended a CPU's wait.
pub static WAKE: Condvar = Condvar::new();
/// Virtual time in nanoseconds.
pub static NOW: AtomicU64 = AtomicU64::new(0);
/// How far each call of `Clock::now` moves time.
pub static NOW_STEP: AtomicU64 = AtomicU64::new(0);
/// Time of the first of [`World::events`].
pub static NEXT_EVENT: AtomicU64 = AtomicU64::new(NEVER);
/// The run is over: CPUs park at their next hook.
pub static ENDED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CURRENT: Cell<Option<&'static CpuState>> = const { Cell::new(None) };
    static LOOSE_IRQ: Cell<bool> = const { Cell::new(true) };
}

/// Makes this thread CPU `id`.
pub fn become_cpu(id: CpuId) -> &'static CpuState {
    let cpu = &CPUS[id.index()];
    CURRENT.set(Some(cpu));
    cpu
}

/// The CPU that this thread is, if any.
///
/// Not inlined: a kernel stack may go on on another thread after any call into the kernel, so nothing that depends on
/// the thread may be kept across one.
#[inline(never)]
pub fn current() -> Option<&'static CpuState> {
    CURRENT.get()
}

/// The interrupt flag of a thread that is no CPU.
#[inline(never)]
pub fn loose_irq(new: bool) -> bool {
    LOOSE_IRQ.replace(new)
}

/// The CPU that runs this hook.
#[inline(never)]
pub fn here(hook: &str) -> &'static CpuState {
    let Some(cpu) = current() else { panic!("{hook} needs a machine, and this thread is no CPU of one") };
    if ENDED.load(SeqCst) {
        park();
    }
    cpu
}

/// The CPU that runs this hook, which wants interrupts disabled.
#[inline(never)]
pub fn here_disabled(hook: &str) -> &'static CpuState {
    let cpu = here(hook);
    if cpu.irq_enabled.load(SeqCst) {
        violation(format!("{hook} was called with interrupts enabled on CPU {}", cpu.id.0));
    }
    cpu
}

/// Ends the run: the kernel broke the contract.
#[cold]
pub fn violation(message: String) -> ! {
    if current().is_none() {
        panic!("{message}");
    }
    finish(Err(Failure { kind: FailureKind::Violation, message }));
    park()
}

/// Stops this thread for ever: the run is over.
pub fn park() -> ! {
    loop {
        std::thread::park();
    }
}

pub fn facts() -> &'static Facts {
    FACTS.get().expect("no machine runs in this process")
}

/// The shared world; nothing of the kernel is called while it is locked.
pub fn world() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world, for a hook that may be called after discovery only.
pub fn discovered(hook: &str) -> MutexGuard<'static, World> {
    let world = world();
    if !world.discovered {
        drop(world);
        violation(format!("{hook} was called before Boot::discover"));
    }
    world
}
