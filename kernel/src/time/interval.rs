//! The three interval timers of a process (`setitimer(2)`) and `alarm(2)`.

use alloc::sync::Arc;

use platform::Nanoseconds;

use super::abi::{Itimerval, Timeval};
use super::clocks::CpuTimeKind;
use super::cpu_time::ProcessTime;
use super::now;
use super::process_timers::look;
use super::timers::{TimerHandle, arm, wait_for_functions};
use crate::errno::{Errno, KResult};
use crate::process::{Process, current};
use crate::syscall::{Call, SysResult};

/// A timer that repeats does so no faster: below that it would leave no time for anything else.
pub(super) const MIN_PERIOD: Nanoseconds = Nanoseconds(50_000);

/// The first of the times `deadline`, `deadline + interval`… that lies after `at`, and how many do not.
pub(super) fn next_period(
    deadline: Nanoseconds,
    interval: Nanoseconds,
    at: Nanoseconds,
) -> (Nanoseconds, u64) {
    if deadline > at {
        return (deadline, 0);
    }
    let passed = (at.0 - deadline.0) / interval.0 + 1;
    (Nanoseconds(deadline.0.saturating_add(passed.saturating_mul(interval.0))), passed)
}

/// ITIMER_REAL, armed.
pub(super) struct RealInterval {
    deadline: Nanoseconds,
    /// Zero if it does not repeat.
    interval: Nanoseconds,
    pub(super) handle: TimerHandle,
}

impl RealInterval {
    /// Moves a timer that is due at `at` to its next period, or disarms it. Returns whether it was due.
    pub(super) fn advance(timer: &mut Option<Self>, at: Nanoseconds, process: &Arc<Process>) -> bool {
        let Some(armed) = timer.as_mut().filter(|armed| armed.deadline <= at) else { return false };
        if armed.interval == Nanoseconds::ZERO {
            *timer = None;
            return true;
        }
        (armed.deadline, _) = next_period(armed.deadline, armed.interval.max(MIN_PERIOD), at);
        match arm(armed.deadline, process.clone()) {
            Ok(handle) => armed.handle = handle,
            Err(_) => {
                log::error!("no memory to go on with an interval timer of process {}", process.pid.0);
                *timer = None;
            }
        }
        true
    }
}

/// ITIMER_VIRTUAL or ITIMER_PROF, armed.
pub(super) struct CpuInterval {
    /// CPU time at which it is due.
    target: Nanoseconds,
    /// Zero if it does not repeat.
    interval: Nanoseconds,
}

impl CpuInterval {
    /// As [`RealInterval::advance`].
    pub(super) fn advance(timer: &mut Option<Self>, used: Nanoseconds) -> bool {
        let Some(armed) = timer.as_mut().filter(|armed| armed.target <= used) else { return false };
        if armed.interval == Nanoseconds::ZERO {
            *timer = None;
        } else {
            (armed.target, _) = next_period(armed.target, armed.interval, used);
        }
        true
    }

    /// CPU time left.
    pub(super) fn left(&self, used: Nanoseconds) -> Nanoseconds {
        self.target.saturating_sub(used)
    }
}

/// Which of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Real,
    Cpu(CpuTimeKind),
}

