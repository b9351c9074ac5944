//! An open file whose content is made when it is read.

use alloc::vec::Vec;

use super::device::{FileOps, Seek};
use super::file::OpenFile;
use super::inode::InodeKind;
use super::io::{IoDst, IoSrc};
use super::memory_device::take_all;
use crate::errno::{Errno, KResult};
use crate::sync::Mutex;

/// The longest write taken.
const LONGEST_WRITE: usize = 64 * 1024;

/// Keeps the content from one read to the next, so that a file read in pieces is of one piece. Reading from the start
/// makes it anew.
pub struct DynamicReader(Mutex<Option<Vec<u8>>>);

impl DynamicReader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }
}

impl Default for DynamicReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FileOps for DynamicReader {
    fn read_at(&self, file: &OpenFile, offset: u64, to: &mut IoDst<'_>) -> KResult<usize> {
        let InodeKind::Dynamic(source) = &file.inode().kind else { return Err(Errno::EINVAL) };
        let mut content = self.0.lock();
        if offset == 0 || content.is_none() {
            *content = Some(source.content()?);
        }
        let bytes = content.as_deref().unwrap_or_default();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        to.write(rest)
    }

    fn write_at(&self, file: &OpenFile, _offset: u64, from: &mut IoSrc<'_>) -> KResult<usize> {
        let InodeKind::Dynamic(target) = &file.inode().kind else { return Err(Errno::EINVAL) };
        let bytes = take_all(from, LONGEST_WRITE)?;
        target.store(&bytes)?;
        Ok(bytes.len())
    }

    fn seek(&self) -> Seek {
        Seek::Kept
    }
}
