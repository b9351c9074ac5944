//! The clocks a program can name (`clock_gettime(2)`).

use alloc::sync::Arc;

use platform::Nanoseconds;

use super::abi::Timespec;
use super::cpu_time::CpuClock;
use super::wall::monotonic_of;
use super::{now, realtime};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::{Pid, current, tree};

/// What a clock number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockId {
    /// CLOCK_REALTIME, its coarse form and TAI (the kernel is told of no leap seconds).
    Realtime(Form),
    /// CLOCK_MONOTONIC, its raw and coarse forms and CLOCK_BOOTTIME (the machine is never suspended).
    Monotonic(Form),
    /// CPU time of a process, or of the calling one for number 0.
    Process(Pid, CpuTimeKind),
    /// CPU time of a thread, or of the calling one for number 0.
    Thread(Pid, CpuTimeKind),
}

/// What may be done with a clock beside reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Everything: set it (if it is the wall clock), sleep, arm timers.
    Full,
    /// Sleep and arm timers.
    Timers,
    /// Nothing.
    ReadOnly,
}

/// Which time of a thread or process counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuTimeKind {
    /// In user mode and in the kernel.
    All,
    /// In user mode.
    User,
}

impl ClockId {
    /// CLOCK_PROCESS_CPUTIME_ID.
    pub const OWN_PROCESS: Self = Self::Process(Pid(0), CpuTimeKind::All);
    /// CLOCK_THREAD_CPUTIME_ID.
    pub const OWN_THREAD: Self = Self::Thread(Pid(0), CpuTimeKind::All);

    /// The clock of a Linux number (include/uapi/linux/time.h; negative numbers name the CPU time of a process or
    /// thread, include/linux/posix-timers.h).
    ///
    /// # Errors
    /// EINVAL if there is no such clock.
    pub fn from_number(number: i32) -> KResult<Self> {
        Ok(match number {
            0 => Self::Realtime(Form::Full),
            1 => Self::Monotonic(Form::Full),
            2 => Self::OWN_PROCESS,
            3 => Self::OWN_THREAD,
            4 | 6 => Self::Monotonic(Form::ReadOnly),
            5 => Self::Realtime(Form::ReadOnly),
            7 | 9 => Self::Monotonic(Form::Timers),
            8 | 11 => Self::Realtime(Form::Timers),
            number if number < 0 => {
                let pid = Pid(!(number >> 3));
                let kind = match number & 3 {
                    0 | 2 => CpuTimeKind::All,
                    1 => CpuTimeKind::User,
                    _ => return Err(Errno::EINVAL),
                };
                if number & 4 != 0 { Self::Thread(pid, kind) } else { Self::Process(pid, kind) }
            }
            _ => return Err(Errno::EINVAL),
        })
    }

    /// What the clock shows.
    ///
    /// # Errors
    /// EINVAL if it is that of a process or thread that does not exist.
    pub fn read(self) -> KResult<Nanoseconds> {
        match self {
            Self::Realtime(_) => Ok(realtime()),
            Self::Monotonic(_) => Ok(now()),
            Self::Thread(Pid(0), CpuTimeKind::All) => Ok(current().runtime()),
            other => Ok(other.cpu_clock()?.read()),
        }
    }

    /// Whose CPU time it is.
    ///
    /// # Errors
    /// EINVAL if it is no such clock, or of a process or thread that does not exist, or of another process's thread.
    pub(super) fn cpu_clock(self) -> KResult<CpuClock> {
        match self {
            Self::Process(Pid(0), kind) => Ok(CpuClock::Process(current().process.clone(), kind)),
            Self::Thread(Pid(0), kind) => Ok(CpuClock::Thread(current().shared(), kind)),
            Self::Process(pid, kind) => Ok(CpuClock::Process(tree::find(pid).ok_or(Errno::EINVAL)?, kind)),
            Self::Thread(tid, kind) => {
                let task = tree::find_task(tid).ok_or(Errno::EINVAL)?;
                if !Arc::ptr_eq(&task.process, &current().process) {
                    return Err(Errno::EINVAL);
                }
                Ok(CpuClock::Thread(task, kind))
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The monotonic time that lies as far ahead as the `struct timespec` at `timeout` says; none for a null pointer, which
/// stands for ever.
///
/// # Errors
/// EFAULT, or EINVAL for a time that is none.
pub fn deadline_after(timeout: UserAddr) -> KResult<Option<Nanoseconds>> {
    if timeout.is_null() {
        return Ok(None);
    }
    Ok(Some(now().saturating_add(timeout.read::<Timespec>()?.duration()?)))
}

/// The monotonic time of the `struct timespec` at `deadline`, which is a point in time on the wall clock (as it goes now)
/// or on the monotonic clock; none for a null pointer.
///
/// # Errors
/// EFAULT, or EINVAL for a time that is none.
pub fn deadline_at(deadline: UserAddr, on_wall_clock: bool) -> KResult<Option<Nanoseconds>> {
    if deadline.is_null() {
        return Ok(None);
    }
    let at = deadline.read::<Timespec>()?.duration()?;
    Ok(Some(if on_wall_clock { monotonic_of(at) } else { at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_clocks() {
        assert_eq!(ClockId::from_number(0), Ok(ClockId::Realtime(Form::Full)));
        assert_eq!(ClockId::from_number(6), Ok(ClockId::Monotonic(Form::ReadOnly)));
        assert_eq!(ClockId::from_number(3), Ok(ClockId::OWN_THREAD));
        // As the C library makes them: ((~pid) << 3) | flags.
        assert_eq!(ClockId::from_number((!42 << 3) | 2), Ok(ClockId::Process(Pid(42), CpuTimeKind::All)));
        assert_eq!(ClockId::from_number((!7 << 3) | 6), Ok(ClockId::Thread(Pid(7), CpuTimeKind::All)));
        assert_eq!(ClockId::from_number((!7 << 3) | 1), Ok(ClockId::Process(Pid(7), CpuTimeKind::User)));
        for number in [10, 12, 16, i32::MAX, (!3 << 3) | 3] {
            assert_eq!(ClockId::from_number(number), Err(Errno::EINVAL), "{number}");
        }
    }
}
