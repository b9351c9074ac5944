//! A lock whose waiters sleep.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use super::WaitQueue;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A lock that may be held while its holder sleeps. Waiting for it is not interrupted by signals.
pub struct Mutex<T> {
    state: AtomicU32,
    waiters: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one exclusive reference at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: a lock is as movable as what it holds.
unsafe impl<T: Send> Send for Mutex<T> {}

/// Holds a [`Mutex`].
pub struct MutexGuard<'a, T>(&'a Mutex<T>);

impl<T> Mutex<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(FREE), waiters: WaitQueue::new(), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, sleeping until it is free. Context: a task, interrupts enabled.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended();
        }
        MutexGuard(self)
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(MutexGuard(self))
    }

    #[cold]
    #[inline(never)]
    fn lock_contended(&self) {
        // Once waiters may exist the lock is taken as contended, so that its release wakes the next.
        self.waiters
            .wait_uninterruptible(|| (self.state.swap(CONTENDED, Ordering::Acquire) == FREE).then_some(()));
    }

    /// The value, for whoever owns the lock itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.0.state.swap(FREE, Ordering::Release) == CONTENDED {
            self.0.waiters.wake_one();
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard stands for exclusive ownership.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard stands for exclusive ownership.
        unsafe { &mut *self.0.value.get() }
    }
}
