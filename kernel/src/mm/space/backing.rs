//! What is behind a range of an address space.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use platform::PhysFrame;

use crate::errno::KResult;
use crate::mm::Page;
use crate::mm::vma::Behind;

/// What a page of a file is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapIntent {
    /// To be read: a page that does not exist yet is made.
    Read,
    /// To be read if it is there already; otherwise ENODATA.
    ReadIfPresent,
    /// To be written through a shared mapping.
    Write,
}

/// A file that can be mapped.
pub trait MappedFile: Send + Sync {
    /// The page at `index` (file offset in pages). EFAULT past the end of the file, ENOMEM without memory.
    fn map_page(&self, index: u64, intent: MapIntent) -> KResult<Page>;

    /// Device and inode number, for `/proc/PID/maps`.
    fn identity(&self) -> (u64, u64);

    /// Path, for `/proc/PID/maps`.
    fn path(&self) -> Cow<'_, [u8]>;

    /// What tells two files apart: the same for two handles on one file.
    fn same_file(&self, other: &dyn MappedFile) -> bool {
        self.identity() == other.identity()
    }
}

/// What is behind a range.
#[derive(Clone)]
pub enum Backing {
    /// Zeros, until written.
    Anonymous,
    /// A file, from `offset` (bytes, whole pages) on.
    File {
        /// The file.
        file: Arc<dyn MappedFile>,
        /// Offset of the range's first page, in bytes.
        offset: u64,
    },
    /// A frame of the kernel's and those behind it: the vDSO.
    Special {
        /// Frame of the range's first page. The kernel holds it for ever, so mappings do not count.
        first: PhysFrame,
        /// Name for `/proc/PID/maps`.
        name: &'static str,
    },
}

impl PartialEq for Backing {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::File { file: a, offset: x }, Self::File { file: b, offset: y }) => {
                x == y && core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
            }
            (Self::Special { first: a, name: x }, Self::Special { first: b, name: y }) => a == b && x == y,
            _ => false,
        }
    }
}

impl Behind for Backing {
    fn offset_by(&self, bytes: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::File { file, offset } => Self::File { file: file.clone(), offset: offset + bytes },
            Self::Special { first, name } => {
                Self::Special { first: *first + bytes / platform::PAGE_SIZE, name }
            }
        }
    }
}
