//! What programs on an x86-64 PC share, whichever side of a hypervisor they are on: the start by PVH, the order in which
//! general registers are pushed, extended state, COM1, the 8254, the rates of the counters.
//!
//! Nothing here knows of a kernel or of guests. What depends on how ports are reached is generic over it; the pieces of
//! assembly are macros that give a string.
#![no_std]
#![warn(missing_docs)]

pub mod calibrate;
pub mod com1;
pub mod extended_state;
pub mod pit;
mod pvh;
mod registers;
pub mod start_info;

pub use pvh::DESCRIPTORS_LIMIT;
