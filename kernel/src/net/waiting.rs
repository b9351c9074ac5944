//! Whether and how long calls on sockets wait.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::Nanoseconds;

use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::sync::{Interrupted, WaitQueue};

/// Whether a call may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// It fails with EAGAIN instead.
    No,
    /// As long as the socket's time limit says.
    Yes,
}

impl Waiting {
    /// As the open file's flags say.
    #[inline]
    pub fn of(file: &OpenFile) -> Self {
        if file.is_nonblocking() { Self::No } else { Self::Yes }
    }
}

/// How long calls on a socket may wait (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
pub struct TimeLimit(AtomicU64);

impl TimeLimit {
    const NONE: u64 = u64::MAX;

    /// For ever.
    pub const fn none() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }

    /// Sets it.
    pub fn set(&self, limit: Option<Nanoseconds>) {
        self.0.store(limit.map_or(Self::NONE, |limit| limit.0), Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> Option<Nanoseconds> {
        match self.0.load(Ordering::Relaxed) {
            Self::NONE => None,
            limit => Some(Nanoseconds(limit)),
        }
    }
}

/// One wait, or several that share a deadline.
pub struct Wait<'a> {
    limit: &'a TimeLimit,
    deadline: Option<Nanoseconds>,
}

impl<'a> Wait<'a> {
    /// No wait yet.
    #[inline]
    pub fn new(limit: &'a TimeLimit) -> Self {
        Self { limit, deadline: None }
    }

    /// Waits in `queue` until `condition` holds.
    ///
    /// # Errors
    /// EAGAIN if the time is up or there is none, ERESTARTSYS or EINTR after a signal.
    pub fn until(
        &mut self,
        waiting: Waiting,
        queue: &WaitQueue,
        condition: impl Fn() -> bool,
    ) -> KResult<()> {
        if waiting == Waiting::No {
            return Err(Errno::EAGAIN);
        }
        let limit = self.limit.get();
        if self.deadline.is_none() {
            self.deadline = limit.map(|limit| crate::time::now().saturating_add(limit));
        }
        match queue.wait_until(self.deadline, || condition().then_some(())) {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(Errno::EAGAIN),
            // A wait with a limit is not begun anew.
            Err(Interrupted) if limit.is_some() => Err(Errno::EINTR),
            Err(interrupted) => Err(interrupted.into()),
        }
    }
}
