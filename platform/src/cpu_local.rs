//! The part of a CPU's private data that both sides of the cut know.

use crate::{CpuId, VirtAddr};

/// Words of [`CpuLocal`] that belong to the backend.
pub const PLATFORM_WORDS: usize = 12;

/// The head of each CPU's private data. While the kernel runs, GS:0 is this structure on every platform; the kernel
/// puts its own fields behind it, and the platform's entry code finds what it needs at fixed offsets.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuLocal {
    /// Its own address (GS:0).
    pub this: VirtAddr,
    /// Top of the kernel stack that the next entry from user mode will use (GS:8). Written by
    /// [`crate::Cpu::set_kernel_stack`] only.
    pub kernel_stack: VirtAddr,
    /// Which CPU this is (GS:16).
    pub cpu: CpuId,
    /// Not used; keeps the words that follow aligned.
    pub reserved: u32,
    /// The backend's own (GS:24 and up): scratch for entry code, a virtual interrupt flag, ….
    pub platform: [u64; PLATFORM_WORDS],
}

impl CpuLocal {
    /// The data of a CPU that has not started yet.
    pub const fn new(cpu: CpuId) -> Self {
        Self { this: VirtAddr(0), kernel_stack: VirtAddr(0), cpu, reserved: 0, platform: [0; PLATFORM_WORDS] }
    }
}

const _: () = {
    assert!(core::mem::offset_of!(CpuLocal, this) == 0);
    assert!(core::mem::offset_of!(CpuLocal, kernel_stack) == 8);
    assert!(core::mem::offset_of!(CpuLocal, cpu) == 16);
    assert!(core::mem::offset_of!(CpuLocal, platform) == 24);
};
