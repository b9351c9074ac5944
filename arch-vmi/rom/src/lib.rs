//! A VMI ROM (`arch-vmi/ABI.md`) for the bare machine: every call of the profile, at privilege level 0.
//!
//! What a call does is in a module of its subject. The feature `strict` makes the ROM that tests its guests: the same
//! calls, in the manner of [`manner`]'s other half.
//!
//! The code finds itself and its variables relative to the instruction pointer; it has no pointers among its constants
//! and no panics, because both would need relocations.
#![no_std]
#![warn(missing_docs)]
#![deny(unsafe_code)]
// On the build machine only the parts without hardware are used, by their tests.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

#[cfg(test)]
extern crate std;

mod apic_view;
mod manner;
#[cfg(any(test, feature = "strict"))]
mod page_tables;
mod scale;
mod time_of_day;
mod update_queue;

#[cfg(target_os = "none")]
mod bare;
