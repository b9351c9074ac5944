//! The subcommands, one a file: each has its `Args` and a `run` that returns the exit status.

pub mod audit;
pub mod bench;
pub mod boot;
pub mod build;
pub mod debug;
pub mod lint;
pub mod race;
pub mod setup;
pub mod size_report;
pub mod test;
