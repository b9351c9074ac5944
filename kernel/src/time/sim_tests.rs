//! Timers, sleeping and time slices on the simulated machine, in virtual time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::vec::Vec;

use platform::{CpuId, CpuSet, Nanoseconds};
use sim::Machine;

use super::interval::MIN_PERIOD;
use super::posix::{Notify, PosixTimer, Setting, TimerClock};
use super::*;
use crate::hook::cpu;
use crate::percpu::{self, cpu_id};
use crate::process::{Limit, Pid, Process, current};
use crate::signal::{SIGALRM, SIGUSR1, SIGXCPU};
use crate::sync::WaitQueue;
use crate::{sched, testing};

const MS: Nanoseconds = Nanoseconds::MILLISECOND;

fn ms(count: u64) -> Nanoseconds {
    Nanoseconds::from_millis(count)
}

fn sleep(time: Nanoseconds) {
    sleep_until(now() + time).unwrap();
}

/// Keeps the CPU busy for so long, as a program would.
fn work(time: Nanoseconds) {
    let step = Nanoseconds(50_000);
    for _ in 0..time.0 / step.0 {
        sim::advance(step);
        // Interrupts come when they are enabled anew.
        let state = cpu::irq_save();
        cpu::irq_restore(state);
        sched::resched_if_needed();
    }
}

fn interrupts() -> u64 {
    percpu::online().iter().filter_map(percpu::of).map(|cpu| cpu.interrupts.load(Ordering::Relaxed)).sum()
}

/// What was told, and when.
static TOLD: Mutex<Vec<(u64, Nanoseconds)>> = Mutex::new(Vec::new());

struct Tell(u64);

impl TimerTarget for Tell {
    fn expired(self: Arc<Self>, now: Nanoseconds) {
        TOLD.lock().unwrap().push((self.0, now));
    }
}

fn told() -> Vec<(u64, Nanoseconds)> {
    core::mem::take(&mut TOLD.lock().unwrap())
}

#[test]
fn sleepers_wake_exactly_on_time() {
    testing::run("time::sim_tests::sleepers_wake_exactly_on_time", Machine::new, || {
        let start = now();
        sleep(ms(3));
        assert_eq!(now(), start + ms(3));
        sleep_until(start).unwrap();
        assert_eq!(now(), start + ms(3), "a time that has passed is not waited for");
    });
}

#[test]
fn timers_tell_in_order_and_cancelled_ones_never() {
    testing::run("time::sim_tests::timers_tell_in_order_and_cancelled_ones_never", Machine::new, || {
        let start = now();
        let arm_at = |at, what| arm(start + ms(at), Arc::new(Tell(what))).unwrap();
        let (late, _, early, gone) = (arm_at(5, 5), arm_at(3, 3), arm_at(1, 1), arm_at(2, 2));
        assert!(gone.cancel() && !gone.cancel());
        sleep(ms(4));
        assert_eq!(told(), [(1, start + ms(1)), (3, start + ms(3))]);
        assert!(!early.cancel());
        assert!(late.cancel());
        sleep(ms(4));
        assert_eq!(told(), []);
        assert_eq!(armed_count(), 0);
    });
}

#[test]
fn a_deadline_in_the_past_tells_at_once() {
    testing::run("time::sim_tests::a_deadline_in_the_past_tells_at_once", Machine::new, || {
        sleep(ms(2));
        let start = now();
        arm(ms(1), Arc::new(Tell(1))).unwrap();
        work(MS);
        assert_eq!(told().first().map(|told| told.0), Some(1));
        assert!(now() <= start + MS);
    });
}

#[test]
fn an_idle_cpu_is_not_woken_for_a_deadline_nobody_has() {
    testing::run("time::sim_tests::an_idle_cpu_is_not_woken_for_a_deadline_nobody_has", Machine::new, || {
        let before = interrupts();
        drop(wake_at(&current().shared(), now() + MS));
        arm(now() + MS, Arc::new(Tell(1))).unwrap().cancel();
        sleep(Nanoseconds::SECOND);
        assert_eq!(interrupts() - before, 1, "only the end of the sleep interrupts");
    });
}

