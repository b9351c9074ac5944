//! A spinning lock for short sections.

use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};

/// A spinning lock for data that no interrupt handler uses. Its holder neither sleeps nor touches user memory.
pub struct SpinLock<T>(spin::mutex::SpinMutex<T>);

/// Holds a [`SpinLock`].
pub struct SpinGuard<'a, T>(spin::mutex::SpinMutexGuard<'a, T>);

impl<T> SpinLock<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::SpinMutex::new(value))
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        match self.0.try_lock() {
            Some(guard) => SpinGuard(guard),
            None => self.lock_contended(),
        }
    }

    /// Out of line, so that the many places that take a lock stay small.
    #[cold]
    #[inline(never)]
    fn lock_contended(&self) -> SpinGuard<'_, T> {
        loop {
            while self.0.is_locked() {
                spin_loop();
            }
            if let Some(guard) = self.0.try_lock() {
                return SpinGuard(guard);
            }
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.0.try_lock().map(SpinGuard)
    }

    /// The value, for whoever owns the lock itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// The value, for whoever takes the lock apart.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
