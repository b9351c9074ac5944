//! Files whose content is made on demand.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::inode::Inode;
use super::path::Path;
use crate::errno::{Errno, KResult};

/// A file that tells something.
pub trait DynamicFile: Send + Sync {
    /// All of its content, as of now.
    fn content(&self) -> KResult<Vec<u8>>;

    /// Takes what was written to it, in one piece.
    fn store(&self, bytes: &[u8]) -> KResult<()> {
        let _ = bytes;
        Err(Errno::EINVAL)
    }
}

/// One entry of a listing.
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its number.
    pub inode: u64,
    /// Type, as in `st_mode`.
    pub mode: u32,
    /// Where the listing goes on after it.
    pub next: u64,
}

/// A directory of files made on demand.
pub trait DynamicDirectory: Send + Sync {
    /// The file called `name`.
    fn lookup(&self, name: &[u8]) -> KResult<Option<Arc<Inode>>>;

    /// Lists entries from place `from` on (2 for the first; lower ones are `.` and `..`) until `emit` returns false.
    fn list(&self, from: u64, emit: &mut dyn FnMut(&Listed<'_>) -> bool) -> KResult<()>;
}

/// A link made on demand.
pub trait DynamicLink: Send + Sync {
    /// What `readlink(2)` gives.
    fn target(&self) -> KResult<Vec<u8>>;

    /// Where it leads, if that cannot be said by a path.
    fn follow(&self) -> KResult<Option<Path>> {
        Ok(None)
    }
}
