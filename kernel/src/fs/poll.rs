//! Waiting for files: what `poll(2)` reports, and how a task waits for several files at once.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use platform::Nanoseconds;

use super::file::OpenFile;
use crate::errno::KResult;
use crate::sync::{Interrupted, WaitQueue, Wake};

bitflags::bitflags! {
    /// What a file is ready for (`poll(2)`'s numbers, which are also `epoll(7)`'s).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PollEvents: u32 {
        /// Can be read.
        const IN = 0x1;
        /// Something exceptional.
        const PRI = 0x2;
        /// Can be written.
        const OUT = 0x4;
        /// In error. Always reported.
        const ERR = 0x8;
        /// Hung up. Always reported.
        const HUP = 0x10;
        /// Not open.
        const NVAL = 0x20;
        /// As `IN`.
        const RDNORM = 0x40;
        /// Priority data can be read.
        const RDBAND = 0x80;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Priority data can be written.
        const WRBAND = 0x200;
        /// The peer writes no more.
        const RDHUP = 0x2000;
    }
}

impl PollEvents {
    /// Reported whether asked for or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);
    /// All that says that a read would not wait.
    pub const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// All that says that a write would not wait.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
}

/// A task that waits for several files: one watcher in all their queues.
pub struct Watch {
    woken: AtomicBool,
    queue: WaitQueue,
}

impl Wake for Watch {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.queue.wake_all();
    }
}

/// A [`Watch`] on a set of files; leaves their queues when dropped.
struct Watching<'a, I: Iterator<Item = &'a Arc<OpenFile>> + Clone> {
    watch: Arc<Watch>,
    files: I,
}

impl<'a, I: Iterator<Item = &'a Arc<OpenFile>> + Clone> Watching<'a, I> {
    /// Starts to watch `files`. What happens from now on is noticed by [`Self::wait`].
    ///
    /// # Errors
    /// ENOMEM.
    fn start(files: I) -> KResult<Self> {
        let watch = Arc::new(Watch { woken: AtomicBool::new(false), queue: WaitQueue::new() });
        // What has been entered is left again if one cannot be.
        let watching = Self { watch, files };
        let mut result = Ok(());
        for file in watching.files.clone() {
            file.prepare_to_watch()?;
            file.queues(&mut |queue| result = result.and_then(|()| queue.watch(watching.watch.clone())));
        }
        result.map(|()| watching)
    }

    /// Waits until a file's queue has been woken since the last call; false if `deadline` came first.
    fn wait(&self, deadline: Option<Nanoseconds>) -> Result<bool, Interrupted> {
        let woken = || self.watch.woken.swap(false, Ordering::Acquire).then_some(());
        Ok(self.watch.queue.wait_until(deadline, woken)?.is_some())
    }
}

impl<'a, I: Iterator<Item = &'a Arc<OpenFile>> + Clone> Drop for Watching<'a, I> {
    fn drop(&mut self) {
        let watcher: Arc<dyn Wake> = self.watch.clone();
        for file in self.files.clone() {
            file.queues(&mut |queue| queue.unwatch(&watcher));
        }
    }
}

/// Waits until `look` yields a value, looking again whenever one of `files` may have become ready; none at `deadline`.
/// A deadline in the past means one look.
pub fn wait_for<'a, T>(
    files: impl Iterator<Item = &'a Arc<OpenFile>> + Clone,
    deadline: Option<Nanoseconds>,
    mut look: impl FnMut() -> Option<T>,
) -> KResult<Option<T>> {
    if let Some(value) = look() {
        return Ok(Some(value));
    }
    if deadline.is_some_and(|deadline| deadline == Nanoseconds::ZERO || crate::time::now() >= deadline) {
        return Ok(None);
    }
    let watching = Watching::start(files)?;
    loop {
        if let Some(value) = look() {
            return Ok(Some(value));
        }
        if !watching.wait(deadline)? {
            return Ok(look());
        }
    }
}
