//! What a process and each of its threads keep of signals.
//!
//! Locks: a process's state, then a thread's queue, then thread list and run queues. What is pending can also be
//! seen without a lock: senders write it before they look at a thread's mask, a thread writes its mask before it
//! looks at what is pending, so one of the two always notices the other.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::altstack::AltStack;
use super::pending::{Added, Pending, UserCount};
use super::{SigInfo, Signal, SignalActions, SignalSet};
use crate::process::tree::Tree;
use crate::process::work;
use crate::process::{Process, Task};
use crate::sync::{IrqGuard, IrqLock, SpinLock, WaitQueue};
use crate::syscall::SysResult;

/// A queue of signals whose set can be looked at without its lock.
pub(super) struct Mailbox {
    pending: IrqLock<Pending>,
    set: AtomicU64,
}

impl Mailbox {
    const fn new() -> Self {
        Self { pending: IrqLock::new(Pending::new()), set: AtomicU64::new(0) }
    }

    /// Which signals are in it.
    pub fn set(&self) -> SignalSet {
        SignalSet(self.set.load(Ordering::SeqCst))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        let mut pending = self.pending.lock();
        let result = change(&mut pending);
        self.set.store(pending.set().0, Ordering::SeqCst);
        result
    }

    pub fn add(&self, info: SigInfo, count: Option<UserCount>) -> Added {
        self.change(|pending| pending.add(info, count))
    }

    pub fn take(&self, wanted: SignalSet) -> Option<SigInfo> {
        if (self.set() & wanted).is_empty() { None } else { self.change(|pending| pending.take(wanted)) }
    }

    pub fn take_synchronous(&self, blocked: SignalSet) -> Option<SigInfo> {
        if (self.set() & SignalSet::SYNCHRONOUS).is_empty() {
            None
        } else {
            self.change(|pending| pending.take_synchronous(blocked))
        }
    }

    pub fn discard(&self, which: SignalSet) {
        if !(self.set() & which).is_empty() {
            self.change(|pending| pending.discard(which));
        }
    }
}

/// How a system call goes on that a signal interrupted and `restart_syscall(2)` restarts.
pub type RestartBlock = Box<dyn FnOnce() -> SysResult + Send>;

/// What the last exception of a thread was, as its signal frames tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastTrap {
    /// Vector.
    pub number: u64,
    /// Error code.
    pub error: u64,
    /// Address of the last page fault.
    pub address: u64,
}

/// A thread's part.
pub struct TaskSignals {
    blocked: AtomicU64,
    /// The mask to return to when a temporary one has served; valid with `has_saved`.
    saved: AtomicU64,
    has_saved: AtomicBool,
    /// What was blocked before `rt_sigtimedwait(2)` let some of it through.
    really_blocked: AtomicU64,
    pub(super) mailbox: Mailbox,
    pub(super) alt_stack: SpinLock<AltStack>,
    pub(super) restart: SpinLock<Option<RestartBlock>>,
    pub(super) last_trap: SpinLock<LastTrap>,
    /// It must end (another thread has called `execve(2)` or ended the process).
    pub(super) must_end: AtomicBool,
    /// It has stopped, in a stop of the whole process.
    pub(super) stopped: AtomicBool,
}

