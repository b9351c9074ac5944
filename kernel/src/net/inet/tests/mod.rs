//! The stack, on simulated machines.

mod datagrams;
mod hostile;
mod streams;
mod world;
