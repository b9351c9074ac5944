//! The interrupt flag, for this crate's own sections.

use core::marker::PhantomData;

use platform::IrqState;

use crate::machine::Machine;

/// Interrupts stay disabled while it lives; it puts the flag back as it was. It belongs to one CPU.
#[derive(Debug)]
pub struct IrqGuard<M: Machine> {
    state: IrqState,
    not_send: PhantomData<(*const (), M)>,
}

impl<M: Machine> IrqGuard<M> {
    /// Disables interrupts.
    #[inline(always)]
    pub fn disable() -> Self {
        Self { state: M::irq_save(), not_send: PhantomData }
    }
}

impl<M: Machine> Drop for IrqGuard<M> {
    #[inline(always)]
    fn drop(&mut self) {
        if was_enabled(self.state) {
            M::irq_enable();
        }
    }
}

/// Whether interrupts were enabled when `state` was taken.
#[inline(always)]
pub const fn was_enabled(state: IrqState) -> bool {
    state.0 & platform::TrapFrame::INTERRUPT_FLAG != 0
}

/// A spin lock that is taken with interrupts disabled.
#[derive(Debug)]
pub struct IrqLock<T>(spin::Mutex<T>);

impl<T> IrqLock<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// Runs `use_it` with the lock held.
    #[inline]
    pub fn with<M: Machine, R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let guard = IrqGuard::<M>::disable();
        let result = use_it(&mut self.0.lock());
        drop(guard);
        result
    }
}
