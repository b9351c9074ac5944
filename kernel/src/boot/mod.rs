//! Starting: what the command line asks for.

pub mod cmdline;
