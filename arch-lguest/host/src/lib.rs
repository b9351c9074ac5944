//! The lguest hypervisor. It boots by PVH as a 64-bit program at CPL 0, takes guests from the one module it is given, and
//! runs them at CPL 3 on shadow tables. `ABI.md` says what a guest may expect.
//!
//! Everything here that has no machine in it (archive, image, memory, tables, hypercalls) also runs on the build machine,
//! under `cargo test`; [`machine`] has the rest, and almost all that is unsafe.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod archive;
pub mod clock;
pub mod console;
pub mod context;
pub mod counters;
pub mod cpuid;
pub mod devices;
pub mod guest;
pub mod image;
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "this is the machine")]
pub mod machine;
pub mod memory;
pub mod rule;
pub mod share;
pub mod tables;
pub mod virq;
