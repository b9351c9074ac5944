//! System calls about actions and masks, and the table of all calls on signals.

use core::mem::MaybeUninit;

use super::action::Action;
use super::wait::{self, SET_BYTES};
use super::{Signal, SignalSet, altstack, kill, restart, send, sigreturn};
use crate::errno::Errno;
use crate::process::current;
use crate::syscall::numbers as nr;
use crate::syscall::{Call, Handler, SysResult};

/// System calls on signals.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (nr::RT_SIGACTION, rt_sigaction),
    (nr::RT_SIGPROCMASK, rt_sigprocmask),
    (nr::RT_SIGRETURN, sigreturn::rt_sigreturn),
    (nr::RT_SIGPENDING, rt_sigpending),
    (nr::RT_SIGTIMEDWAIT, wait::rt_sigtimedwait),
    (nr::RT_SIGQUEUEINFO, kill::rt_sigqueueinfo),
    (nr::RT_TGSIGQUEUEINFO, kill::rt_tgsigqueueinfo),
    (nr::RT_SIGSUSPEND, wait::rt_sigsuspend),
    (nr::SIGALTSTACK, altstack::sigaltstack),
    (nr::PAUSE, wait::pause),
    (nr::KILL, kill::kill),
    (nr::TKILL, kill::tkill),
    (nr::TGKILL, kill::tgkill),
    (nr::RESTART_SYSCALL, restart::restart_syscall),
];

fn rt_sigaction(call: &mut Call<'_>) -> SysResult {
    let (number, new, old) = (call.int(0), call.user(1), call.user(2));
    if call.size(3) != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let mut place = MaybeUninit::<Action>::uninit();
    let wanted = if new.is_null() { None } else { Some(*new.read_to(&mut place)?) };
    let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
    if wanted.is_some() && SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    let process = &current().process;
    let before = match wanted {
        Some(action) => {
            let action = action.sanitized();
            let _state = process.signal_state();
            let before = process.actions.lock().set(signal, action);
            if action.ignores(signal) {
                send::discard(process, signal.set());
            }
            before
        }
        None => process.actions.lock().get(signal),
    };
    if !old.is_null() {
        old.write(&before)?;
    }
    Ok(0)
}

fn rt_sigprocmask(call: &mut Call<'_>) -> SysResult {
    const BLOCK: i32 = 0;
    const UNBLOCK: i32 = 1;
    const SET: i32 = 2;
    let (how, new, old) = (call.int(0), call.user(1), call.user(2));
    if call.size(3) != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let before = task.signals.blocked();
    if !new.is_null() {
        let set: SignalSet = new.read()?;
        let mask = match how {
            BLOCK => before | set,
            UNBLOCK => before.without(set),
            SET => set,
            _ => return Err(Errno::EINVAL),
        };
        task.set_blocked(mask);
    }
    if !old.is_null() {
        old.write(&before)?;
    }
    Ok(0)
}

fn rt_sigpending(call: &mut Call<'_>) -> SysResult {
    let (to, size) = (call.user(0), call.size(1));
    if size > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let pending = (task.signals.pending() | task.process.signals.pending()) & task.signals.blocked();
    to.write_bytes(&pending.0.to_le_bytes()[..size])?;
    Ok(0)
}
