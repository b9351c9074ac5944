//! What every guest test program shares: a runner for cases, checks, and a thin layer over raw system calls.
//!
//! A case runs alone in a process forked for it, so whatever it breaks (its memory, its signal handlers, its
//! descriptors) dies with it. That is what lets this crate offer raw system calls and raw memory access as safe
//! functions: nothing but the case itself can be hurt by a wrong argument, and wrong arguments are often the point.

pub mod check;
pub mod descriptors;
pub mod elf;
pub mod errno;
pub mod fs;
pub mod harness;
pub mod mem;
pub mod process;
pub mod signal;
pub mod sync;
pub mod sys;
pub mod time;

pub use errno::Errno;
pub use harness::{Case, Helper, run};
pub use libc;
pub use process::End;
pub use sys::Sys;
