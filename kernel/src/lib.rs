//! The guest kernel: everything above the cut.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod boot;
pub mod exec;
pub mod fs;
pub mod mm;
pub mod time;
pub mod util;
