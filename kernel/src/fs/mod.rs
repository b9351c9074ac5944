//! Files: the formats of the initial file system.

pub mod cpio;
