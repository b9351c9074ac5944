//! Time: the time stamp counter is the clock, for it runs with the hypervisor's REAL counter at a constant distance; alarms
//! are set on that.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arch_native::cpu::local::current_cpu;
use arch_native::interrupts::local_apic::{self, Register};
use arch_native::interrupts::vectors;
use arch_native::time::tsc;
use platform::{MAX_CPUS, Nanoseconds, Unusable};
use vmi_abi::{Alarm, Counter};

use crate::call::vmi_system_v;
use crate::machine::VmiMachine;

/// How far REAL is ahead of the time stamp counter, at least; modulo 2^64.
static REAL_AHEAD: AtomicU64 = AtomicU64::new(0);
/// What each CPU's STOLEN counter showed when the CPU started.
static STOLEN_AT_START: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

fn cycles(counter: Counter) -> u64 {
    let cycles;
    // SAFETY: only reads a counter.
    unsafe { vmi_system_v!(GetCycleCounter, "rdi" = counter as u64; cycles) };
    cycles
}

/// Finds the counters' rate and their distance.
pub fn find_rates() -> Result<(), Unusable> {
    let hertz: u64;
    // SAFETY: only reads a number.
    unsafe { vmi_system_v!(GetCycleFrequency; hertz) };
    if hertz < 1_000_000 {
        return Err(Unusable("the VMI ROM's counter is too slow"));
    }
    tsc::set_rate(hertz);
    // The reading of REAL is the later one, so an alarm is late by the time between, and never early.
    let stamp = tsc::ticks();
    REAL_AHEAD.store(cycles(Counter::Real).wrapping_sub(stamp), Relaxed);
    Ok(())
}

/// Alarms come at the timer's vector, of the timer's entry of the local vector table. Stolen time counts from now on.
pub fn enable_timer() {
    STOLEN_AT_START[current_cpu().index()].store(cycles(Counter::Stolen), Relaxed);
    local_apic::write::<VmiMachine>(Register::TimerVector, u32::from(vectors::TIMER));
}

/// Lets an alarm go off in `left`.
#[inline]
pub fn set_timer(left: Nanoseconds) {
    let ticks = tsc::ticks().saturating_add(tsc::nanosecond().apply_up(left.0));
    let expiry = ticks.wrapping_add(REAL_AHEAD.load(Relaxed));
    let flags = Counter::Real as u64 | Alarm::WIRED_LVTT.bits();
    let result: i64;
    // SAFETY: a one-shot alarm of this CPU, which has been bound.
    unsafe { vmi_system_v!(SetAlarm, "rdi" = flags, "rsi" = expiry, "rdx" = 0u64; result) };
    debug_assert_eq!(result, 0, "the VMI ROM refused an alarm");
}

/// Time since 1970, if the hypervisor knows.
pub fn wall_clock() -> Option<Nanoseconds> {
    let nanoseconds: u64;
    // SAFETY: only reads a clock.
    unsafe { vmi_system_v!(GetWallclockTime; nanoseconds) };
    (nanoseconds != 0).then_some(Nanoseconds(nanoseconds))
}

/// Time this CPU was ready to run and was not let.
pub fn stolen() -> Nanoseconds {
    let at_start = STOLEN_AT_START[current_cpu().index()].load(Relaxed);
    let since = cycles(Counter::Stolen).saturating_sub(at_start);
    tsc::tick().map_or(Nanoseconds::ZERO, |tick| Nanoseconds(tick.apply(since)))
}
