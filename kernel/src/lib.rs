//! The guest kernel: everything above the cut.
#![cfg_attr(not(test), no_std)]

pub mod mm;
