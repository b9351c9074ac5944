//! Sending, waiting for and taking signals on the simulated machine.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::OnceLock;

use platform::{Nanoseconds, TrapFrame};
use sim::Machine;

use super::state::Reports;
use super::*;
use crate::errno::Errno;
use crate::process::{Pid, Process, Task, tree};
use crate::sync::{Interrupted, WaitQueue};
use crate::testing;
use crate::time::{now, sleep_until};
use crate::trap::Entry;

const MS: Nanoseconds = Nanoseconds::MILLISECOND;
const HANDLER: Action = Action::handled_at(0x1000);

fn sleep(time: Nanoseconds) {
    sleep_until(now() + time).unwrap();
}

fn take_signals_when_there_are_some() {
    if current().has_signal_work() {
        deliver_pending(&mut TrapFrame::user(0, 0), Entry::Other);
    }
}

static ROUNDS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
static QUIT: AtomicBool = AtomicBool::new(false);

/// Takes signals every millisecond, as a program that makes a system call so often would.
fn rounds(which: usize) {
    while !QUIT.load(Ordering::Relaxed) {
        take_signals_when_there_are_some();
        ROUNDS[which].fetch_add(1, Ordering::Relaxed);
        // A signal may end the wait early.
        let _ = sleep_until(now() + MS);
    }
}

/// Whether the threads go on.
fn moves() -> [bool; 2] {
    let counts = || [0, 1].map(|which: usize| ROUNDS[which].load(Ordering::Relaxed));
    let before = counts();
    sleep(Nanoseconds(10 * MS.0));
    let after = counts();
    [0, 1].map(|which: usize| after[which] > before[which])
}

struct Family {
    parent: Arc<Process>,
    child: Arc<Process>,
}

/// A parent that handles SIGCHLD and a child of two threads, each in a group of its own, the parent in `session`.
fn family(session: Pid) -> Family {
    testing::take_numbers(20);
    let (parent, child) = (testing::new_process(Pid(10)), testing::new_process(Pid(11)));
    {
        let mut tree = tree::lock();
        tree.add_process(&parent);
        tree.add_process(&child);
        let related = tree.of_mut(&parent);
        (related.group, related.session) = (Pid(10), session);
        related.children.push_back(child.clone());
        let related = tree.of_mut(&child);
        (related.group, related.session) = (Pid(11), Pid(10));
        related.parent = Arc::downgrade(&parent);
    }
    parent.actions.lock().set(SIGCHLD, HANDLER);
    child.exit_signal.store(SIGCHLD.number() as u32, Ordering::Relaxed);
    testing::spawn_in(child.clone(), Pid(11), || rounds(0));
    testing::spawn_in(child.clone(), Pid(12), || rounds(1));
    sleep(MS);
    Family { parent, child }
}

impl Family {
    fn reports(&self) -> Reports {
        self.child.signal_state().reports
    }

    fn parent_was_told(&self) -> bool {
        let told = self.parent.signals.pending().contains(SIGCHLD);
        self.parent.signals.shared.discard(SIGCHLD.set());
        told
    }
}

#[test]
fn all_threads_stop_and_go_on_and_the_parent_is_told() {
    testing::run(
        "signal::sim_tests::all_threads_stop_and_go_on_and_the_parent_is_told",
        Machine::new,
        || {
            let family = family(Pid(10));
            assert_eq!(moves(), [true, true]);
            for signal in [SIGTSTP, SIGSTOP, SIGTTOU] {
                assert_eq!(send_process(&family.child, SigInfo::kernel(signal)), Sent::Queued);
                sleep(Nanoseconds(3 * MS.0));
                assert_eq!(moves(), [false, false]);
                assert!(family.child.signals.is_stopped() && family.parent_was_told());
                assert_eq!(family.reports(), Reports { stopped: Some(signal), continued: false });
                // Ordinary signals wait.
                send_process(&family.child, SigInfo::kernel(SIGWINCH));
                assert_eq!(moves(), [false, false]);
                send_process(&family.child, SigInfo::kernel(SIGCONT));
                assert_eq!(moves(), [true, true]);
                assert!(!family.child.signals.is_stopped() && family.parent_was_told());
                assert_eq!(family.reports(), Reports { stopped: None, continued: true });
            }
            QUIT.store(true, Ordering::Relaxed);
            sleep(Nanoseconds(5 * MS.0));
        },
    );
}

