//! The calls, on the machine itself. Everything here runs at privilege level 0 with a guest's address space.
//!
//! Functions that are called by the guest take any value: what is not allowed is told as `ABI.md` says.
#![allow(unsafe_code)]

mod alarm;
mod apic;
mod calibrate;
mod control;
mod here;
mod init;
mod instructions;
mod machine;
mod page_table_calls;
mod power;
mod processor;
mod relocation;
mod segments;
mod startup;
mod wall_clock;

#[cfg(feature = "strict")]
mod rules;
