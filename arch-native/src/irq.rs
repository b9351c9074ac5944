//! The interrupt flag, for this backend's own sections.

use core::arch::asm;
use core::marker::PhantomData;

use platform::TrapFrame;

/// Interrupts stay disabled while it lives; it puts the flag back as it was. It belongs to one CPU.
#[derive(Debug)]
pub struct IrqGuard {
    enabled: bool,
    not_send: PhantomData<*const ()>,
}

impl IrqGuard {
    /// Disables interrupts.
    #[inline(always)]
    pub fn new() -> Self {
        let flags: u64;
        // SAFETY: this backend runs where it may do so; the stack is balanced.
        unsafe { asm!("pushfq", "cli", "pop {}", out(reg) flags, options(preserves_flags)) };
        Self { enabled: flags & TrapFrame::INTERRUPT_FLAG != 0, not_send: PhantomData }
    }
}

impl Drop for IrqGuard {
    #[inline(always)]
    fn drop(&mut self) {
        if self.enabled {
            // SAFETY: they were enabled before.
            unsafe { asm!("sti", options(nostack, preserves_flags)) };
        }
    }
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
    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let guard = IrqGuard::new();
        let result = use_it(&mut self.0.lock());
        drop(guard);
        result
    }
}
