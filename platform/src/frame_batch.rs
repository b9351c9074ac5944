//! Frames handed across the cut many at a time.

use crate::PhysFrame;

/// Frames in a full batch.
pub const FRAME_BATCH: usize = 64;

/// A list of at most [`FRAME_BATCH`] frames, filled by a hook and emptied by the kernel.
#[derive(Debug)]
pub struct FrameBatch {
    frames: [PhysFrame; FRAME_BATCH],
    length: usize,
}

impl FrameBatch {
    /// An empty batch.
    pub const fn new() -> Self {
        Self { frames: [PhysFrame(0); FRAME_BATCH], length: 0 }
    }

    /// Adds a frame.
    ///
    /// # Panics
    /// If the batch is full: a backend asks [`Self::is_full`] before.
    pub fn push(&mut self, frame: PhysFrame) {
        self.frames[self.length] = frame;
        self.length += 1;
    }

    /// Whether no further frame fits.
    pub const fn is_full(&self) -> bool {
        self.length == FRAME_BATCH
    }

    /// Whether it holds no frame.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The frames, in the order they were added.
    pub fn frames(&self) -> &[PhysFrame] {
        &self.frames[..self.length]
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.length = 0;
    }
}

impl Default for FrameBatch {
    fn default() -> Self {
        Self::new()
    }
}
