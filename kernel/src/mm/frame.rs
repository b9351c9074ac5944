//! The number of a physical frame.

/// Bytes in a frame (and in a page), as a power of two.
pub const FRAME_SHIFT: u32 = 12;
/// Bytes in a frame (and in a page).
pub const FRAME_SIZE: u64 = 1 << FRAME_SHIFT;

/// A 4 KiB frame of physical memory, by number: its address divided by [`FRAME_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct PhysFrame(pub u64);

impl PhysFrame {
    /// The frame that holds the physical address `address` (in bytes).
    pub const fn containing(address: u64) -> Self {
        Self(address >> FRAME_SHIFT)
    }

    /// The physical address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 << FRAME_SHIFT
    }

    /// The frame `count` frames further up.
    pub const fn offset(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}
