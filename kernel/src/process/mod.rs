//! Processes and their threads.
//!
//! A [`Task`] is what the scheduler runs: a thread of a user program, or one of the kernel's own. A [`Process`] is what
//! threads share (Linux's thread group). Relations between processes (parents, children, groups, sessions) are kept
//! under one lock, [`tree`].

pub mod clone;
pub mod credentials;
pub mod exit;
pub mod futex;
pub mod group;
pub mod ids;
pub mod limits;
pub mod syscalls;
pub mod system;
pub mod tree;
pub mod usage;
pub mod wait;

mod current;
mod name;
#[expect(clippy::module_inception, reason = "processes are what the folder and the file are about")]
pub mod process;
pub mod task;

pub use credentials::Credentials;
pub use current::{Current, current};
pub use ids::Pid;
pub use limits::{Limit, Limits, Resource};
pub use name::TaskName;
pub use process::{Process, Usage};
pub use task::{Task, TaskKind, work};
