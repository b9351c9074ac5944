//! Counters, and alarms by the local APIC's timer: one timer for the alarms of both counters.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use vmi_abi::{Alarm, Counter};

use super::apic::{self, PERIODIC_MODE};
use super::machine::{FREQUENCY, NO_ALARM, PerCpu, TSC_DEADLINE, tsc, with_cpu};
use super::processor;
use crate::apic_view::{INITIAL_COUNT, TIMER_ENTRY};
use crate::manner;
use crate::scale::Scale;

/// The slowest rate of the timer that still is fine enough, a second.
const LOWEST_RATE: u64 = 50_000_000;
/// Divisors, from the largest, with their encoding (Intel SDM vol. 3A, figure 11-10).
const DIVISORS: [(u64, u32); 5] = [(16, 0b0011), (8, 0b0010), (4, 0b0001), (2, 0b0000), (1, 0b1011)];
/// The shortest period: this part of a second.
const SHORTEST_PERIOD: u64 = 100_000;
const BAD_ARGUMENT: i64 = -1;

/// The timer's counts a cycle.
static COUNTS: AtomicU64 = AtomicU64::new(0);
static DIVISOR_CODE: AtomicU32 = AtomicU32::new(0);
/// By how much an alarm is put off, cycles.
static LATENESS: AtomicU64 = AtomicU64::new(0);

/// The rates are known: of the counter, and of the APIC timer undivided (zero where deadlines are used).
pub fn set_rates(frequency: u64, timer: u64) {
    FREQUENCY.store(frequency, Relaxed);
    let mut chosen = (1, 0b1011);
    for divisor in DIVISORS {
        if timer / divisor.0 >= LOWEST_RATE {
            chosen = divisor;
            break;
        }
    }
    DIVISOR_CODE.store(chosen.1, Relaxed);
    COUNTS.store(Scale::between(frequency, timer / chosen.0).0, Relaxed);
    LATENESS.store(Scale::between(1_000_000_000, frequency).apply(manner::LATENESS), Relaxed);
}

/// What the divide register is to hold.
pub fn divisor_code() -> u32 {
    DIVISOR_CODE.load(Relaxed)
}

pub extern "C" fn get_cycle_frequency() -> u64 {
    FREQUENCY.load(Relaxed)
}

pub extern "C" fn get_cycle_counter(counter: u64) -> u64 {
    let real = manner::real(tsc());
    match Counter::from_number(counter) {
        Some(Counter::Real) => real,
        Some(Counter::Available) => real - manner::stolen(real),
        Some(Counter::Stolen) => manner::stolen(real),
        None => 0,
    }
}

/// When an alarm of a counter goes off, by REAL.
fn real_expiry(counter: usize, expiry: u64) -> u64 {
    if counter == 0 || expiry == NO_ALARM { expiry } else { manner::real_when_available(expiry) }
}

/// Sets the timer to the earlier alarm; `now` is REAL.
fn program(cpu: &mut PerCpu, now: u64) {
    let [real, available] = cpu.alarms;
    let next = real.min(real_expiry(1, available));
    if TSC_DEADLINE.load(Relaxed) && !cpu.periodic {
        let deadline = match next {
            NO_ALARM => 0,
            _ => tsc().saturating_add(wait(next, now)).max(1),
        };
        // SAFETY: in memory, the mode and a deadline's register are not ordered among themselves.
        unsafe { asm!("mfence", options(nostack)) };
        processor::write_msr(processor::TSC_DEADLINE, deadline);
        return;
    }
    let count = match next {
        NO_ALARM => 0,
        _ => Scale(COUNTS.load(Relaxed)).apply_up(wait(next, now)).clamp(1, u64::from(u32::MAX)) as u32,
    };
    apic::write(cpu.apic, INITIAL_COUNT, count);
}

fn wait(next: u64, now: u64) -> u64 {
    next.saturating_sub(now).saturating_add(LATENESS.load(Relaxed))
}

/// Takes the timer's entry out of periodic mode.
fn leave_periodic(cpu: &mut PerCpu) {
    if core::mem::take(&mut cpu.periodic) {
        apic::write(cpu.apic, INITIAL_COUNT, 0);
        let mode = if TSC_DEADLINE.load(Relaxed) { apic::DEADLINE_MODE } else { 0 };
        let entry = apic::read(cpu.apic, TIMER_ENTRY) & !(3 << 17);
        apic::write(cpu.apic, TIMER_ENTRY, entry | mode);
    }
}

fn begin_periodic(cpu: &mut PerCpu, now: u64, expiry: u64, period: u64) -> i64 {
    let frequency = FREQUENCY.load(Relaxed);
    let count = Scale(COUNTS.load(Relaxed)).apply(period);
    let fits = period >= frequency / SHORTEST_PERIOD && count >= 1 && count <= u64::from(u32::MAX);
    if !fits || expiry > now.saturating_add(period) {
        return BAD_ARGUMENT;
    }
    cpu.alarms = [NO_ALARM; 2];
    cpu.periodic = true;
    let entry = apic::read(cpu.apic, TIMER_ENTRY) & !(3 << 17);
    apic::write(cpu.apic, TIMER_ENTRY, entry | PERIODIC_MODE);
    apic::write(cpu.apic, INITIAL_COUNT, count as u32);
    0
}

pub extern "C" fn set_alarm(flags: u64, expiry: u64, period: u64) -> i64 {
    let counter = (flags & 0xff) as usize;
    let how = flags & !0xff;
    let wired = Alarm::WIRED_LVTT.bits();
    let periodic = how == wired | Alarm::PERIODIC.bits();
    if counter > Counter::Available as usize || !(periodic || how == wired) {
        return BAD_ARGUMENT;
    }
    with_cpu(|cpu| {
        #[cfg(feature = "strict")]
        super::rules::alarm(cpu);
        let now = manner::real(tsc());
        if periodic {
            return begin_periodic(cpu, now, real_expiry(counter, expiry), real_expiry(counter, period));
        }
        leave_periodic(cpu);
        // The other alarm, if it has gone off, has done so for good.
        let [real, available] = &mut cpu.alarms;
        let (own, other, other_counter) =
            if counter == 0 { (real, available, 1) } else { (available, real, 0) };
        if real_expiry(other_counter, *other) <= now {
            *other = NO_ALARM;
        }
        *own = expiry.min(NO_ALARM - 1);
        program(cpu, now);
        0
    })
    .unwrap_or(BAD_ARGUMENT)
}

pub extern "C" fn cancel_alarm(flags: u64) -> u64 {
    let counter = (flags & 0xff) as usize;
    with_cpu(|cpu| {
        let now = manner::real(tsc());
        if cpu.periodic {
            leave_periodic(cpu);
            return 1;
        }
        let Some(alarm) = cpu.alarms.get_mut(counter) else { return 0 };
        let expiry = core::mem::replace(alarm, NO_ALARM);
        if expiry == NO_ALARM {
            return 0;
        }
        program(cpu, now);
        u64::from(real_expiry(counter, expiry) > now)
    })
    .unwrap_or(0)
}
