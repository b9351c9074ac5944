//! A spinning lock that keeps interrupts out.

use core::ops::{Deref, DerefMut};

use platform::IrqState;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::hook::cpu;

/// A spinning lock for data that interrupt handlers use: interrupts are disabled while it is held.
pub struct IrqLock<T>(SpinMutex<T>);

/// Holds an [`IrqLock`].
pub struct IrqGuard<'a, T> {
    lock: &'a IrqLock<T>,
    guard: core::mem::ManuallyDrop<SpinMutexGuard<'a, T>>,
    state: IrqState,
}

impl<T> IrqLock<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Disables interrupts and takes the lock.
    #[inline]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let state = cpu::irq_save();
        IrqGuard { lock: self, guard: core::mem::ManuallyDrop::new(self.0.lock()), state }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let state = cpu::irq_save();
        match self.0.try_lock() {
            Some(guard) => Some(IrqGuard { lock: self, guard: core::mem::ManuallyDrop::new(guard), state }),
            None => {
                cpu::irq_restore(state);
                None
            }
        }
    }

    /// Frees a lock whose guard was forgotten by [`IrqGuard::leak`]. Interrupts stay as they are.
    ///
    /// # Safety
    /// The lock is held through such a guard, and the caller stands in for its owner.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.force_unlock() };
    }
}

impl<T> IrqLock<T> {
    /// Where the value lies, for whoever stands in for the lock's owner.
    pub fn data_ptr(&self) -> *mut T {
        self.0.as_mut_ptr()
    }
}

impl<'a, T> IrqGuard<'a, T> {
    /// Keeps the lock held without a guard; see [`IrqLock::force_unlock`]. Returns the interrupt state to restore.
    pub fn leak(self) -> IrqState {
        let state = self.state;
        core::mem::forget(self);
        state
    }

    /// The lock this guard holds.
    pub fn lock_of(&self) -> &'a IrqLock<T> {
        self.lock
    }
}

impl<T> Drop for IrqGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped once, here; the guard is not used afterwards.
        unsafe { core::mem::ManuallyDrop::drop(&mut self.guard) };
        cpu::irq_restore(self.state);
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
