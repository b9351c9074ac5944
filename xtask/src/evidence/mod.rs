//! What an image says about itself when it is read: its code, taken apart, and what the compiler inlined where.

pub mod code;
pub mod equality;
pub mod hooks;
pub mod image;
pub mod inlined;
pub mod names;
pub mod parts;
#[cfg(test)]
mod peer_tests;
pub mod record;
