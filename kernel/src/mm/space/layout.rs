//! What is mapped where.

use alloc::sync::Arc;

use platform::VirtAddr;

use super::{Backing, MappedFile};
use crate::mm::user::user_top;
use crate::mm::vma::{FreeSearch, UserRange, Vma, VmaTree};

/// The lowest address a program may map without asking for it (Linux's `vm.mmap_min_addr`).
pub const MIN_ADDRESS: u64 = 0x10000;

/// Where the parts of a started program are, for `/proc/PID/{stat,cmdline,environ}`. Addresses in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramRanges {
    /// First byte of the text, and one past the last.
    pub code: (u64, u64),
    /// First byte of the data, and one past the last.
    pub data: (u64, u64),
    /// Stack pointer at the start.
    pub stack_start: u64,
    /// Argument strings.
    pub arguments: (u64, u64),
    /// Environment strings.
    pub environment: (u64, u64),
    /// The auxiliary vector.
    pub auxiliary: (u64, u64),
}

/// The content of an address space, under its lock.
pub struct Layout {
    /// The ranges.
    pub vmas: VmaTree<Backing>,
    /// Where the heap starts.
    pub brk_start: VirtAddr,
    /// Where it ends now.
    pub brk: VirtAddr,
    /// New mappings go below this.
    pub map_top: VirtAddr,
    /// Where the program's parts are.
    pub program: ProgramRanges,
    /// The program's file.
    pub executable: Option<Arc<dyn MappedFile>>,
}

impl Layout {
    pub(super) fn new() -> Self {
        Self {
            vmas: VmaTree::new(),
            brk_start: VirtAddr(0),
            brk: VirtAddr(0),
            map_top: user_top(),
            program: ProgramRanges::default(),
            executable: None,
        }
    }

    pub(super) fn take_all(&mut self) -> VmaTree<Backing> {
        self.executable = None;
        core::mem::take(&mut self.vmas)
    }

    /// The range that holds `address`.
    pub fn find(&self, address: VirtAddr) -> Option<&Vma<Backing>> {
        self.vmas.find(address.0)
    }

    /// Where `length` bytes (whole pages) would fit, as high as possible.
    pub(super) fn find_free(&self, length: u64) -> Option<UserRange> {
        let search = |high: VirtAddr| {
            self.vmas.find_free_top_down(FreeSearch {
                length,
                alignment: platform::PAGE_SIZE,
                low: MIN_ADDRESS,
                high: high.0,
                guard: 0,
            })
        };
        let start = search(self.map_top).or_else(|| search(user_top()))?;
        UserRange::new(start, start + length)
    }

    /// Whether nothing is mapped in `range`.
    pub(super) fn is_free(&self, range: UserRange) -> bool {
        self.vmas.overlapping(range).is_empty()
    }
}
