//! The test command's parts: what a case is, and how it and the build machine's tests are run.

pub mod case;
pub mod check;
mod elsewhere;
pub mod host;
pub mod outcome;
pub mod programs;
pub mod runner;
pub mod text_size;
mod twice;
