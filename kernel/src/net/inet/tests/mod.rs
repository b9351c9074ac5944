//! The stack, on simulated machines.

mod datagrams;
mod endings;
mod hostile;
mod streams;
mod world;
