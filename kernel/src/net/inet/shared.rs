//! What is known of a socket without the stack's lock.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use crate::errno::{Errno, KResult};
use crate::fs::poll::PollEvents;
use crate::sync::WaitQueue;

/// The part of a socket that waiting looks at. The stack changes it, with its lock held.
pub struct Shared {
    events: AtomicU32,
    error: AtomicI32,
    unread: AtomicUsize,
    unsent: AtomicUsize,
    /// Woken when something has come in, or nothing will.
    pub can_read: WaitQueue,
    /// Woken when something may go out, or nothing will.
    pub can_write: WaitQueue,
}

/// What the stack says of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// What `poll(2)` reports, an error apart.
    pub events: PollEvents,
    /// Bytes to be read.
    pub unread: usize,
    /// Bytes that the other end has not acknowledged.
    pub unsent: usize,
}

impl Shared {
    /// Of a socket in this condition.
    pub fn new(events: PollEvents) -> Self {
        Self {
            events: AtomicU32::new(events.bits()),
            error: AtomicI32::new(0),
            unread: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            can_read: WaitQueue::new(),
            can_write: WaitQueue::new(),
        }
    }

    /// Makes the socket's condition known, and wakes those whom the news may concern.
    pub fn publish(&self, condition: Condition) {
        let events = condition.events.bits();
        let before = self.events.swap(events, Ordering::AcqRel);
        let more = self.unread.swap(condition.unread, Ordering::Relaxed) < condition.unread;
        let unsent = self.unsent.swap(condition.unsent, Ordering::Relaxed);
        let all_sent = unsent > 0 && condition.unsent == 0;
        let news = PollEvents::from_bits_truncate(events & !before);
        let ends = PollEvents::ALWAYS | PollEvents::RDHUP;
        if more || news.intersects(PollEvents::READABLE | ends) {
            self.can_read.wake_all();
        }
        if all_sent || news.intersects(PollEvents::WRITABLE | ends) {
            self.can_write.wake_all();
        }
    }

    /// What `poll(2)` reports.
    pub fn events(&self) -> PollEvents {
        let mut events = PollEvents::from_bits_truncate(self.events.load(Ordering::Acquire));
        events.set(PollEvents::ERR, self.error.load(Ordering::Relaxed) != 0);
        events
    }

    /// Whether a call that waits for one of `events` need not wait any more: for an error in any case.
    pub fn has(&self, events: PollEvents) -> bool {
        self.events().intersects(events | PollEvents::ERR)
    }

    /// Bytes to be read.
    pub fn unread(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    /// Bytes that the other end has not acknowledged.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Notes an error, which the next call or `SO_ERROR` reports, once.
    pub fn set_error(&self, error: Errno) {
        self.error.store(error.number(), Ordering::Release);
        self.can_read.wake_all();
        self.can_write.wake_all();
    }

    /// The error's number, 0 for none; it is reported now.
    pub fn take_error(&self) -> i32 {
        self.error.swap(0, Ordering::AcqRel)
    }

    /// Reports the error, if there is one.
    ///
    /// # Errors
    /// That error.
    pub fn check_error(&self) -> KResult<()> {
        if self.error.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        Errno::from_number(self.take_error()).map_or(Ok(()), Err)
    }
}
