//! Threads.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use intrusive_collections::LinkedListAtomicLink;
use platform::{CpuId, CpuSet, ExtendedState, TrapFrame, UserBases, VirtAddr};

use super::{Pid, Process, TaskName};
use crate::errno::{Errno, KResult};
use crate::hook::cpu;
use crate::mm::extended;
use crate::mm::{AddressSpace, ExtendedArea, KernelStack};
use crate::percpu;
use crate::sched::{Context, KernelEntry, Nice, SchedState};
use crate::signal::TaskSignals;
use crate::sync::interrupts;
use crate::sync::{IrqLock, SpinLock};

/// Work to be done before the task returns to user mode, as bits of [`Task::work`].
pub mod work {
    /// A signal may have to be delivered, or the task must end or stop.
    pub const SIGNAL: u32 = 1 << 0;
}

/// What a task is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskKind {
    /// A thread of a user program.
    User,
    /// One of the kernel's own.
    Kernel,
}

/// A thread: what the scheduler runs.
pub struct Task {
    tid: AtomicI32,
    /// What it shares with the other threads of its program.
    pub process: Arc<Process>,
    /// The scheduler's part.
    pub sched: SchedState,
    /// Its place among those that wait for a CPU.
    pub run_link: LinkedListAtomicLink,
    /// Where it left off.
    pub context: Context,
    /// Pending and blocked signals.
    pub signals: TaskSignals,
    /// Bits of [`work`].
    pub work: AtomicU32,
    name: IrqLock<TaskName>,
    /// User address to clear and wake when the thread ends (`set_tid_address(2)`); 0 for none.
    pub clear_child_tid: AtomicU64,
    /// User address to write the thread's number to before it first runs in user mode; 0 for none.
    pub set_child_tid: AtomicU64,
    /// User address of the list of robust futexes (`set_robust_list(2)`); 0 for none.
    pub robust_list: AtomicU64,
    /// Whether a parent that waits for `vfork(2)` has been let go.
    pub vfork: SpinLock<Option<Arc<VforkGate>>>,
    /// Page faults served without and with input from a device.
    pub minor_faults: AtomicU64,
    /// As above.
    pub major_faults: AtomicU64,
    kind: TaskKind,
    stack: KernelStack,
    extended: Option<ExtendedArea>,
    extended_cpu: AtomicU32,
    bases: UnsafeCell<UserBases>,
    space: UnsafeCell<Option<Arc<AddressSpace>>>,
}

// SAFETY: `bases` and `space` are touched only by the task itself while it runs and by the scheduler while it does not,
// which the run queue's lock orders. Everything else is `Sync` by itself.
unsafe impl Sync for Task {}
// SAFETY: nothing in a task is bound to a CPU or thread.
unsafe impl Send for Task {}

/// Where the parent of a `vfork(2)` waits until its child has started another program or ended.
#[derive(Default)]
pub struct VforkGate {
    /// The child no longer uses the parent's memory.
    pub open: AtomicBool,
    /// The parent.
    pub waiters: crate::sync::WaitQueue,
}

impl VforkGate {
    /// Lets the parent go.
    pub fn release(&self) {
        self.open.store(true, Ordering::Release);
        self.waiters.wake_all();
    }
}

const NO_CPU: u32 = u32::MAX;

impl Task {
    /// The idle task of the CPU this runs on: stands for the code that runs already, on the stack with this top.
    pub fn idle(process: Arc<Process>, stack: KernelStack) -> Arc<Self> {
        Arc::new(Self::with(
            Pid(0),
            process,
            TaskKind::Kernel,
            stack,
            Context::running(),
            None,
            None,
            SchedState::new(Nice::default(), CpuSet::one(percpu::cpu_id())),
        ))
    }

    /// A task of the kernel's own, not yet ready to run; it starts at `entry(argument)` with interrupts disabled.
    pub fn kernel(
        tid: Pid,
        process: Arc<Process>,
        name: &str,
        entry: KernelEntry,
        argument: usize,
    ) -> KResult<Arc<Self>> {
        let stack = KernelStack::allocate().ok_or(Errno::ENOMEM)?;
        // SAFETY: the stack is new and belongs to the task from now on.
        let context = unsafe { Context::new(stack.top(), entry, argument) };
        let sched = SchedState::new(Nice::default(), CpuSet::first(platform::MAX_CPUS));
        let task = Self::with(tid, process, TaskKind::Kernel, stack, context, None, None, sched);
        task.set_name(TaskName::new(name.as_bytes()));
        Ok(Arc::new(task))
    }