#[test]
fn a_machine_with_nothing_armed_takes_no_interrupt_at_all() {
    let name = "time::sim_tests::a_machine_with_nothing_armed_takes_no_interrupt_at_all";
    sim::in_fresh_process(name, || {
        let outcome = testing::outcome(Machine::new().cpus(2), || {
            work(ms(20));
            static NEVER: WaitQueue = WaitQueue::new();
            NEVER.wait_uninterruptible(|| None)
        });
        outcome.expect_failure(sim::FailureKind::Deadlock);
    });
}

#[test]
fn a_wait_ends_at_its_deadline_or_when_woken() {
    testing::run("time::sim_tests::a_wait_ends_at_its_deadline_or_when_woken", Machine::new, || {
        static QUEUE: WaitQueue = WaitQueue::new();
        static FLAG: AtomicU64 = AtomicU64::new(0);
        let look = || (FLAG.load(Ordering::Relaxed) != 0).then_some(());
        let start = now();
        assert_eq!(QUEUE.wait_until(Some(start + ms(7)), look), Ok(None));
        assert_eq!(now(), start + ms(7));
        testing::spawn(|| {
            sleep(ms(2));
            FLAG.store(1, Ordering::Relaxed);
            QUEUE.wake_all();
        });
        assert_eq!(QUEUE.wait_until(Some(now() + ms(9)), look), Ok(Some(())));
        assert_eq!(now(), start + ms(9));
        assert_eq!(armed_count(), 0, "the timeout is disarmed");
    });
}

#[test]
fn timers_are_cancelled_from_other_cpus() {
    testing::run(
        "time::sim_tests::timers_are_cancelled_from_other_cpus",
        || Machine::new().cpus(2),
        || {
            let task = current().shared();
            sched::set_affinity(&task, CpuSet::one(CpuId(0)));
            assert_eq!(cpu_id(), CpuId(0));
            let handle = arm(now() + ms(5), Arc::new(Tell(1))).unwrap();
            sched::set_affinity(&task, CpuSet::one(CpuId(1)));
            assert_eq!(cpu_id(), CpuId(1), "the task has moved");
            assert!(handle.cancel());
            sleep(ms(10));
            assert_eq!(cpu_id(), CpuId(1), "the task stays where it may run");
            assert_eq!(told(), []);
        },
    );
}

