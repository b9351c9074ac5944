//! Exceptions, interrupts and system calls.

pub mod entry;
mod handlers;
pub(crate) mod idt;
