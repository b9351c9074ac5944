//! Flags of the calls that send and receive (Linux include/linux/socket.h).

/// Urgent data.
pub const OUT_OF_BAND: u32 = 0x1;
/// Leave what is received where it is.
pub const PEEK: u32 = 0x2;
/// Some of what goes with the message was left off.
pub const CONTROL_TRUNCATED: u32 = 0x8;
/// Some of the message was left off; asked for, its whole length is returned.
pub const TRUNCATED: u32 = 0x20;
/// Do not wait.
pub const DO_NOT_WAIT: u32 = 0x40;
/// Wait for all of it.
pub const WAIT_FOR_ALL: u32 = 0x100;
/// No SIGPIPE.
pub const NO_SIGNAL: u32 = 0x4000;
/// Wait for the first of several messages only.
pub const WAIT_FOR_ONE: u32 = 0x1_0000;
/// `execve(2)` closes what is received.
pub const CLOSE_ON_EXEC: u32 = 0x4000_0000;
