//! Facts found at boot.

use crate::{CpuSet, PhysRange, VirtAddr};

/// What a range of physical addresses may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryKind {
    /// RAM the kernel may use at once.
    Usable,
    /// RAM that holds the kernel image, its first page tables or what the platform keeps for ever.
    Kernel,
    /// RAM that holds boot facts (command line, memory map, firmware tables): the kernel may use it once
    /// [`crate::Boot::discover`] has returned and the facts are copied.
    Reclaimable,
    /// RAM that holds the initramfs; the kernel may use it once it has read that.
    Initramfs,
    /// Not RAM, or not for the kernel.
    Reserved,
}

/// One range of the memory map. Ranges are page aligned, ascending and do not overlap.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRegion {
    /// Where.
    pub range: PhysRange,
    /// What for.
    pub kind: MemoryKind,
}

/// What the platform knows when it enters the kernel.
///
/// All RAM in `memory` is mapped, readable and writable and never executable, at `direct_map` plus its physical
/// address; the platform chooses that base. The kernel image is mapped W^X at its link address.
#[derive(Debug)]
pub struct BootInfo {
    /// The memory map.
    pub memory: &'static [MemoryRegion],
    /// The command line as given; not necessarily UTF-8.
    pub command_line: &'static [u8],
    /// The initramfs, if one was given; may be empty. Its bytes are those of the [`MemoryKind::Initramfs`] region.
    pub initramfs: Option<PhysRange>,
    /// Virtual address at which physical address 0 would be found.
    pub direct_map: VirtAddr,
    /// Virtual addresses the kernel may hand to [`crate::Paging::map_kernel`]: page aligned, disjoint from the direct
    /// map, the image and the platform's own.
    pub kernel_window: (VirtAddr, VirtAddr),
    /// One past the highest address a user mapping may have; page aligned.
    pub user_top: VirtAddr,
}

/// What [`crate::Boot::discover`] found.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// CPUs that exist, the boot CPU (always CPU 0) among them.
    pub cpus: CpuSet,
    /// What runs this machine, for `/proc` and the log (`"QEMU TCG"`, …).
    pub description: &'static str,
}

/// Why the machine cannot run this image: one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable(pub &'static str);
