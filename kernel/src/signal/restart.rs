//! Restarting system calls that a signal interrupted.

use alloc::boxed::Box;

use platform::TrapFrame;

use super::ActionFlags;
use super::state::RestartBlock;
use crate::errno::Errno;
use crate::process::current;
use crate::syscall::{Call, SysResult, numbers};
use crate::trap::Entry;

/// Length of the `syscall` instruction.
pub(super) const SYSCALL_BYTES: u64 = 2;

/// Whether and how a system call was interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Interruption {
    /// It was not, or there was none.
    None,
    /// `ERESTARTSYS`: restarts unless a handler without `SA_RESTART` runs.
    Ordinary,
    /// `ERESTARTNOINTR`: restarts always.
    Transparent,
    /// `ERESTARTNOHAND`: restarts unless a handler runs.
    NoHandler,
    /// `ERESTART_RESTARTBLOCK`: continues as `restart_syscall(2)` unless a handler runs.
    Block,
}

impl Interruption {
    /// How the system call was interrupted that user mode came with.
    pub fn of(user: &TrapFrame, entry: Entry) -> Self {
        if entry != Entry::SystemCall || user.orig_rax == u64::MAX {
            return Self::None;
        }
        match user.rax {
            result if result == Errno::ERESTARTSYS.to_rax() => Self::Ordinary,
            result if result == Errno::ERESTARTNOINTR.to_rax() => Self::Transparent,
            result if result == Errno::ERESTARTNOHAND.to_rax() => Self::NoHandler,
            result if result == Errno::ERESTART_RESTARTBLOCK.to_rax() => Self::Block,
            _ => Self::None,
        }
    }

    /// Makes `user` continue with the system call again or with `EINTR`. `handler` has the flags of the handler that
    /// is about to run, if one is.
    pub fn settle(self, user: &mut TrapFrame, handler: Option<ActionFlags>) {
        let again = match (self, handler) {
            (Self::None, _) => return,
            (Self::Transparent, _) | (Self::Ordinary | Self::NoHandler, None) => Some(user.orig_rax),
            (Self::Ordinary, Some(flags)) if flags.contains(ActionFlags::RESTART) => Some(user.orig_rax),
            (Self::Block, None) => Some(numbers::RESTART_SYSCALL as u64),
            _ => None,
        };
        match again {
            Some(number) => {
                user.rax = number;
                user.rip = user.rip.wrapping_sub(SYSCALL_BYTES);
            }
            None => user.rax = Errno::EINTR.to_rax(),
        }
    }
}

/// How the running system call goes on if a signal without a handler interrupts it; returns what it then fails with.
pub fn set_restart(block: Box<dyn FnOnce() -> SysResult + Send>) -> Errno {
    let block: RestartBlock = block;
    let before = current().signals.restart.lock().replace(block);
    drop(before);
    Errno::ERESTART_RESTARTBLOCK
}

/// There is nothing to go on with any more.
pub(super) fn forget() {
    let before = current().signals.restart.lock().take();
    drop(before);
}

pub(super) fn restart_syscall(_call: &mut Call<'_>) -> SysResult {
    let block = current().signals.restart.lock().take();
    match block {
        Some(block) => block(),
        None => Err(Errno::EINTR),
    }
}
