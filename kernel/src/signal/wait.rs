//! Waiting for signals, and masks that hold for one wait.

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::current;
use crate::sync::{Interrupted, WaitQueue};
use crate::syscall::{Call, SysResult};
use crate::time;

use super::{SignalSet, has_signal, take_signal};

/// Bytes of a `sigset_t` of the kernel's.
pub(super) const SET_BYTES: usize = size_of::<SignalSet>();

/// Reads the signal mask a system call was given: null stands for none. `size` is what the program says its size is.
pub fn read_mask(from: UserAddr, size: usize) -> KResult<Option<SignalSet>> {
    if from.is_null() {
        return Ok(None);
    }
    if size != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    from.read().map(Some)
}

/// Runs `wait` with another signal mask, if there is one. When a signal has ended the wait, the mask goes back only
/// after the signal has been dealt with: a handler runs with the temporary one.
pub fn with_temporary_mask<T>(mask: Option<SignalSet>, wait: impl FnOnce() -> KResult<T>) -> KResult<T> {
    let Some(mask) = mask else { return wait() };
    let task = current();
    task.block_for_now(mask);
    let result = wait();
    match &result {
        Err(error) if *error == Errno::EINTR || error.is_restart() => task.note_signal_work(),
        _ => task.restore_mask(),
    }
    result
}

/// Waits until a signal is there to be delivered.
fn wait_for_any() -> Interrupted {
    match WaitQueue::new().wait(|| None::<core::convert::Infallible>) {
        Ok(never) => match never {},
        Err(interrupted) => interrupted,
    }
}

pub(super) fn pause(_call: &mut Call<'_>) -> SysResult {
    let Interrupted = wait_for_any();
    Err(Errno::ERESTARTNOHAND)
}

pub(super) fn rt_sigsuspend(call: &mut Call<'_>) -> SysResult {
    if call.size(1) != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let mask: SignalSet = call.user(0).read()?;
    with_temporary_mask(Some(mask), || {
        let Interrupted = wait_for_any();
        Err(Errno::ERESTARTNOHAND)
    })
}

pub(super) fn rt_sigtimedwait(call: &mut Call<'_>) -> SysResult {
    let (set, info_at, timeout) = (call.user(0), call.user(1), call.user(2));
    if call.size(3) != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let wanted = set.read::<SignalSet>()?.as_mask();
    let deadline = time::deadline_after(timeout)?;
    let info = match take_signal(wanted) {
        Some(info) => info,
        None => {
            let interrupted = wait_for(wanted, deadline);
            match take_signal(wanted) {
                Some(info) => info,
                None if interrupted => return Err(Errno::EINTR),
                None => return Err(Errno::EAGAIN),
            }
        }
    };
    if !info_at.is_null() {
        info_at.write_bytes(&info.to_bytes())?;
    }
    Ok(info.signal.number() as u64)
}

/// Waits for one of `wanted` until `deadline`; returns whether a signal ended the wait, one of them or another.
pub(super) fn wait_for(wanted: SignalSet, deadline: Option<platform::Nanoseconds>) -> bool {
    let task = current();
    let blocked = task.signals.blocked();
    // What is waited for is let through meanwhile, so that its arrival ends the wait.
    task.signals.set_awaited(blocked);
    task.set_blocked(blocked.without(wanted));
    let arrived = || has_signal(wanted).then_some(());
    let result = WaitQueue::new().wait_until(deadline, arrived);
    // In this order: one that was sent in time is still awaited.
    task.set_blocked(blocked);
    task.signals.set_awaited(SignalSet::EMPTY);
    !matches!(result, Ok(None))
}
