//! The subcommands, one a file: each has its `Args` and a `run` that returns the exit status.

pub mod bench;
pub mod boot;
pub mod build;
pub mod debug;
pub mod lint;
pub mod race;
pub mod setup;
pub mod test;