impl TaskSignals {
    /// Nothing pending, nothing blocked.
    pub const fn new() -> Self {
        Self {
            blocked: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            has_saved: AtomicBool::new(false),
            really_blocked: AtomicU64::new(0),
            mailbox: Mailbox::new(),
            alt_stack: SpinLock::new(AltStack::NONE),
            restart: SpinLock::new(None),
            last_trap: SpinLock::new(LastTrap { number: 0, error: 0, address: 0 }),
            must_end: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// What a new thread has of the one that made it; one that `shares_memory` with it (and is no `vfork(2)` child)
    /// has no alternate stack yet.
    pub fn inherit(parent: &Self, shares_memory: bool) -> Self {
        let alt_stack = if shares_memory { AltStack::NONE } else { *parent.alt_stack.lock() };
        Self {
            blocked: AtomicU64::new(parent.blocked().0),
            alt_stack: SpinLock::new(alt_stack),
            ..Self::new()
        }
    }

    /// Which signals wait until they are unblocked.
    pub fn blocked(&self) -> SignalSet {
        SignalSet(self.blocked.load(Ordering::SeqCst))
    }

    /// Sent to this thread and not yet taken.
    pub fn pending(&self) -> SignalSet {
        self.mailbox.set()
    }

    /// Those that must not be dropped although they are ignored: they may be wanted later.
    pub(super) fn blocked_or_awaited(&self) -> SignalSet {
        self.blocked() | self.awaited()
    }

    /// What was blocked before a wait let it through.
    pub(super) fn awaited(&self) -> SignalSet {
        SignalSet(self.really_blocked.load(Ordering::SeqCst))
    }

    pub(super) fn set_awaited(&self, set: SignalSet) {
        self.really_blocked.store(set.0, Ordering::SeqCst);
    }

    /// The mask a signal frame saves: the one to return to.
    pub(super) fn mask_to_return_to(&self) -> SignalSet {
        if self.has_saved.load(Ordering::Relaxed) {
            SignalSet(self.saved.load(Ordering::Relaxed))
        } else {
            self.blocked()
        }
    }

    pub(super) fn save_mask(&self) {
        self.saved.store(self.blocked().0, Ordering::Relaxed);
        self.has_saved.store(true, Ordering::Relaxed);
    }

    /// The mask that [`Self::save_mask`] kept, once.
    pub(super) fn take_saved_mask(&self) -> Option<SignalSet> {
        self.has_saved.swap(false, Ordering::Relaxed).then(|| SignalSet(self.saved.load(Ordering::Relaxed)))
    }
}

impl Default for TaskSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// A stop of a whole process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// The signal that asked for it.
    pub signal: Signal,
    /// Every thread has stopped.
    pub complete: bool,
}

/// What a process's parent has yet to be told by SIGCHLD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    /// It has stopped, by this signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
    /// It goes on, before it had stopped altogether.
    ContinuedEarly(Signal),
}

/// Something other than its end that a process's parent can wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has stopped, by this signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
}

/// What a process's parent has yet to be told by `wait(2)`. It changes along with the state that it is about, so that
/// whoever sees that state, in `/proc` for one, can wait for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Reports {
    pub stopped: Option<Signal>,
    pub continued: bool,
}

/// The part of [`ProcessSignals`] under its lock.
pub(super) struct State {
    pub stop: Option<Stop>,
    pub notice: Option<Notice>,
    pub reports: Reports,
    /// A stop signal was taken, and no SIGCONT has come since.
    pub stop_wanted: bool,
    /// The process ends with this wait status.
    pub group_exit: Option<u32>,
    /// Signals whose action is the default do nothing: process 1.
    pub protected: bool,
}

/// A process's part.
pub struct ProcessSignals {
    pub(super) state: IrqLock<State>,
    pub(super) shared: Mailbox,
    /// Woken whenever a signal comes for the process or one of its threads (`signalfd(2)`).
    pub arrivals: WaitQueue,
    /// Counts signals that others were sent with it. Changed with the tree of processes locked.
    broadcasts: AtomicU32,
}

impl ProcessSignals {
    /// Nothing pending.
    pub const fn new() -> Self {
        Self {
            state: IrqLock::new(State {
                stop: None,
                notice: None,
                reports: Reports { stopped: None, continued: false },
                stop_wanted: false,
                group_exit: None,
                protected: false,
            }),
            shared: Mailbox::new(),
            arrivals: WaitQueue::new(),
            broadcasts: AtomicU32::new(0),
        }
    }

    /// Makes the process the one whose end is the machine's: signals do only what it has handlers for.
    pub fn protect(&self) {
        self.state.lock().protected = true;
    }

