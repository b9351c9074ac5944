//! Exceptions, interrupts and system calls.

pub(crate) mod entry;
mod handlers;