#[test]
fn terminal_stops_do_nothing_to_an_orphaned_group() {
    testing::run("signal::sim_tests::terminal_stops_do_nothing_to_an_orphaned_group", Machine::new, || {
        let family = family(Pid(9));
        send_process(&family.child, SigInfo::kernel(SIGTSTP));
        assert_eq!(moves(), [true, true]);
        send_process(&family.child, SigInfo::kernel(SIGSTOP));
        sleep(MS);
        assert_eq!(moves(), [false, false]);
        // Continued and stopped again before it could move.
        send_process(&family.child, SigInfo::kernel(SIGCONT));
        send_process(&family.child, SigInfo::kernel(SIGSTOP));
        sleep(MS);
        assert_eq!(moves(), [false, false]);
        send_process(&family.child, SigInfo::kernel(SIGCONT));
        assert_eq!(moves(), [true, true]);
        QUIT.store(true, Ordering::Relaxed);
        sleep(Nanoseconds(5 * MS.0));
    });
}

#[test]
fn sigkill_ends_stopped_threads() {
    testing::run("signal::sim_tests::sigkill_ends_stopped_threads", Machine::new, || {
        let family = family(Pid(10));
        send_process(&family.child, SigInfo::kernel(SIGSTOP));
        sleep(Nanoseconds(3 * MS.0));
        assert_eq!(moves(), [false, false]);
        family.parent_was_told();
        send_process(&family.child, SigInfo::kernel(SIGKILL));
        sleep(Nanoseconds(3 * MS.0));
        assert_eq!(family.child.live_threads.load(Ordering::Relaxed), 0);
        assert_eq!(family.child.exit_status.load(Ordering::Relaxed), 9);
        let zombie = tree::lock().of(&family.child).zombie;
        assert!(zombie && family.parent_was_told());
    });
}

#[test]
fn a_fatal_signal_to_one_thread_ends_all() {
    testing::run("signal::sim_tests::a_fatal_signal_to_one_thread_ends_all", Machine::new, || {
        let family = family(Pid(10));
        let thread: Arc<Task> = family.child.threads.lock()[1].clone();
        send_task(&thread, SigInfo::kernel(SIGTERM));
        drop(thread);
        sleep(Nanoseconds(3 * MS.0));
        assert_eq!(family.child.live_threads.load(Ordering::Relaxed), 0);
        assert_eq!(family.child.exit_status.load(Ordering::Relaxed), SIGTERM.number() as u32);
    });
}

#[test]
fn process_1_takes_only_what_it_handles() {
    testing::run("signal::sim_tests::process_1_takes_only_what_it_handles", Machine::new, || {
        let family = family(Pid(10));
        family.child.signals.protect();
        for signal in [SIGTERM, SIGSEGV, SIGTSTP] {
            assert_eq!(send_process(&family.child, SigInfo::kernel(signal)), Sent::Ignored);
        }
        let by_a_process = |signal| SigInfo { code: code::SI_USER, ..SigInfo::kernel(signal) };
        for signal in [SIGKILL, SIGSTOP, SIGINT] {
            assert_eq!(send_process(&family.child, by_a_process(signal)), Sent::Ignored);
        }
        family.child.actions.lock().set(SIGINT, HANDLER);
        assert_eq!(moves(), [true, true]);
        assert_eq!(send_process(&family.child, SigInfo::kernel(SIGKILL)), Sent::Queued);
        sleep(Nanoseconds(3 * MS.0));
        assert_eq!(family.child.exit_status.load(Ordering::Relaxed), 9);
    });
}

static WAITER: OnceLock<Arc<Process>> = OnceLock::new();
static RESULT: AtomicU64 = AtomicU64::new(0);

fn waiter(body: fn()) -> (Arc<Process>, Arc<Task>) {
    testing::take_numbers(20);
    let process = testing::new_process(Pid(20));
    tree::lock().add_process(&process);
    let _ = WAITER.set(process.clone());
    let task = testing::spawn_in(process.clone(), Pid(20), body);
    sleep(MS);
    (process, task)
}

