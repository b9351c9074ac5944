//! Files: the tree of names, what the names lead to, and the descriptors by which programs hold it.
//!
//! - [`inode`]: a file; [`regular`], [`directory`], [`pipe`], [`dynamic`] are what it can be;
//! - [`dentry`], [`name_table`]: its names; [`namespace`] makes, removes and moves them;
//! - [`mount`], [`path`], [`walk`]: which file system is seen where, and what a path leads to;
//! - [`file`], [`table`], [`open`], [`io`]: open files, descriptors, transfers;
//! - [`text`]: who may write a file that may be running;
//! - [`device`], [`memory_device`], [`proc`]: files behind which there is more than bytes;
//! - [`initramfs`] with [`cpio`] and [`gunzip`]: what the tree starts with;
//! - [`calls`]: the system calls.

pub mod anonymous;
pub mod caller;
pub mod calls;
pub mod context;
pub mod cpio;
pub mod cpio_stream;
pub mod crc32;
pub mod dentry;
pub mod device;
pub mod directory;
pub mod dynamic;
pub mod dynamic_file;
pub mod event;
pub mod file;
pub mod flags;
pub mod gunzip;
pub mod initramfs;
pub mod inode;
pub mod io;
pub mod kernel_log;
pub mod locks;
pub mod mapping;
pub mod memory_device;
pub mod mount;
pub mod name;
pub mod name_table;
pub mod namespace;
pub mod open;
pub mod page_tree;
pub mod path;
pub mod pipe;
pub mod poll;
pub mod populate;
pub mod proc;
pub mod regular;
pub mod superblock;
pub mod table;
pub mod text;
pub mod tree;
pub mod walk;

/// Files of pseudo terminals.
pub mod devfs {
    pub use super::tree::{add_pty, remove_pty};
}

pub use calls::SYSTEM_CALLS;
pub use context::FsContext;
pub use file::OpenFile;
pub use mapping::{Executable, Mapping, SetId, map_file, open_executable, shared_memory};
pub use open::{open_kernel, read_file};
pub use table::{Fd, FileTable, OnExec, install};
pub use tree::init;

#[cfg(test)]
mod tests;