    /// A thread of a user program, not yet ready to run: it will enter user mode with `frame`.
    pub fn user(
        tid: Pid,
        process: Arc<Process>,
        space: Arc<AddressSpace>,
        frame: &TrapFrame,
        bases: UserBases,
        sched: SchedState,
        signals: TaskSignals,
    ) -> KResult<Arc<Self>> {
        let stack = KernelStack::allocate().ok_or(Errno::ENOMEM)?;
        let extended = ExtendedArea::allocate().ok_or(Errno::ENOMEM)?;
        let frame_at = stack.top() - size_of::<TrapFrame>() as u64;
        // SAFETY: the stack is new and belongs to the task from now on; the top is aligned for the frame.
        let context = unsafe {
            frame_at.as_mut_ptr::<TrapFrame>().write(*frame);
            Context::new(frame_at, enter_user_mode, frame_at.0 as usize)
        };
        let mut task =
            Self::with(tid, process, TaskKind::User, stack, context, Some(extended), Some(space), sched);
        task.signals = signals;
        // SAFETY: nobody else has the task yet.
        unsafe { *task.bases.get() = bases };
        Ok(Arc::new(task))
    }

    /// A thread of a user program that has no program yet, not yet ready to run: it starts in the kernel, at
    /// `entry(argument)` with interrupts disabled.
    pub fn without_program(
        tid: Pid,
        process: Arc<Process>,
        sched: SchedState,
        entry: KernelEntry,
        argument: usize,
    ) -> KResult<Arc<Self>> {
        let stack = KernelStack::allocate().ok_or(Errno::ENOMEM)?;
        let extended = ExtendedArea::allocate().ok_or(Errno::ENOMEM)?;
        // SAFETY: the stack is new and belongs to the task from now on.
        let context = unsafe { Context::new(stack.top(), entry, argument) };
        let task = Self::with(tid, process, TaskKind::User, stack, context, Some(extended), None, sched);
        Ok(Arc::new(task))
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where a task is put together")]
    fn with(
        tid: Pid,
        process: Arc<Process>,
        kind: TaskKind,
        stack: KernelStack,
        context: Context,
        extended: Option<ExtendedArea>,
        space: Option<Arc<AddressSpace>>,
        sched: SchedState,
    ) -> Self {
        Self {
            tid: AtomicI32::new(tid.0),
            process,
            sched,
            run_link: LinkedListAtomicLink::new(),
            context,
            signals: TaskSignals::new(),
            work: AtomicU32::new(0),
            name: IrqLock::new(TaskName::default()),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            vfork: SpinLock::new(None),
            minor_faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            kind,
            stack,
            extended,
            extended_cpu: AtomicU32::new(NO_CPU),
            bases: UnsafeCell::new(UserBases::default()),
            space: UnsafeCell::new(space),
        }
    }

    /// What it is for.
    pub fn kind(&self) -> TaskKind {
        self.kind
    }

    /// Whether it is a thread of a user program.
    pub fn is_user(&self) -> bool {
        self.kind == TaskKind::User
    }

    /// Its number.
    #[inline]
    pub fn tid(&self) -> Pid {
        Pid(self.tid.load(Ordering::Relaxed))
    }

    /// Whether it is its process's first thread.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.process.pid
    }

    /// Takes the number of the process's first thread, which is gone (`execve` by another thread). Under the tree's
    /// lock.
    pub fn take_leader_number(&self) {
        let own = self.tid();
        self.tid.store(self.process.pid.0, Ordering::Relaxed);
        own.free();
    }

    /// Top of its kernel stack.
    #[inline]
    pub fn stack_top(&self) -> VirtAddr {
        self.stack.top()
    }

    /// Names it anew.
    pub fn set_name(&self, name: TaskName) {
        *self.name.lock() = name;
    }

    /// What it is called.
    pub fn name(&self) -> TaskName {
        *self.name.lock()
    }