#[test]
fn a_signal_ends_a_wait_unless_it_is_ignored_or_blocked() {
    testing::run(
        "signal::sim_tests::a_signal_ends_a_wait_unless_it_is_ignored_or_blocked",
        Machine::new,
        || {
            let (process, task) = waiter(|| {
                current().set_blocked(SIGUSR2.set() | SIGKILL.set());
                let result = WaitQueue::new().wait(|| None::<()>);
                RESULT.store(if result == Err(Interrupted) { 1 } else { 2 }, Ordering::Relaxed);
            });
            process.actions.lock().set(SIGUSR1, HANDLER);
            process.actions.lock().set(SIGUSR2, HANDLER);
            assert_eq!(task.signals.blocked(), SIGUSR2.set(), "SIGKILL cannot be blocked");
            assert_eq!(send_process(&process, SigInfo::kernel(SIGCHLD)), Sent::Ignored);
            assert_eq!(send_process(&process, SigInfo::kernel(SIGUSR2)), Sent::Queued);
            assert_eq!(send_process(&process, SigInfo::kernel(SIGUSR2)), Sent::AlreadyPending);
            sleep(MS);
            assert_eq!(RESULT.load(Ordering::Relaxed), 0);
            assert_eq!(send_task(&task, SigInfo::kernel(SIGUSR1)), Sent::Queued);
            sleep(MS);
            assert_eq!(RESULT.load(Ordering::Relaxed), 1);
        },
    );
}

#[test]
fn a_blocked_signal_can_be_waited_for() {
    testing::run("signal::sim_tests::a_blocked_signal_can_be_waited_for", Machine::new, || {
        let (process, _task) = waiter(|| {
            // SIGTERM would end the process, were it delivered.
            let wanted = SIGTERM.set() | SIGCHLD.set();
            current().set_blocked(wanted);
            let start = now();
            assert!(!wait::wait_for(wanted, Some(start + MS)), "nothing has come");
            assert_eq!(now(), start + MS);
            assert!(wait::wait_for(wanted, None));
            assert_eq!(take_signal(wanted), Some(SigInfo::kernel(SIGTERM)));
            assert_eq!(current().signals.blocked(), wanted);
            assert!(wait::wait_for(wanted, None));
            assert_eq!(
                take_signal(wanted),
                Some(SigInfo::kernel(SIGCHLD)),
                "it is not ignored while it is waited for"
            );
            assert!(!current().has_signal_work());
            RESULT.store(1, Ordering::Relaxed);
        });
        sleep(Nanoseconds(5 * MS.0));
        send_process(&process, SigInfo::kernel(SIGTERM));
        sleep(MS);
        send_process(&process, SigInfo::kernel(SIGCHLD));
        sleep(MS);
        assert_eq!(RESULT.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_temporary_mask_stays_until_its_signal_has_been_seen_to() {
    testing::run(
        "signal::sim_tests::a_temporary_mask_stays_until_its_signal_has_been_seen_to",
        Machine::new,
        || {
            let (process, _task) = waiter(|| {
                let task = current();
                task.set_blocked(SIGUSR1.set());
                let quick = with_temporary_mask(Some(SIGUSR2.set()), || {
                    assert_eq!(current().signals.blocked(), SIGUSR2.set());
                    Ok(7)
                });
                assert_eq!((quick, task.signals.blocked()), (Ok(7), SIGUSR1.set()));
                let interrupted: Result<(), Errno> = with_temporary_mask(Some(SignalSet::EMPTY), || {
                    WaitQueue::new().wait(|| None::<()>).map_err(|_| Errno::ERESTARTNOHAND)
                });
                assert_eq!(interrupted, Err(Errno::ERESTARTNOHAND));
                assert_eq!(task.signals.blocked(), SignalSet::EMPTY);
                assert_eq!(task.signals.mask_to_return_to(), SIGUSR1.set());
                assert!(task.has_signal_work());
                // Somebody else takes it: the mask goes back all the same.
                assert!(take_signal(SIGUSR1.set()).is_some());
                assert!(task.has_signal_work());
                take_signals_when_there_are_some();
                assert_eq!(task.signals.blocked(), SIGUSR1.set());
                assert!(!task.has_signal_work());
                RESULT.store(1, Ordering::Relaxed);
            });
            process.actions.lock().set(SIGUSR1, HANDLER);
            send_process(&process, SigInfo::kernel(SIGUSR1));
            sleep(MS);
            assert_eq!(RESULT.load(Ordering::Relaxed), 1);
        },
    );
}
