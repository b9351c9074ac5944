//! Internet sockets: IPv4 (`ip(7)`), TCP, UDP and ICMP, over the loopback interface and one Ethernet.
//!
//! One [`stack::Stack`] holds everything, behind one sleeping lock. Programs that wait, poll and ask look at a socket's
//! [`shared::Shared`] part, which the stack keeps up to date. What comes from the Ethernet, and what is due at some time,
//! is done by a task of the kernel's; system calls do their own work and all that it brings about on this machine.
//!
//! Lock order: the stack, then a wait queue's lock, then run queues. Interrupt handlers call [`wake`] alone.

mod address;
pub mod calls;
mod configuration;
mod datagram;
pub mod describe;
mod dhcp;
mod engine;
mod interface;
mod ioctl;
mod links;
pub mod message_calls;
mod neighbours;
mod options;
mod reassembly;
mod routes;
mod service;
mod shared;
mod socket;
mod stack;
mod tcp;
#[cfg(test)]
mod tests;
pub mod wire;

pub use address::FAMILY;
pub use calls::SocketFile;
pub use configuration::configure;
pub use service::{start, wake};

/// Whether there are such sockets: on platforms with devices.
pub const AVAILABLE: bool = crate::devices::AVAILABLE;
