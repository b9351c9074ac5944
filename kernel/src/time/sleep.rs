//! Sleeping for a time or until one.

use alloc::boxed::Box;

use platform::Nanoseconds;

use super::abi::Timespec;
use super::clocks::{ClockId, Form};
use super::cpu_time::CpuClock;
use super::{now, wake_at, wall};
use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::process::{Current, current};
use crate::sched::{self, BlockedState};
use crate::signal;
use crate::sync::Interrupted;
use crate::syscall::{Call, SysResult};

const TIMER_ABSTIME: i32 = 1;

/// Sleeps until `deadline` on the monotonic clock, or until a signal comes. Context: a task, no lock held.
///
/// # Errors
/// The signal came first.
pub fn sleep_until(deadline: Nanoseconds) -> Result<(), Interrupted> {
    if now() >= deadline {
        return Ok(());
    }
    let task = current().shared();
    let _timer = wake_at(&task, deadline);
    loop {
        task.prepare_to_block(BlockedState::Interruptible);
        let result = if now() >= deadline {
            Some(Ok(()))
        } else if Current::signal_pending() {
            Some(Err(Interrupted))
        } else {
            None
        };
        if let Some(result) = result {
            task.cancel_block();
            return result;
        }
        sched::block();
    }
}

/// `nanosleep(2)`
pub(super) fn nanosleep(call: &mut Call<'_>) -> SysResult {
    let duration = call.user(0).read::<Timespec>()?.duration()?;
    sleep_rest(now().saturating_add(duration), call.user(1))
}

/// Sleeps until `deadline`; if a signal comes first, writes what is left to `remaining` and lets the call go on later.
fn sleep_rest(deadline: Nanoseconds, remaining: UserAddr) -> SysResult {
    if sleep_until(deadline).is_ok() {
        return Ok(0);
    }
    let left = deadline.saturating_sub(now());
    if left == Nanoseconds::ZERO {
        return Ok(0);
    }
    if !remaining.is_null() {
        remaining.write(&Timespec::from(left))?;
    }
    Err(signal::set_restart(Box::new(move || sleep_rest(deadline, remaining))))
}

/// `clock_nanosleep(2)`
pub(super) fn clock_nanosleep(call: &mut Call<'_>) -> SysResult {
    let clock = ClockId::from_number(call.int(0))?;
    match clock {
        ClockId::Realtime(Form::ReadOnly) | ClockId::Monotonic(Form::ReadOnly) => {
            return Err(Errno::EOPNOTSUPP);
        }
        ClockId::OWN_THREAD => return Err(Errno::EINVAL),
        _ => {}
    }
    let absolute = call.int(1) & TIMER_ABSTIME != 0;
    let time = call.user(2).read::<Timespec>()?.duration()?;
    let remaining = if absolute { UserAddr::NULL } else { call.user(3) };
    match clock {
        ClockId::Realtime(_) if absolute => sleep_until_wall_clock(time),
        ClockId::Realtime(_) | ClockId::Monotonic(_) if !absolute => {
            sleep_rest(now().saturating_add(time), remaining)
        }
        // Nothing need be remembered for a restart: the arguments say it all.
        ClockId::Realtime(_) | ClockId::Monotonic(_) => match sleep_until(time) {
            Ok(()) => Ok(0),
            Err(Interrupted) => Err(Errno::ERESTARTNOHAND),
        },
        ClockId::Process(..) | ClockId::Thread(..) => {
            let clock = clock.cpu_clock()?;
            if absolute {
                return match sleep_on_cpu_time(&clock, time) {
                    Ok(()) => Ok(0),
                    Err(Interrupted) => Err(Errno::ERESTARTNOHAND),
                };
            }
            let target = clock.read().saturating_add(time);
            sleep_rest_on_cpu_time(clock, target, remaining)
        }
    }
}

/// Sleeps until the wall clock shows `time`, however it is set meanwhile.
pub(super) fn sleep_until_wall_clock(time: Nanoseconds) -> SysResult {
    loop {
        let sets = wall::sets();
        let changed = || (wall::sets() != sets).then_some(());
        match wall::CLOCK_WAS_SET.wait_until(Some(wall::monotonic_of(time)), changed) {
            Ok(Some(())) => {}
            Ok(None) => return Ok(0),
            Err(Interrupted) => return Err(Errno::ERESTARTNOHAND),
        }
    }
}

fn sleep_on_cpu_time(clock: &CpuClock, target: Nanoseconds) -> Result<(), Interrupted> {
    loop {
        let left = target.saturating_sub(clock.read());
        if left == Nanoseconds::ZERO {
            return Ok(());
        }
        sleep_until(now().saturating_add(clock.soonest(left)))?;
    }
}

fn sleep_rest_on_cpu_time(clock: CpuClock, target: Nanoseconds, remaining: UserAddr) -> SysResult {
    if sleep_on_cpu_time(&clock, target).is_ok() {
        return Ok(0);
    }
    let left = target.saturating_sub(clock.read());
    if !remaining.is_null() {
        remaining.write(&Timespec::from(left))?;
    }
    Err(signal::set_restart(Box::new(move || sleep_rest_on_cpu_time(clock, target, remaining))))
}
