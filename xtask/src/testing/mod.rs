//! The test command's parts: what a case is, and how it and the build machine's tests are run.

pub mod case;
pub mod host;
pub mod outcome;
pub mod programs;
pub mod runner;
pub mod text_size;
