//! Starting and ending.

pub mod chart;
pub mod cmdline;
pub mod end;
pub mod init;
pub mod parameters;
pub mod smp;
pub mod start;