static PROGRESS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn busy(which: usize) {
    loop {
        work(Nanoseconds(50_000));
        PROGRESS[which].fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn busy_tasks_take_turns_by_slices() {
    testing::run("time::sim_tests::busy_tasks_take_turns_by_slices", Machine::new, || {
        let switches = || percpu::this_cpu().switches.load(Ordering::Relaxed);
        testing::spawn(|| busy(0));
        testing::spawn(|| busy(1));
        let (start, before) = (now(), switches());
        sleep(ms(80));
        let elapsed = (now() - start).0 / MS.0;
        let [first, second] = [0, 1].map(|which| PROGRESS[which].load(Ordering::Relaxed) / 20);
        assert!(elapsed < 90, "a woken task waited until {elapsed} ms");
        assert!(first.abs_diff(second) <= 4, "{first} ms and {second} ms are no fair shares");
        assert!(first + second >= 76, "{first} ms and {second} ms of 80 leave too much unused");
        let made = switches() - before;
        assert!((16..=30).contains(&made), "{made} switches in 80 ms are not slices of 4 ms");
    });
}

#[test]
fn one_busy_task_is_left_alone() {
    testing::run("time::sim_tests::one_busy_task_is_left_alone", Machine::new, || {
        let before = interrupts();
        work(ms(100));
        assert_eq!(interrupts(), before, "there is no tick");
    });
}

#[test]
fn an_early_wall_clock_sleep_follows_the_clock_being_set() {
    let name = "time::sim_tests::an_early_wall_clock_sleep_follows_the_clock_being_set";
    testing::run(
        name,
        || Machine::new().wall_clock(Nanoseconds::from_seconds(1000)),
        || {
            assert_eq!(realtime(), now() + Nanoseconds::from_seconds(1000));
            static WOKEN: AtomicU64 = AtomicU64::new(0);
            testing::spawn(|| {
                sleep::sleep_until_wall_clock(Nanoseconds::from_seconds(2000)).unwrap();
                WOKEN.store(now().0, Ordering::Relaxed);
            });
            sleep(Nanoseconds::SECOND);
            set_realtime(Nanoseconds::from_seconds(1998)).unwrap();
            let set_at = now();
            sleep(Nanoseconds::from_seconds(5));
            assert_eq!(WOKEN.load(Ordering::Relaxed), (set_at + Nanoseconds::from_seconds(2)).0);
            assert!(set_realtime(Nanoseconds(1)).is_err(), "that would be before the start");
        },
    );
}

#[test]
fn a_timer_descriptor_counts_periods() {
    testing::run("time::sim_tests::a_timer_descriptor_counts_periods", Machine::new, || {
        let source = TimerSource::new(SourceClock::Monotonic);
        assert_eq!(source.take_expirations(), Ok(None));
        source.set(TimerSpec { value: ms(5), interval: ms(2) }, Start::Relative).unwrap();
        sleep(ms(4));
        assert_eq!(source.get(), TimerSpec { value: ms(1), interval: ms(2) });
        assert!(!source.is_ready());
        let ready = || source.take_expirations().unwrap();
        let start = now();
        assert_eq!(source.readers().wait_until(None, ready), Ok(Some(1)));
        assert_eq!(now(), start + ms(1));
        sleep(Nanoseconds(MS.0 * 13 / 2));
        assert_eq!(source.take_expirations(), Ok(Some(3)));
        assert_eq!(source.get().value, Nanoseconds(MS.0 * 3 / 2));
        let old = source.set(TimerSpec::default(), Start::Relative).unwrap();
        assert_eq!(old.value, Nanoseconds(MS.0 * 3 / 2));
        sleep(ms(10));
        assert_eq!((source.take_expirations(), armed_count()), (Ok(None), 0));
    });
}

#[test]
fn a_timer_descriptor_is_cancelled_by_setting_the_clock() {
    let name = "time::sim_tests::a_timer_descriptor_is_cancelled_by_setting_the_clock";
    testing::run(
        name,
        || Machine::new().wall_clock(Nanoseconds::from_seconds(50)),
        || {
            let source = TimerSource::new(SourceClock::Realtime);
            let at = TimerSpec { value: Nanoseconds::from_seconds(100), interval: Nanoseconds::ZERO };
            source.set(at, Start::AbsoluteUntilClockIsSet).unwrap();
            set_realtime(Nanoseconds::from_seconds(90)).unwrap();
            assert!(source.is_ready());
            assert_eq!(source.take_expirations(), Err(crate::errno::Errno::ECANCELED));
            source.set(at, Start::Absolute).unwrap();
            set_realtime(Nanoseconds::from_seconds(99)).unwrap();
            assert!(!source.is_ready());
            sleep(Nanoseconds::SECOND);
            assert_eq!(source.take_expirations(), Ok(Some(1)));
            drop(source);
            assert_eq!((armed_count(), wall::CLOCK_WAS_SET.is_empty()), (0, true));
        },
    );
}

fn add_timer(process: &Arc<Process>, clock: TimerClock, notify: Notify) -> Arc<PosixTimer> {
    let mut state = process.timers.state.lock();
    let id = state.posix.len() as i32;
    let timer = PosixTimer::new(process, id, clock, notify, 7);
    state.posix.push(Some(timer.clone()));
    timer
}

#[test]
fn a_posix_timer_goes_on_when_its_signal_is_taken() {
    testing::run("time::sim_tests::a_posix_timer_goes_on_when_its_signal_is_taken", Machine::new, || {
        let process = testing::new_process(Pid(0));
        let timer = add_timer(&process, TimerClock::Monotonic, Notify::Process(SIGUSR1));
        let every = |value, interval| Setting { value: ms(value), interval: ms(interval) };
        timer.set(&process, every(5, 10), false).unwrap();
        sleep(ms(4));
        assert_eq!(timer.get(&process), every(1, 10));
        assert!(!process.signals.pending().contains(SIGUSR1));
        sleep(ms(1));
        assert!(process.signals.pending().contains(SIGUSR1));
        assert_eq!(armed_count(), 0, "it waits for its signal to be taken");
        // Due at 5, 15, 25 and 35 ms; taken at 37.
        sleep(ms(32));
        assert_eq!(timer.get(&process), every(8, 10));
        assert_eq!(timer_signal_taken(&process, 0), 3);
        assert_eq!((timer.overrun(), armed_count()), (3, 1));
        assert_eq!(timer_signal_taken(&process, 0), 0, "it is taken once");
        timer.set(&process, every(0, 0), false).unwrap();
        assert_eq!((timer.overrun(), armed_count()), (0, 0));
        assert_eq!(timer_signal_taken(&process, 9), 0);

        timer.set(&process, every(500, 0), true).unwrap();
        process.timers.on_exec(&process);
        assert_eq!(armed_count(), 0);
    });
}

#[test]
fn a_posix_timer_of_nobody_shows_its_time() {
    testing::run("time::sim_tests::a_posix_timer_of_nobody_shows_its_time", Machine::new, || {
        let process = testing::new_process(Pid(0));
        let timer = add_timer(&process, TimerClock::Monotonic, Notify::Nothing);
        timer.set(&process, Setting { value: ms(5), interval: ms(3) }, false).unwrap();
        assert_eq!(armed_count(), 0);
        sleep(ms(9));
        assert_eq!(timer.get(&process).value, ms(2));
        timer.set(&process, Setting { value: ms(5), interval: Nanoseconds::ZERO }, false).unwrap();
        sleep(ms(9));
        assert_eq!(timer.get(&process).value, Nanoseconds::ZERO);
    });
}

#[test]
fn an_ignored_signal_does_not_make_a_storm() {
    testing::run("time::sim_tests::an_ignored_signal_does_not_make_a_storm", Machine::new, || {
        let process = testing::new_process(Pid(0));
        // SIGURG is ignored by default.
        let signal = crate::signal::Signal::new(23).unwrap();
        let timer = add_timer(&process, TimerClock::Monotonic, Notify::Process(signal));
        timer.set(&process, Setting { value: MIN_PERIOD, interval: Nanoseconds(1) }, false).unwrap();
        let before = interrupts();
        sleep(ms(20));
        let taken = interrupts() - before;
        assert!((18..=23).contains(&taken), "{taken} interrupts in 20 ms");
        timer.stop();
        assert_eq!(armed_count(), 0);
    });
}

#[test]
fn the_alarm_rings_and_repeats() {
    testing::run("time::sim_tests::the_alarm_rings_and_repeats", Machine::new, || {
        let process = testing::new_process(Pid(0));
        interval::set_real(&process, ms(5), ms(4)).unwrap();
        sleep(ms(4));
        assert!(!process.signals.pending().contains(SIGALRM));
        assert_eq!(interval::set_real(&process, ms(5), ms(4)).unwrap(), MS);
        sleep(ms(5));
        assert!(process.signals.pending().contains(SIGALRM));
        assert_eq!(armed_count(), 1, "it goes on");
        process.timers.on_exit(&process);
        assert_eq!(armed_count(), 0);
        assert_eq!(interval::set_real(&process, ms(5), ms(4)).unwrap(), Nanoseconds::ZERO);
        assert_eq!(armed_count(), 0, "nothing is armed for a process that ends");
    });
}

#[test]
fn cpu_time_is_looked_after_only_while_it_is_used() {
    testing::run("time::sim_tests::cpu_time_is_looked_after_only_while_it_is_used", Machine::new, || {
        let process = testing::process();
        let task = current().shared();
        process.threads.lock().push(task);
        process.live_threads.store(1, Ordering::Relaxed);
        let limit = Limit { soft: 1, hard: 3 };
        process.timers.set_cpu_limit(&process, limit);
        work(ms(200));
        let before = interrupts();
        sleep(Nanoseconds::from_seconds(60));
        assert!(interrupts() - before <= 2, "a process that sleeps is not looked at");
        assert!(!process.signals.pending().contains(SIGXCPU));
        work(ms(810));
        assert!(process.signals.pending().contains(SIGXCPU));
        process.timers.on_exit(&process);
        process.threads.lock().clear();
    });
}
