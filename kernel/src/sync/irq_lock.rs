//! A spinning lock that keeps interrupts out.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use platform::IrqState;
use spin::mutex::SpinMutex;

use super::interrupts;

/// A spinning lock for data that interrupt handlers use: interrupts are disabled while it is held.
pub struct IrqLock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one exclusive reference at a time.
unsafe impl<T: Send> Sync for IrqLock<T> {}

/// The lock without what it guards. Taken in hundreds of places, so it is called rather than inlined: directly, for a
/// function between that knows what is guarded would cost more than it saves.
struct RawLock(SpinMutex<()>);

impl RawLock {
    #[inline(never)]
    fn acquire(&self) -> IrqState {
        let state = interrupts::save();
        match self.0.try_lock() {
            Some(guard) => {
                core::mem::forget(guard);
                state
            }
            None => self.acquire_contended(state),
        }
    }

    /// Apart, so that the other way needs no stack.
    #[cold]
    #[inline(never)]
    fn acquire_contended(&self, state: IrqState) -> IrqState {
        core::mem::forget(self.0.lock());
        state
    }

    fn try_acquire(&self) -> Option<IrqState> {
        let state = interrupts::save();
        match self.0.try_lock() {
            Some(guard) => {
                core::mem::forget(guard);
                Some(state)
            }
            None => {
                interrupts::restore(state);
                None
            }
        }
    }

    /// # Safety
    /// The caller stands for the lock's holder.
    #[inline(never)]
    unsafe fn release(&self, state: IrqState) {
        // SAFETY: the caller's promise.
        unsafe { self.0.force_unlock() };
        interrupts::restore(state);
    }
}

/// Holds an [`IrqLock`].
pub struct IrqGuard<'a, T> {
    lock: &'a IrqLock<T>,
    state: IrqState,
}

impl<T> IrqLock<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self { raw: RawLock(SpinMutex::new(())), value: UnsafeCell::new(value) }
    }

    /// Disables interrupts and takes the lock.
    #[inline(always)]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        IrqGuard { lock: self, state: self.raw.acquire() }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        Some(IrqGuard { lock: self, state: self.raw.try_acquire()? })
    }

    /// Frees a lock whose guard was forgotten by [`IrqGuard::leak`]. Interrupts stay as they are.
    ///
    /// # Safety
    /// The lock is held through such a guard, and the caller stands in for its owner.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.0.force_unlock() };
    }

    /// Where the value lies, for whoever stands in for the lock's owner.
    pub fn data_ptr(&self) -> *mut T {
        self.value.get()
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
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the guard stands for the lock's holder, and is gone afterwards.
        unsafe { self.lock.raw.release(self.state) };
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard stands for exclusive ownership.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard stands for exclusive ownership.
        unsafe { &mut *self.lock.value.get() }
    }
}