impl Which {
    fn from_number(number: i32) -> KResult<Self> {
        match number {
            0 => Ok(Self::Real),
            1 => Ok(Self::Cpu(CpuTimeKind::User)),
            2 => Ok(Self::Cpu(CpuTimeKind::All)),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Time to the next expiration (zero if disarmed) and between expirations.
#[derive(Clone, Copy, Default)]
struct Setting {
    value: Nanoseconds,
    interval: Nanoseconds,
}

impl Setting {
    fn from_user(value: Itimerval) -> KResult<Self> {
        Ok(Self { interval: value.interval.duration()?, value: value.value.duration()? })
    }

    fn to_user(self) -> Itimerval {
        Itimerval { interval: self.interval.into(), value: round_up(self.value) }
    }
}

/// An armed timer never shows that no time is left.
fn round_up(value: Nanoseconds) -> Timeval {
    value.saturating_add(Nanoseconds(999)).into()
}

fn get(process: &Process, which: Which) -> Setting {
    let used = ProcessTime::of(process);
    let state = process.timers.state.lock();
    let cpu = |timer: &Option<CpuInterval>, kind| {
        timer.as_ref().map(|timer| Setting {
            value: timer.left(used.get(kind)).max(Nanoseconds::MICROSECOND),
            interval: timer.interval,
        })
    };
    let setting = match which {
        Which::Real => state.real.as_ref().map(|real| Setting {
            value: real.deadline.saturating_sub(now()).max(Nanoseconds::MICROSECOND),
            interval: real.interval,
        }),
        Which::Cpu(CpuTimeKind::User) => cpu(&state.user, CpuTimeKind::User),
        Which::Cpu(CpuTimeKind::All) => cpu(&state.all, CpuTimeKind::All),
    };
    setting.unwrap_or_default()
}

fn set(process: &Arc<Process>, which: Which, setting: Setting) -> KResult<Setting> {
    let old = get(process, which);
    let armed = setting.value != Nanoseconds::ZERO;
    match which {
        Which::Real => {
            let mut state = process.timers.state.lock();
            if let Some(real) = state.real.take() {
                real.handle.try_cancel();
            }
            if armed && !state.ended() {
                let deadline = now().saturating_add(setting.value);
                let handle = arm(deadline, process.clone())?;
                state.real = Some(RealInterval { deadline, interval: setting.interval, handle });
            }
        }
        Which::Cpu(kind) => {
            let used = ProcessTime::of(process).get(kind);
            let timer = armed.then(|| CpuInterval {
                target: used.saturating_add(setting.value),
                interval: setting.interval,
            });
            let mut state = process.timers.state.lock();
            match kind {
                CpuTimeKind::User => state.user = timer,
                CpuTimeKind::All => state.all = timer,
            }
            drop(state);
            if armed {
                look(process);
            }
        }
    }
    // A signal that was due before has been sent when this returns.
    wait_for_functions(Arc::as_ptr(process).addr());
    Ok(old)
}

/// Arms ITIMER_REAL; returns what was left.
#[cfg(test)]
pub(super) fn set_real(
    process: &Arc<Process>,
    value: Nanoseconds,
    interval: Nanoseconds,
) -> KResult<Nanoseconds> {
    set(process, Which::Real, Setting { value, interval }).map(|old| old.value)
}

/// `getitimer(2)`
pub(super) fn getitimer(call: &mut Call<'_>) -> SysResult {
    let which = Which::from_number(call.int(0))?;
    call.user(1).write(&get(&current().process, which).to_user())?;
    Ok(0)
}

/// `setitimer(2)`
pub(super) fn setitimer(call: &mut Call<'_>) -> SysResult {
    let which = Which::from_number(call.int(0))?;
    let (new, old_to) = (call.user(1), call.user(2));
    // A null pointer disarms, as it does on Linux.
    let new = if new.is_null() { Itimerval::default() } else { new.read::<Itimerval>()? };
    let old = set(&current().process, which, Setting::from_user(new)?)?;
    if !old_to.is_null() {
        old_to.write(&old.to_user())?;
    }
    Ok(0)
}

/// `alarm(2)`
pub(super) fn alarm(call: &mut Call<'_>) -> SysResult {
    let value = Nanoseconds::from_seconds(call.uint(0).into());
    let old = set(&current().process, Which::Real, Setting { value, interval: Nanoseconds::ZERO })?;
    // To the nearest second, but never none while some time is left.
    let rounded = (old.value.0 + Nanoseconds::SECOND.0 / 2) / Nanoseconds::SECOND.0;
    Ok(if old.value == Nanoseconds::ZERO { 0 } else { rounded.max(1) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_period_is_the_first_one_ahead(
            deadline in 0u64..1000, interval in 1u64..100, at in 0u64..2000,
        ) {
            let mut slow = (deadline, 0);
            while slow.0 <= at {
                slow = (slow.0 + interval, slow.1 + 1);
            }
            let (next, passed) = next_period(Nanoseconds(deadline), Nanoseconds(interval), Nanoseconds(at));
            prop_assert_eq!((next.0, passed), slow);
        }
    }

    #[test]
    fn a_cpu_timer_rings_once_for_periods_missed() {
        let mut timer = Some(CpuInterval { target: Nanoseconds(100), interval: Nanoseconds(30) });
        assert!(!CpuInterval::advance(&mut timer, Nanoseconds(99)));
        assert!(CpuInterval::advance(&mut timer, Nanoseconds(165)));
        assert_eq!(timer.as_ref().map(|timer| timer.left(Nanoseconds(165))), Some(Nanoseconds(25)));
        timer = Some(CpuInterval { target: Nanoseconds(5), interval: Nanoseconds::ZERO });
        assert!(CpuInterval::advance(&mut timer, Nanoseconds(5)) && timer.is_none());
        assert!(!CpuInterval::advance(&mut timer, Nanoseconds(500)));
    }

    #[test]
    fn what_is_left_is_never_shown_as_nothing() {
        assert_eq!(round_up(Nanoseconds(1)), Timeval { seconds: 0, microseconds: 1 });
        assert_eq!(round_up(Nanoseconds(999_999_001)), Timeval { seconds: 1, microseconds: 0 });
        assert_eq!(round_up(Nanoseconds::ZERO), Timeval::default());
    }
}
