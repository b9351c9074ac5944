//! The stack, on simulated machines.

mod datagrams;
mod endings;
mod hostile;
mod leases;
mod streams;
mod world;
