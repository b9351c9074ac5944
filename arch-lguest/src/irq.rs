//! The interrupt flag: a word of the shared page.

use core::marker::PhantomData;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use lguest_abi::IRQ_ENABLED;

use crate::data::DATA;
use crate::host;

// The host reads and writes the flag between two instructions of this CPU, so the compiler's order is all that matters.

/// Disables interrupts.
#[inline(always)]
pub fn disable() {
    DATA.irq_enabled.store(0, Relaxed);
    compiler_fence(SeqCst);
}

/// Enables interrupts; what is pending is delivered at once.
#[inline(always)]
pub fn enable() {
    compiler_fence(SeqCst);
    DATA.irq_enabled.store(IRQ_ENABLED, Relaxed);
    compiler_fence(SeqCst);
    if DATA.irq_pending.load(Relaxed) != 0 {
        host::send_interrupts();
    }
}

/// The flag: 0, or [`IRQ_ENABLED`].
#[inline(always)]
pub fn flag() -> u32 {
    DATA.irq_enabled.load(Relaxed)
}

/// Interrupts stay disabled while it lives; it puts the flag back as it was.
#[derive(Debug)]
pub struct IrqGuard {
    before: u32,
    not_send: PhantomData<*const ()>,
}

impl IrqGuard {
    /// Disables interrupts.
    #[inline(always)]
    pub fn new() -> Self {
        let before = flag();
        disable();
        Self { before, not_send: PhantomData }
    }
}

impl Drop for IrqGuard {
    #[inline(always)]
    fn drop(&mut self) {
        if self.before != 0 {
            enable();
        }
    }
}
