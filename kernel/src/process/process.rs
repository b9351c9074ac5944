//! What the threads of a program share.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use platform::Nanoseconds;

use super::system::attributes::Attributes;
use super::{Credentials, Limits, Pid, Task, TaskName};
use crate::fs::{FileTable, FsContext};
use crate::mm::AddressSpace;
use crate::signal::{ProcessSignals, SignalActions};
use crate::sync::{IrqLock, SpinLock, WaitQueue};
use crate::time::ProcessTimers;
use crate::tty::Tty;

/// CPU time and counts, as `getrusage(2)` gives them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time in user mode.
    pub user: Nanoseconds,
    /// Time in the kernel.
    pub system: Nanoseconds,
    /// Page faults without input from a device.
    pub minor_faults: u64,
    /// Page faults with it.
    pub major_faults: u64,
    /// Times it waited.
    pub voluntary_switches: u64,
    /// Times it was made to wait.
    pub involuntary_switches: u64,
    /// Most memory it had at once, in KiB.
    pub max_resident_kib: u64,
}

impl Usage {
    /// Adds what a thread used that is counted.
    fn add_counts_of(&mut self, task: &Task) {
        self.minor_faults += task.minor_faults.load(Ordering::Relaxed);
        self.major_faults += task.major_faults.load(Ordering::Relaxed);
        self.voluntary_switches += task.sched.voluntary_switches.load(Ordering::Relaxed);
        self.involuntary_switches += task.sched.involuntary_switches.load(Ordering::Relaxed);
    }

    /// Adds what another process or thread used.
    pub fn add(&mut self, other: &Self) {
        self.user = self.user.saturating_add(other.user);
        self.system = self.system.saturating_add(other.system);
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.max_resident_kib = self.max_resident_kib.max(other.max_resident_kib);
    }
}

/// What threads that are gone have used, and what was said of all of them.
#[derive(Default)]
struct Past {
    /// But for the times.
    usage: Usage,
    run: Nanoseconds,
    /// User and kernel time of the whole process as they were told last: neither ever goes back, whatever the proportion by
    /// which they are split.
    told: (Nanoseconds, Nanoseconds),
}

impl Past {
    /// The times to tell of `run` altogether, of which `system` is the kernel's by proportion.
    fn tell(&mut self, run: Nanoseconds, system: Nanoseconds) -> (Nanoseconds, Nanoseconds) {
        let (user_before, system_before) = self.told;
        if let Some(more) = run.0.checked_sub(user_before.0 + system_before.0) {
            let most = Nanoseconds(system_before.0 + more);
            let system = system.clamp(system_before, most);
            self.told = (run - system, system);
        }
        self.told
    }
}

/// What the threads of a program share: Linux's thread group.
pub struct Process {
    /// Its number, which is also its first thread's.
    pub pid: Pid,
    /// Its living threads.
    pub threads: IrqLock<Vec<Arc<Task>>>,
    /// Open files. Replaced at `execve` if shared with another process.
    pub files: SpinLock<Arc<FileTable>>,
    /// Root, working directory and file mode mask.
    pub fs: SpinLock<Arc<FsContext>>,
    /// What each signal does.
    pub actions: IrqLock<Arc<SignalActions>>,
    /// Signals pending for any of its threads, stop state, alternate.
    pub signals: ProcessSignals,
    /// The memory; none once it has ended. Tasks hold their own reference.
    pub space: SpinLock<Option<Arc<AddressSpace>>>,
    /// User and group numbers.
    pub credentials: SpinLock<Arc<Credentials>>,
    /// `setrlimit(2)`.
    pub limits: SpinLock<Limits>,
    /// Interval and POSIX timers.
    pub timers: ProcessTimers,
    /// Controlling terminal.
    pub terminal: SpinLock<Option<Arc<Tty>>>,
    /// Parent, children, group, session: guarded by [`super::tree`].
    pub relations: super::tree::Relations,
    /// Threads not yet gone.
    pub live_threads: AtomicU32,
    /// The process is ending: no thread may be added.
    pub exiting: AtomicBool,
    /// One of its threads runs `execve`: all others end.
    pub ending_others: AtomicBool,
    /// Status for `wait(2)`, set when `exiting` is; bits as in Linux's `wstatus`.
    pub exit_status: AtomicU32,
    /// What the thread was called that ended last: `ps` shows it of one that is waited for.
    pub last_name: IrqLock<TaskName>,
    /// Signal sent to the parent at the end; 0 for none.
    pub exit_signal: AtomicU32,
    /// Waiters for children that end, stop or go on.
    pub child_events: WaitQueue,
    /// Has run `execve` since it was made (`setpgid(2)` asks).
    pub has_executed: AtomicBool,
    /// Signal its parent's end sends it (`PR_SET_PDEATHSIG`); 0 for none.
    pub parent_death_signal: AtomicU32,
    /// `PR_SET_DUMPABLE`, kept for those who ask.
    pub dumpable: AtomicBool,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub child_subreaper: AtomicBool,
    /// What `prctl(2)` and `personality(2)` set.
    pub attributes: Attributes,
    /// When it was made.
    pub start_time: Nanoseconds,
    /// What its threads that are gone have used.
    past: IrqLock<Past>,
    /// What its children that were waited for have used.
    pub children_usage: SpinLock<Usage>,
    /// Ticks seen in user mode and in the kernel, to split run time by.
    pub user_samples: AtomicU64,
    /// As above.
    pub system_samples: AtomicU64,
}

