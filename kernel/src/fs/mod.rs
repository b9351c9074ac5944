//! Files: the formats of the initial file system.

pub mod cpio;
pub mod crc32;
pub mod gunzip;
