//! A spinning lock that keeps interrupts out.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use platform::IrqState;

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
struct RawLock(AtomicU32);

/// The bit of a [`RawLock`] that is held. A bit of a word, for it is set and tested by one instruction.
const HELD: u32 = 1;

impl RawLock {
    /// Whether it was free, and is the caller's now.
    #[inline(always)]
    fn take(&self) -> bool {
        self.0.fetch_or(HELD, Ordering::Acquire) & HELD == 0
    }

    #[inline(never)]
    fn acquire(&self) -> IrqState {
        self.acquire_inline()
    }

    #[inline(always)]
    fn acquire_inline(&self) -> IrqState {
        let state = interrupts::save();
        if self.take() { state } else { self.acquire_contended(state) }
    }

    /// Apart, so that the other way needs no stack.
    #[cold]
    #[inline(never)]
    fn acquire_contended(&self, state: IrqState) -> IrqState {
        loop {
            while self.0.load(Ordering::Relaxed) != 0 {
                spin_loop();
            }
            if self.take() {
                return state;
            }
        }
    }

    fn try_acquire(&self) -> Option<IrqState> {
        let state = interrupts::save();
        if !self.take() {
            interrupts::restore(state);
            return None;
        }
        Some(state)
    }

    #[inline(always)]
    fn unlock(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// To be called by the lock's holder.
    #[inline(never)]
    fn release(&self, state: IrqState) {
        self.unlock();
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
        Self { raw: RawLock(AtomicU32::new(0)), value: UnsafeCell::new(value) }
    }

    /// Disables interrupts and takes the lock.
    #[inline(always)]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        IrqGuard { lock: self, state: self.raw.acquire() }
    }

    /// As [`Self::lock`], for the few places that are run most.
    #[inline(always)]
    pub fn lock_inline(&self) -> IrqGuard<'_, T> {
        IrqGuard { lock: self, state: self.raw.acquire_inline() }
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
        self.raw.unlock();
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
        self.lock.raw.release(self.state);
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