    /// Whether something is to be done before it returns to user mode.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.work.load(Ordering::Relaxed) != 0
    }

    /// Whether a signal may have to be delivered.
    #[inline]
    pub fn has_signal_work(&self) -> bool {
        self.work.load(Ordering::Relaxed) & work::SIGNAL != 0
    }

    /// Whether the scheduler must save and load user registers for it.
    #[inline]
    pub fn has_user_state(&self) -> bool {
        self.extended.is_some()
    }

    /// Where its extended registers are kept, if it is a user task.
    #[inline(always)]
    pub fn extended_area(&self) -> Option<&ExtendedArea> {
        self.extended.as_ref()
    }

    /// Where its extended registers are kept.
    ///
    /// # Panics
    /// If it is not a user task.
    #[inline(always)]
    pub fn extended_state(&self) -> ExtendedState {
        match &self.extended {
            Some(area) => area.state(),
            None => panic!("a kernel task has no extended state"),
        }
    }

    /// The CPU that holds its extended registers, if any does.
    pub fn extended_cpu(&self) -> Option<CpuId> {
        let cpu = self.extended_cpu.load(Ordering::Relaxed);
        (cpu != NO_CPU).then_some(CpuId(cpu))
    }

    /// Makes this task's extended registers those of the running one. Before it first runs.
    pub fn copy_extended_from_current(&self) {
        let (Some(area), running) = (&self.extended, super::current()) else { return };
        if running.has_user_state() {
            // SAFETY: the running task's own area, of the size the platform asked for.
            interrupts::without(|| unsafe { extended::save(running.extended_state()) });
            area.copy_from(running.extended_state());
        }
    }

    /// Whether the task is to end before it returns to user mode.
    pub fn must_exit(&self) -> bool {
        let process = &self.process;
        process.exiting.load(Ordering::Relaxed) || process.ending_others.load(Ordering::Relaxed)
    }

    pub(crate) fn set_extended_cpu(&self, cpu: CpuId) {
        self.extended_cpu.store(cpu.0, Ordering::Relaxed);
    }

    /// What its area holds is newer than any CPU's registers.
    pub fn forget_extended_cpu(&self) {
        self.extended_cpu.store(NO_CPU, Ordering::Relaxed);
    }

    /// The user segment bases saved when it was last switched away from.
    pub fn saved_bases(&self) -> UserBases {
        // SAFETY: see `Sync` above.
        unsafe { *self.bases.get() }
    }

    pub(crate) fn set_saved_bases(&self, bases: UserBases) {
        // SAFETY: see `Sync` above.
        unsafe { *self.bases.get() = bases };
    }

    /// The address space it runs in; none for the kernel's own tasks and for one that is about to end.
    ///
    /// Only for the running task about itself, and for the scheduler: others ask the process.
    #[inline]
    pub fn space(&self) -> Option<&Arc<AddressSpace>> {
        // SAFETY: see `Sync` above.
        unsafe { (*self.space.get()).as_ref() }
    }

    /// Replaces the running task's address space (not yet the CPU's); returns the old one. Context: the task itself,
    /// interrupts disabled.
    pub fn replace_space(&self, space: Option<Arc<AddressSpace>>) -> Option<Arc<AddressSpace>> {
        // SAFETY: see `Sync` above; with interrupts disabled the scheduler does not look.
        unsafe { core::mem::replace(&mut *self.space.get(), space) }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.tid() != Pid(0) && !self.is_leader() {
            self.tid().free();
        }
    }
}

/// First code of a user thread in the kernel; `frame` lies on its own stack.
extern "C" fn enter_user_mode(frame: usize) -> ! {
    // SAFETY: `Task::user` wrote the frame there, and nothing else uses that part of the stack.
    let frame = unsafe { &mut *(frame as *mut TrapFrame) };
    {
        let task = super::current();
        let word = crate::mm::UserAddr(task.set_child_tid.load(Ordering::Relaxed));
        if !word.is_null() {
            interrupts::enable();
            // As on Linux, a bad address is the program's own misfortune.
            let _written = word.write(&task.tid().0);
            interrupts::disable();
        }
    }
    crate::trap::before_user_mode(frame);
    cpu::enter_user(frame)
}
