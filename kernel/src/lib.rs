//! The guest kernel: everything above the cut.
//!
//! It runs unmodified static Linux programs: system calls, structures and errno values are those of Linux x86-64.
//! Whatever it needs from the machine or hypervisor it asks through [`hook`], the only module that knows which
//! platform is below.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod boot;
pub mod devices;
pub mod errno;
pub mod exec;
pub mod fs;
pub mod hook;
pub mod irq;
pub mod logger;
pub mod mm;
pub mod net;
pub mod percpu;
pub mod process;
pub mod random;
pub mod sched;
pub mod signal;
pub mod sync;
pub mod syscall;
#[cfg(test)]
pub mod testing;
pub mod time;
pub mod trap;
pub mod tty;
pub mod util;
pub mod vdso;