    /// Whether [`Self::protect`] was called, and no exception of its own has ended that.
    pub fn is_protected(&self) -> bool {
        self.state.lock().protected
    }

    /// Sent to the process and not yet taken by a thread.
    pub fn pending(&self) -> SignalSet {
        self.shared.set()
    }

    /// How often it was sent a signal together with others. A process that is made meanwhile was not sent what its maker was:
    /// where this has changed, it is made after that signal has been dealt with, or not at all.
    pub fn broadcasts(&self, _tree: &Tree) -> u32 {
        self.broadcasts.load(Ordering::Relaxed)
    }

    /// A signal for it and others is about to be sent.
    pub(super) fn note_broadcast(&self, _tree: &Tree) {
        self.broadcasts.fetch_add(1, Ordering::Relaxed);
    }

    /// What has changed and was not waited for yet: a stop or that it goes on, if they are asked for. With `keep` it can be
    /// waited for again.
    pub fn change(&self, stops: bool, continues: bool, keep: bool) -> Option<Change> {
        let mut state = self.state.lock();
        let reports = &mut state.reports;
        let before = *reports;
        let change = if stops && let Some(signal) = reports.stopped.take() {
            Change::Stopped(signal)
        } else if continues && core::mem::take(&mut reports.continued) {
            Change::Continued
        } else {
            return None;
        };
        if keep {
            *reports = before;
        }
        Some(change)
    }

    /// Whether every thread is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stop.is_some_and(|stop| stop.complete)
    }
}

impl Default for ProcessSignals {
    fn default() -> Self {
        Self::new()
    }
}

impl Process {
    pub(super) fn signal_state(&self) -> IrqGuard<'_, State> {
        self.signals.state.lock()
    }
}

/// Whether there is something for `task` to look at before it returns to user mode.
fn has_something(task: &Task, state: &State) -> bool {
    let signals = &task.signals;
    !(signals.pending() | task.process.signals.pending()).without(signals.blocked()).is_empty()
        || state.stop.is_some()
        || state.group_exit.is_some()
        || signals.must_end.load(Ordering::Relaxed)
        || signals.has_saved.load(Ordering::Relaxed)
}

impl Task {
    pub(super) fn note_signal_work(&self) {
        self.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
    }

    /// Makes [`work::SIGNAL`] say what is so.
    pub fn recompute_pending(&self) {
        let state = self.process.signal_state();
        self.work.fetch_and(!work::SIGNAL, Ordering::SeqCst);
        if has_something(self, &state) {
            self.note_signal_work();
        }
    }

    /// Blocks exactly `mask`, as far as signals can be blocked. Only for the running task about itself.
    pub(super) fn set_blocked(&self, mask: SignalSet) {
        let mask = mask.as_mask();
        let old = self.signals.blocked();
        {
            // Whoever has found a signal unblocked, and so makes it end the process, has done that before it is blocked.
            let _state = (!mask.without(old).is_empty()).then(|| self.process.signal_state());
            self.signals.blocked.store(mask.0, Ordering::SeqCst);
        }
        let pending = self.signals.pending() | self.process.signals.pending();
        if !self.has_signal_work() && pending.without(mask).is_empty() {
            return;
        }
        let newly = mask.without(old) & self.process.signals.pending();
        if !newly.is_empty() {
            super::send::hand_over(self, newly);
        }
        self.recompute_pending();
    }

    /// Blocks `mask` until the next signal has been dealt with or [`Self::restore_mask`] is called.
    pub(super) fn block_for_now(&self, mask: SignalSet) {
        self.signals.save_mask();
        self.set_blocked(mask);
    }

    /// Back from [`Self::block_for_now`], if that was called.
    pub(super) fn restore_mask(&self) {
        if let Some(mask) = self.signals.take_saved_mask() {
            self.set_blocked(mask);
        }
    }
}

/// The actions of `process`, for a moment.
pub(super) fn actions(process: &Process) -> Arc<SignalActions> {
    process.actions.lock().clone()
}