/// Everything a new process needs from outside.
pub struct NewProcess {
    /// Its number.
    pub pid: Pid,
    /// Open files.
    pub files: Arc<FileTable>,
    /// Root, working directory and mask.
    pub fs: Arc<FsContext>,
    /// What each signal does.
    pub actions: Arc<SignalActions>,
    /// The memory.
    pub space: Option<Arc<AddressSpace>>,
    /// User and group numbers.
    pub credentials: Arc<Credentials>,
    /// Limits.
    pub limits: Limits,
    /// Signal sent to the parent at the end; 0 for none.
    pub exit_signal: u32,
}

impl Process {
    /// A process with no thread yet, related to nobody.
    pub fn new(with: NewProcess) -> Arc<Self> {
        Arc::new(Self {
            pid: with.pid,
            threads: IrqLock::new(Vec::new()),
            files: SpinLock::new(with.files),
            fs: SpinLock::new(with.fs),
            actions: IrqLock::new(with.actions),
            signals: ProcessSignals::new(),
            space: SpinLock::new(with.space),
            credentials: SpinLock::new(with.credentials),
            limits: SpinLock::new(with.limits),
            timers: ProcessTimers::new(),
            terminal: SpinLock::new(None),
            relations: super::tree::Relations::new(),
            live_threads: AtomicU32::new(0),
            exiting: AtomicBool::new(false),
            ending_others: AtomicBool::new(false),
            exit_status: AtomicU32::new(0),
            last_name: IrqLock::new(TaskName::default()),
            exit_signal: AtomicU32::new(with.exit_signal),
            child_events: WaitQueue::new(),
            has_executed: AtomicBool::new(false),
            parent_death_signal: AtomicU32::new(0),
            dumpable: AtomicBool::new(true),
            child_subreaper: AtomicBool::new(false),
            attributes: Attributes::new(),
            start_time: crate::time::now(),
            past: IrqLock::new(Past::default()),
            children_usage: SpinLock::new(Usage::default()),
            user_samples: AtomicU64::new(0),
            system_samples: AtomicU64::new(0),
        })
    }

    /// The table of open files.
    pub fn files(&self) -> Arc<FileTable> {
        self.files.lock().clone()
    }

    /// Root, working directory and mask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs.lock().clone()
    }

    /// What each signal does.
    pub fn actions(&self) -> Arc<SignalActions> {
        self.actions.lock().clone()
    }

    /// User and group numbers.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// The memory, unless the process has ended.
    pub fn space(&self) -> Option<Arc<AddressSpace>> {
        self.space.lock().clone()
    }

    /// Its first thread, if that lives, or any.
    pub fn any_thread(&self) -> Option<Arc<Task>> {
        self.threads.lock().first().cloned()
    }

    /// A reference that does not keep it.
    pub fn downgrade(self: &Arc<Self>) -> Weak<Self> {
        Arc::downgrade(self)
    }

    /// What its threads, gone and living, have used.
    pub fn usage(&self) -> Usage {
        let mut usage = {
            let threads = self.threads.lock();
            let (user, system) = self.times_with(&threads);
            let mut usage = Usage { user, system, ..self.past.lock().usage };
            threads.iter().for_each(|task| usage.add_counts_of(task));
            usage
        };
        if let Some(space) = self.space() {
            usage.max_resident_kib = usage.max_resident_kib.max(space.peak_resident_pages() * 4);
        }
        usage
    }

    /// Time its threads, gone and living, have spent in user mode and in the kernel. Context: any, but no run queue and
    /// no list of threads locked.
    pub fn usage_times(&self) -> (Nanoseconds, Nanoseconds) {
        self.times_with(&self.threads.lock())
    }

    fn times_with(&self, threads: &[Arc<Task>]) -> (Nanoseconds, Nanoseconds) {
        let run = threads.iter().fold(Nanoseconds::ZERO, |sum, task| sum.saturating_add(task.runtime()));
        let mut past = self.past.lock();
        let run = run.saturating_add(past.run);
        past.tell(run, self.split(run).1)
    }

    /// The running task is no longer one of its threads, but one that is gone: at the same moment for all who look at what
    /// the process has used.
    pub fn remove_thread(&self, task: &Arc<Task>) {
        let mut threads = self.threads.lock();
        threads.retain(|other| !Arc::ptr_eq(other, task));
        let mut past = self.past.lock();
        past.run = past.run.saturating_add(task.runtime());
        past.usage.add_counts_of(task);
        let resident = task.space().map_or(0, |space| space.peak_resident_pages() * 4);
        past.usage.max_resident_kib = past.usage.max_resident_kib.max(resident);
    }

    /// Splits run time into user and kernel time, in the proportion in which interrupts found it in either.
    pub fn split(&self, run: Nanoseconds) -> (Nanoseconds, Nanoseconds) {
        let user = self.user_samples.load(Ordering::Relaxed);
        let system = self.system_samples.load(Ordering::Relaxed);
        if user + system == 0 {
            return (run, Nanoseconds::ZERO);
        }
        let in_user = (u128::from(run.0) * u128::from(user) / u128::from(user + system)) as u64;
        (Nanoseconds(in_user), Nanoseconds(run.0 - in_user))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.pid != Pid(0) {
            self.pid.free();
        }
    }
}
