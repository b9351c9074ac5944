//! A frame that is counted.

use platform::{PAGE_SIZE, PhysFrame};

use super::{direct, frames};
use crate::errno::{Errno, KResult};

/// A holder of one frame of memory: a page of a file, say. Cloning adds a holder, dropping lets go.
#[derive(Debug)]
pub struct Page(PhysFrame);

impl Page {
    /// A page of zeros.
    pub fn zeroed() -> KResult<Self> {
        let page = Self(frames::allocate_user().ok_or(Errno::ENOMEM)?);
        frames::clear(page.0);
        Ok(page)
    }

    /// A page for what is written to a file, with undefined content: to be filled before anybody sees it.
    ///
    /// # Errors
    /// ENOSPC: files have no more memory.
    pub fn for_file() -> KResult<Self> {
        frames::allocate_for_file().map(Self).ok_or(Errno::ENOSPC)
    }

    /// Takes over a holder that the caller has.
    pub fn from_held(frame: PhysFrame) -> Self {
        Self(frame)
    }

    /// Hands its holder to the caller, who must let go of the frame.
    pub fn into_held(self) -> PhysFrame {
        let frame = self.0;
        core::mem::forget(self);
        frame
    }

    /// The frame.
    pub fn frame(&self) -> PhysFrame {
        self.0
    }

    /// Copies bytes from the page. Programs that map it may change it meanwhile.
    ///
    /// # Panics
    /// If the range passes the end of the page.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= PAGE_SIZE as usize, "a read passes the end of its page");
        let from = direct(self.0.start() + offset as u64);
        // SAFETY: the frame is held, RAM and in the direct map; the range lies in it.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
    }

    /// Copies bytes to the page.
    ///
    /// # Panics
    /// If the range passes the end of the page.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= PAGE_SIZE as usize, "a write passes the end of its page");
        let to = direct(self.0.start() + offset as u64);
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), from.len()) };
    }

    /// Writes zeros from `offset` to the end of the page.
    pub fn clear_from(&self, offset: usize) {
        let length = (PAGE_SIZE as usize).saturating_sub(offset);
        let to = direct(self.0.start() + offset as u64);
        // SAFETY: as in `read`.
        unsafe { core::ptr::write_bytes(to.as_mut_ptr::<u8>(), 0, length) };
    }

    /// The page's bytes, to copy to user memory without a buffer between. Programs that map the page may change them
    /// meanwhile, so nothing may be concluded from what they are.
    pub fn with_bytes<R>(&self, offset: usize, length: usize, work: impl FnOnce(&[u8]) -> R) -> R {
        assert!(offset + length <= PAGE_SIZE as usize, "a range passes the end of its page");
        let from = direct(self.0.start() + offset as u64);
        // SAFETY: as in `read`; the bytes are only copied by `work`.
        work(unsafe { core::slice::from_raw_parts(from.as_ptr(), length) })
    }

    /// As [`Self::with_bytes`], to be written.
    pub fn with_bytes_mut<R>(&self, offset: usize, length: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(offset + length <= PAGE_SIZE as usize, "a range passes the end of its page");
        let to = direct(self.0.start() + offset as u64);
        // SAFETY: as in `read`; the bytes are only written by `work`.
        work(unsafe { core::slice::from_raw_parts_mut(to.as_mut_ptr(), length) })
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        frames::get(self.0);
        Self(self.0)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        frames::put(self.0);
    }
}
