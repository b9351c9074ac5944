//! This CPU's interrupt flag: no other module of the kernel changes it, but for the idle loop's wait.

use platform::IrqState;

use crate::hook::cpu;

/// Enables interrupts; one that is pending is delivered at once.
#[inline(always)]
pub fn enable() {
    cpu::irq_enable();
}

/// Disables interrupts.
#[inline(always)]
pub fn disable() {
    cpu::irq_disable();
}

/// Disables interrupts and returns what the flag was, for [`restore`].
#[inline(always)]
pub fn save() -> IrqState {
    cpu::irq_save()
}

/// Sets the flag to what [`save`] found.
#[inline(always)]
pub fn restore(state: IrqState) {
    cpu::irq_restore(state);
}

/// Runs `body` with interrupts disabled, whatever the flag was, and leaves the flag as it was.
#[inline(always)]
pub fn without<R>(body: impl FnOnce() -> R) -> R {
    let state = save();
    let result = body();
    restore(state);
    result
}
