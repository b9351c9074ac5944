//! Locks and waiting.
//!
//! - [`SpinLock`]: short sections, never held across anything that sleeps, faults or copies user memory; not taken by
//!   interrupt handlers.
//! - [`IrqLock`]: the same for data that interrupt handlers use too; disables interrupts while held.
//! - [`Mutex`]: may be held across sleeping and user copies.
//! - [`interrupts`]: this CPU's interrupt flag by itself.
//! - [`WaitQueue`]: tasks that wait for a condition.

pub mod interrupts;
mod irq_lock;
mod mutex;
#[cfg(test)]
mod sim_tests;
mod spin_lock;
mod wait_list;
mod wait_queue;

pub use irq_lock::{IrqGuard, IrqLock};
pub use mutex::{Mutex, MutexGuard};
pub use spin::{Once, RwLock as SpinRwLock};
pub use spin_lock::{SpinGuard, SpinLock};
pub use wait_queue::{Interrupted, WaitQueue, Wake};
