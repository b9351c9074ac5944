//! What each signal does to a process: `sigaction(2)`.

use alloc::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::number::{DefaultAction, SIGCHLD, SIGNALS};
use super::{Signal, SignalSet};
use crate::process::Process;
use crate::sync::IrqLock;
use crate::util::words;

bitflags::bitflags! {
    /// Flags of an action (Linux include/uapi/asm-generic/signal-defs.h and arch/x86/include/uapi/asm/signal.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ActionFlags: u64 {
        /// No SIGCHLD when a child stops or goes on.
        const NO_CHILD_STOP = 0x1;
        /// Children that end leave no zombie.
        const NO_CHILD_WAIT = 0x2;
        /// The handler wants the `siginfo_t`.
        const SIGINFO = 0x4;
        /// Keep tag bits in `si_addr`: there are none on x86-64.
        const EXPOSE_TAG_BITS = 0x800;
        /// `restorer` is where the handler returns to.
        const RESTORER = 0x0400_0000;
        /// Run the handler on the alternate stack.
        const ON_STACK = 0x0800_0000;
        /// Restart system calls that the handler interrupted.
        const RESTART = 0x1000_0000;
        /// Do not block the signal while its handler runs.
        const NO_DEFER = 0x4000_0000;
        /// Back to the default action once the handler is entered.
        const RESET_HAND = 0x8000_0000;
    }
}

/// `SIG_DFL`.
const DEFAULT: u64 = 0;
/// `SIG_IGN`.
const IGNORE: u64 = 1;

/// One signal's action, as the kernel's `struct sigaction` of x86-64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Action {
    /// Address of the handler, or 0 for the default, or 1 to ignore.
    pub handler: u64,
    pub(super) flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs, beside what is blocked already.
    pub mask: SignalSet,
}

/// What an [`Action`]'s handler is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The signal's default.
    Default,
    /// Nothing at all.
    Ignore,
    /// A function of the program.
    Handler,
}

impl Action {
    /// The default action.
    pub const DEFAULT: Self = Self { handler: DEFAULT, flags: 0, restorer: 0, mask: SignalSet::EMPTY };

    /// With a handler.
    #[cfg(test)]
    pub const fn handled_at(handler: u64) -> Self {
        Self { handler, ..Self::DEFAULT }
    }

    /// Its flags.
    pub const fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_truncate(self.flags)
    }

    /// What its handler is.
    pub const fn disposition(&self) -> Disposition {
        match self.handler {
            DEFAULT => Disposition::Default,
            IGNORE => Disposition::Ignore,
            _ => Disposition::Handler,
        }
    }

    /// Whether `signal` has no effect with this action.
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.disposition() {
            Disposition::Ignore => true,
            Disposition::Default => {
                matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue)
            }
            Disposition::Handler => false,
        }
    }

    /// Without what a program may not ask for.
    pub(super) fn sanitized(self) -> Self {
        Self { flags: self.flags().bits(), mask: self.mask.as_mask(), ..self }
    }
}

/// What each signal does to a process. Shared between processes made with `CLONE_SIGHAND`.
pub struct SignalActions(IrqLock<[Action; SIGNALS]>);

impl SignalActions {
    /// Every action the default.
    pub fn new() -> Arc<Self> {
        let mut new = Arc::<Self>::new_uninit();
        if let Some(place) = Arc::get_mut(&mut new) {
            // Made where it stays: it is large.
            place.write(Self(IrqLock::new([Action::DEFAULT; SIGNALS])));
        }
        // SAFETY: written just now, for nobody else has it.
        unsafe { new.assume_init() }
    }

    /// The same actions, no longer shared.
    pub fn copy(&self) -> Arc<Self> {
        let copy = Self::new();
        {
            let from = self.0.lock();
            let mut to = copy.0.lock();
            words::copy_bytes(to.as_mut_bytes(), from.as_bytes());
        }
        copy
    }

    /// What a program starts with: what was ignored still is, handlers are gone with the program that had them.
    pub fn for_exec(&self) -> Arc<Self> {
        let fresh = Self::new();
        {
            let old = self.0.lock();
            let mut new = fresh.0.lock();
            for (old, new) in old.iter().zip(new.iter_mut()) {
                if old.disposition() == Disposition::Ignore {
                    new.handler = IGNORE;
                }
            }
        }
        fresh
    }

    /// What `signal` does.
    pub fn get(&self, signal: Signal) -> Action {
        self.0.lock()[signal.index()]
    }

    /// Sets what `signal` does; returns what it did.
    pub fn set(&self, signal: Signal, action: Action) -> Action {
        core::mem::replace(&mut self.0.lock()[signal.index()], action)
    }

    /// What `signal` does, about to be done: a handler that serves once is taken out.
    pub(super) fn take(&self, signal: Signal) -> Action {
        let mut actions = self.0.lock();
        let slot = &mut actions[signal.index()];
        let action = *slot;
        if action.disposition() == Disposition::Handler && action.flags().contains(ActionFlags::RESET_HAND) {
            slot.handler = DEFAULT;
        }
        action
    }

    /// Back to the default, mask and flags untouched.
    pub(super) fn reset(&self, signal: Signal) {
        self.0.lock()[signal.index()].handler = DEFAULT;
    }
}

/// Whether children of `process` that end leave no zombie.
pub fn ignores_children(process: &Process) -> bool {
    let action = process.actions.lock().get(SIGCHLD);
    action.disposition() == Disposition::Ignore || action.flags().contains(ActionFlags::NO_CHILD_WAIT)
}
