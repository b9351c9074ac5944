//! Conformance: what the contract (`platform`) promises, tested in a guest on one backend.
//!
//! This is a kernel of its own, with no policy: it boots, starts the other CPUs, runs each case, prints a line about it
//! and ends the machine. `cargo xtask test conformance` runs it on every backend that is built; a backend is done when
//! it passes. The command line may name cases: `only=TEXT` runs those that have this in their name (`_` is a space
//! there), and is the only way to run those that need somebody outside (`idle`, `input`). `costs` on the command line measures the hooks instead.
//! Where there may be devices, the machine must have a disk that can be written to, and what is on it is lost.
//! With the feature `planted`, `break=NAME` breaks a promise.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod cases;
#[cfg(target_os = "none")]
mod costs;
#[cfg(target_os = "none")]
mod cpus;
#[cfg(target_os = "none")]
mod driven;
#[cfg(target_os = "none")]
mod events;
#[cfg(target_os = "none")]
mod hook;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod memory;
#[cfg(all(target_os = "none", feature = "planted"))]
mod planted;
#[cfg(target_os = "none")]
mod probe;
#[cfg(target_os = "none")]
mod programs;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod space;
#[cfg(target_os = "none")]
mod user;
#[cfg(target_os = "none")]
mod virtqueue;
#[cfg(target_os = "none")]
mod wait;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel that tests a backend: cargo xtask test conformance");
    std::process::exit(2);
}
