//! How busy the machine is: idle time of each CPU, and the load averages.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{MAX_CPUS, Nanoseconds};

use crate::hook::clock;
use crate::percpu;
use crate::process::{TaskKind, tree};
use crate::sync::SpinLock;
use crate::time;

/// Hundredths of a second: the unit of CPU times in `/proc`.
pub const TICK: u64 = 10_000_000;

/// Time that each CPU taking part has been idle, in the order of CPUs.
pub fn idle_times() -> impl Iterator<Item = (platform::CpuId, Nanoseconds)> {
    percpu::online().iter().filter_map(|cpu| {
        let idle = percpu::of(cpu)?.run_queue.lock().idle_time();
        Some((cpu, idle))
    })
}

/// Time that each CPU has lost to others below, by its number. Context: a task, interrupts enabled.
pub fn stolen_times() -> [Nanoseconds; MAX_CPUS] {
    let times: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
    fn look(times: usize) {
        // SAFETY: the caller of `run_on` keeps the array until every CPU has been here.
        let times = unsafe { &*(times as *const [AtomicU64; MAX_CPUS]) };
        times[percpu::cpu_id().index()].store(clock::stolen().0, Ordering::Relaxed);
    }
    percpu::calls::run_on(percpu::online(), look, &raw const times as usize);
    times.map(|time| Nanoseconds(time.into_inner()))
}

/// Threads that run or are ready to, and all threads.
pub fn tasks() -> (usize, usize) {
    let (mut ready, mut all) = (0, 0);
    for process in tree::processes() {
        for task in process.threads.lock().iter().filter(|task| task.kind() == TaskKind::User) {
            all += 1;
            ready += usize::from(task.sched.is_runnable());
        }
    }
    (ready, all)
}

/// Fraction bits of a load average, as in Linux.
const SHIFT: u32 = 11;
const ONE: u64 = 1 << SHIFT;
/// What is left of an average after five seconds, for one, five and fifteen minutes (Linux's `EXP_n`).
const DECAY: [u64; 3] = [1884, 2014, 2037];
const STEP: Nanoseconds = Nanoseconds(5_000_000_000);

struct Averages {
    /// When they were last brought up to date.
    at: Nanoseconds,
    /// Time that CPUs had worked then, in all.
    worked: Nanoseconds,
    loads: [u64; 3],
}

static AVERAGES: SpinLock<Averages> =
    SpinLock::new(Averages { at: Nanoseconds::ZERO, worked: Nanoseconds::ZERO, loads: [0; 3] });

/// `base` to the power of `exponent`, in fixed point.
fn power(base: u64, mut exponent: u64) -> u64 {
    let (mut result, mut base) = (ONE, base);
    while exponent > 0 {
        if exponent & 1 != 0 {
            result = (result * base) >> SHIFT;
        }
        base = (base * base) >> SHIFT;
        exponent >>= 1;
    }
    result
}

impl Averages {
    /// Brings them up to `now`, when CPUs have worked `worked` in all: since the last time they were as busy as that
    /// says, on average. Nothing ticks, so nothing is sampled in between.
    fn advance(&mut self, now: Nanoseconds, worked: Nanoseconds) {
        let steps = now.saturating_sub(self.at).0 / STEP.0;
        if steps == 0 {
            return;
        }
        let elapsed = now.saturating_sub(self.at).0;
        let busy = (u128::from(worked.saturating_sub(self.worked).0) << SHIFT) / u128::from(elapsed);
        for (load, decay) in self.loads.iter_mut().zip(DECAY) {
            let keep = power(decay, steps);
            *load = (*load * keep + busy as u64 * (ONE - keep)) >> SHIFT;
        }
        self.at = now;
        self.worked = worked;
    }
}

/// The load averages over one, five and fifteen minutes, in hundredths: how many CPUs' worth of work there was.
pub fn averages() -> [u64; 3] {
    let now = time::now();
    let (cpus, idle) = idle_times().fold((0, 0), |(cpus, sum), (_, idle)| (cpus + 1, sum + idle.0));
    let worked = Nanoseconds((now.0 * cpus).saturating_sub(idle));
    let mut averages = AVERAGES.lock();
    averages.advance(now, worked);
    averages.loads.map(|load| (load * 100 + ONE / 2) >> SHIFT)
}

/// Interrupts taken and context switches made, on all CPUs.
pub fn events() -> (u64, u64) {
    percpu::online().iter().filter_map(percpu::of).fold((0, 0), |(interrupts, switches), cpu| {
        (interrupts + cpu.interrupts.load(Ordering::Relaxed), switches + cpu.switches.load(Ordering::Relaxed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_approach_the_load() {
        let mut averages = Averages { at: Nanoseconds::ZERO, worked: Nanoseconds::ZERO, loads: [0; 3] };
        for minute in 1..=60u64 {
            averages.advance(Nanoseconds::from_seconds(minute * 60), Nanoseconds::from_seconds(minute * 120));
        }
        for load in averages.loads {
            assert!((2 * ONE - 100..=2 * ONE).contains(&load), "{load}");
        }
        let before = averages.loads;
        averages.advance(Nanoseconds::from_seconds(3660), Nanoseconds::from_seconds(7200));
        // A minute of rest takes the first down to 1/e, the others less far.
        assert!((ONE * 2 * 35 / 100..ONE * 2 * 39 / 100).contains(&averages.loads[0]));
        assert!(averages.loads[0] < averages.loads[1] && averages.loads[1] < averages.loads[2]);
        assert!(averages.loads[2] < before[2]);
    }
}
