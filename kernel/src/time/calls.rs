//! System calls that read and set clocks, and the table of all that have to do with time.

use platform::Nanoseconds;

use super::abi::{Timespec, Timeval, Timezone, Tms, clock_ticks};
use super::clocks::{ClockId, Form};
use super::{adjust, interval, now, posix_calls, realtime, set_realtime, sleep};
use crate::errno::{Errno, KResult};
use crate::process::current;
use crate::syscall::numbers as n;
use crate::syscall::{Call, Handler, SysResult};

/// The system calls of this subsystem.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (n::NANOSLEEP, sleep::nanosleep),
    (n::CLOCK_NANOSLEEP, sleep::clock_nanosleep),
    (n::CLOCK_GETTIME, clock_gettime),
    (n::CLOCK_GETRES, clock_getres),
    (n::CLOCK_SETTIME, clock_settime),
    (n::CLOCK_ADJTIME, adjust::clock_adjtime),
    (n::ADJTIMEX, adjust::adjtimex),
    (n::GETTIMEOFDAY, gettimeofday),
    (n::SETTIMEOFDAY, settimeofday),
    (n::TIME, time),
    (n::TIMES, times),
    (n::ALARM, interval::alarm),
    (n::GETITIMER, interval::getitimer),
    (n::SETITIMER, interval::setitimer),
    (n::TIMER_CREATE, posix_calls::timer_create),
    (n::TIMER_SETTIME, posix_calls::timer_settime),
    (n::TIMER_GETTIME, posix_calls::timer_gettime),
    (n::TIMER_GETOVERRUN, posix_calls::timer_getoverrun),
    (n::TIMER_DELETE, posix_calls::timer_delete),
];

/// `clock_gettime(2)`
fn clock_gettime(call: &mut Call<'_>) -> SysResult {
    let time = ClockId::from_number(call.int(0))?.read()?;
    call.user(1).write(&Timespec::from(time))?;
    Ok(0)
}

/// `clock_getres(2)`: every clock is read to the nanosecond.
fn clock_getres(call: &mut Call<'_>) -> SysResult {
    let clock = ClockId::from_number(call.int(0))?;
    if let ClockId::Process(..) | ClockId::Thread(..) = clock {
        clock.cpu_clock()?;
    }
    if !call.user(1).is_null() {
        call.user(1).write(&Timespec::from(Nanoseconds(1)))?;
    }
    Ok(0)
}

fn set_wall_clock(to: Nanoseconds) -> KResult<()> {
    if !current().process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    set_realtime(to)
}

/// `clock_settime(2)`
fn clock_settime(call: &mut Call<'_>) -> SysResult {
    let clock = ClockId::from_number(call.int(0))?;
    if clock != ClockId::Realtime(Form::Full) {
        return Err(Errno::EINVAL);
    }
    set_wall_clock(call.user(1).read::<Timespec>()?.duration()?)?;
    Ok(0)
}

/// `gettimeofday(2)`
fn gettimeofday(call: &mut Call<'_>) -> SysResult {
    if !call.user(0).is_null() {
        call.user(0).write(&Timeval::from(realtime()))?;
    }
    if !call.user(1).is_null() {
        call.user(1).write(&Timezone::default())?;
    }
    Ok(0)
}

/// `settimeofday(2)`: the time zone is the business of programs and not kept.
fn settimeofday(call: &mut Call<'_>) -> SysResult {
    if !call.user(1).is_null() {
        let zone = call.user(1).read::<Timezone>()?;
        if !(-15 * 60..=15 * 60).contains(&zone.minutes_west) {
            return Err(Errno::EINVAL);
        }
    }
    if !call.user(0).is_null() {
        set_wall_clock(call.user(0).read::<Timeval>()?.duration()?)?;
    } else if !current().process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    Ok(0)
}

/// `time(2)`
fn time(call: &mut Call<'_>) -> SysResult {
    let seconds = realtime().seconds();
    if !call.user(0).is_null() {
        call.user(0).write(&(seconds as i64))?;
    }
    Ok(seconds)
}

/// `times(2)`
fn times(call: &mut Call<'_>) -> SysResult {
    let task = current();
    if !call.user(0).is_null() {
        let (user, system) = task.process.usage_times();
        let children = *task.process.children_usage.lock();
        call.user(0).write(&Tms {
            user: clock_ticks(user),
            system: clock_ticks(system),
            children_user: clock_ticks(children.user),
            children_system: clock_ticks(children.system),
        })?;
    }
    Ok(clock_ticks(now()) as u64)
}
