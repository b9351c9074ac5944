//! Counters that can be waited for (`eventfd(2)`).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::fs::table::{OnExec, install};
use crate::sync::WaitQueue;
use crate::syscall::{Call, SysResult};

/// The highest count.
const MAX: u64 = u64::MAX - 1;
/// A read takes one (`EFD_SEMAPHORE`).
const SEMAPHORE: u32 = 1;

/// What a read takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Takes {
    All,
    One,
}

/// A counter.
struct Counter {
    count: AtomicU64,
    takes: Takes,
    can_read: WaitQueue,
    can_write: WaitQueue,
}

impl Counter {
    fn new(count: u64, takes: Takes) -> Self {
        let count = AtomicU64::new(count);
        Self { count, takes, can_read: WaitQueue::new(), can_write: WaitQueue::new() }
    }

    /// Takes what a read takes, unless the count is 0.
    #[inline]
    fn take(&self) -> Option<u64> {
        let left = |count| match self.takes {
            Takes::All if count > 0 => Some(0),
            Takes::One => u64::checked_sub(count, 1),
            Takes::All => None,
        };
        let before = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).ok()?;
        Some(if self.takes == Takes::All { before } else { 1 })
    }

    /// Adds to the count, unless it would go too high.
    #[inline]
    fn add(&self, value: u64) -> Option<()> {
        let more = |count: u64| count.checked_add(value).filter(|&sum| sum <= MAX);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(drop)
    }
}

impl FileOps for Counter {
    #[inline]
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = match self.take() {
            Some(value) => value,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self.can_read.wait(|| self.take())?,
        };
        self.can_write.wake_all();
        to.write_whole(&value.to_ne_bytes())?;
        Ok(8)
    }

    #[inline]
    fn write(&self, file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        let mut bytes = [0; 8];
        from.read_whole(&mut bytes)?;
        let value = u64::from_ne_bytes(bytes);
        if value > MAX {
            return Err(Errno::EINVAL);
        }
        if self.add(value).is_none() {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.can_write.wait(|| self.add(value))?;
        }
        if value > 0 || self.count.load(Ordering::Relaxed) > 0 {
            self.can_read.wake_all();
        }
        Ok(8)
    }

    fn poll(&self) -> PollEvents {
        let count = self.count.load(Ordering::Acquire);
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN;
        }
        if count < MAX {
            events |= PollEvents::OUT;
        }
        events
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(&self.can_read);
        visit(&self.can_write);
    }

    fn queues_for(&self, events: PollEvents, visit: &mut dyn FnMut(&WaitQueue)) {
        if events.intersects(PollEvents::IN) {
            visit(&self.can_read);
        }
        if events.intersects(PollEvents::OUT) {
            visit(&self.can_write);
        }
    }

    fn describe(&self, out: &mut dyn core::fmt::Write) {
        // The text ends where there is no more room for it.
        let _full = writeln!(out, "eventfd-count: {:16x}", self.count.load(Ordering::Relaxed));
    }
}

fn create(count: u32, flags: u32) -> SysResult {
    if flags & !(O_CLOEXEC | O_NONBLOCK | SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let takes = if flags & SEMAPHORE != 0 { Takes::One } else { Takes::All };
    let counter = Arc::new(Counter::new(count.into(), takes));
    let file = OpenFile::device("anon_inode:[eventfd]", counter, O_RDWR | (flags & O_NONBLOCK));
    Ok(install(file, OnExec::close_if(flags & O_CLOEXEC != 0))?.0 as u64)
}

pub(super) fn eventfd(call: &mut Call<'_>) -> SysResult {
    create(call.uint(0), 0)
}

pub(super) fn eventfd2(call: &mut Call<'_>) -> SysResult {
    create(call.uint(0), call.uint(1))
}

/// A counter that starts at `count`, for tests.
#[cfg(test)]
pub fn new_counter(count: u64) -> Arc<dyn FileOps> {
    Arc::new(Counter::new(count, Takes::All))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_takes_all_and_of_a_semaphore_one() {
        let counter = Counter::new(0, Takes::All);
        assert_eq!(counter.take(), None);
        assert_eq!(counter.add(3), Some(()));
        assert_eq!(counter.add(4), Some(()));
        assert_eq!(counter.take(), Some(7));
        assert_eq!(counter.take(), None);

        let semaphore = Counter::new(2, Takes::One);
        assert_eq!(semaphore.take(), Some(1));
        assert_eq!(semaphore.take(), Some(1));
        assert_eq!(semaphore.take(), None);
    }

    #[test]
    fn the_count_never_reaches_the_highest_number() {
        let counter = Counter::new(0, Takes::All);
        assert_eq!(counter.add(MAX), Some(()));
        assert_eq!(counter.add(1), None);
        assert_eq!(counter.add(0), Some(()));
        assert_eq!(counter.poll(), PollEvents::IN);
        assert_eq!(counter.take(), Some(MAX));
        assert_eq!(counter.poll(), PollEvents::OUT);
        assert_eq!(counter.add(5), Some(()));
        assert_eq!(counter.add(MAX - 4), None);
        assert_eq!(counter.poll(), PollEvents::IN | PollEvents::OUT);
    }
}
