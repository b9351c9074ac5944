//! The race against Linux: the same measurements of both kernels on the same virtual machine, with the same initramfs
//! and the same programs.

pub mod boot;
pub mod course;
pub mod gdb;
pub mod kernel_file;
pub mod linux;
pub mod memory;
pub mod operations;
pub mod probe;
pub mod table;
