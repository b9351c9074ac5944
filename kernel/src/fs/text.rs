//! Files that run as programs are not written, and files that are open for writing do not run (ETXTBSY).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};

use super::inode::{Inode, InodeKind};
use crate::errno::{Errno, KResult};

/// Who uses a file's bytes: how many may write them; or, negative, how many run them.
pub struct TextUse(AtomicI32);

impl TextUse {
    /// Nobody.
    pub const fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    fn begin(&self, step: i32) -> KResult<()> {
        let other_side = |users: i32| users.signum() == -step.signum();
        let begun = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |users| {
            if other_side(users) { None } else { users.checked_add(step) }
        });
        begun.map(drop).map_err(|_| Errno::ETXTBSY)
    }

    fn end(&self, step: i32) {
        self.0.fetch_sub(step, Ordering::AcqRel);
    }
}

impl Default for TextUse {
    fn default() -> Self {
        Self::new()
    }
}

/// The use of a regular file as `STEP` says; any other file may be used in every way at once.
struct Use<const STEP: i32>(Arc<Inode>);

impl<const STEP: i32> Use<STEP> {
    fn begin(inode: &Arc<Inode>) -> KResult<Self> {
        if let InodeKind::Regular(file) = &inode.kind {
            file.text_use.begin(STEP)?;
        }
        Ok(Self(inode.clone()))
    }
}

impl<const STEP: i32> Drop for Use<STEP> {
    fn drop(&mut self) {
        if let InodeKind::Regular(file) = &self.0.kind {
            file.text_use.end(STEP);
        }
    }
}

/// Somebody may write the file, as long as this lives.
pub struct Writing(#[expect(dead_code, reason = "held for its end")] Use<1>);

impl Writing {
    /// # Errors
    /// ETXTBSY while a program runs from the file.
    pub fn begin(inode: &Arc<Inode>) -> KResult<Self> {
        Use::begin(inode).map(Self)
    }
}

/// A program runs from the file, as long as this lives.
pub struct Running(#[expect(dead_code, reason = "held for its end")] Use<-1>);

impl Running {
    /// # Errors
    /// ETXTBSY while the file is open for writing.
    pub fn begin(inode: &Arc<Inode>) -> KResult<Self> {
        Use::begin(inode).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_runners_keep_each_other_out() {
        let text = TextUse::new();
        text.begin(1).unwrap();
        text.begin(1).unwrap();
        assert_eq!(text.begin(-1), Err(Errno::ETXTBSY));
        text.end(1);
        assert_eq!(text.begin(-1), Err(Errno::ETXTBSY));
        text.end(1);
        text.begin(-1).unwrap();
        text.begin(-1).unwrap();
        assert_eq!(text.begin(1), Err(Errno::ETXTBSY));
        text.end(-1);
        text.end(-1);
        text.begin(1).unwrap();
    }
}
