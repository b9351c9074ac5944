//! Signals sent and not yet taken.

use alloc::collections::VecDeque;

use super::info::Fields;
use super::{SigInfo, SignalSet};
use crate::process::credentials::Uid;
use crate::sync::IrqLock;
use litemap::LiteMap;

/// Signals sent to a thread or process and not yet taken.
pub struct Pending {
    set: SignalSet,
    queue: VecDeque<Queued>,
}

struct Queued {
    info: SigInfo,
    /// Counted against its user's limit as long as it is queued.
    _count: Option<UserCount>,
}

/// Whether a signal was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// It was.
    Yes,
    /// One like it is pending already, and one is all there can be.
    Already,
    /// There is no memory to keep what it says, and it must not be lost.
    NoMemory,
}

impl Pending {
    /// No signal.
    pub const fn new() -> Self {
        Self { set: SignalSet::EMPTY, queue: VecDeque::new() }
    }

    /// Which signals are pending.
    pub const fn set(&self) -> SignalSet {
        self.set
    }

    /// Adds a signal. `count` is its share of the sender's limit.
    pub fn add(&mut self, info: SigInfo, count: Option<UserCount>) -> Added {
        let signal = info.signal;
        if !signal.is_realtime() && self.set.contains(signal) {
            return Added::Already;
        }
        if let Fields::Timer { id, .. } = info.fields
            && self
                .queue
                .iter()
                .any(|queued| matches!(queued.info.fields, Fields::Timer { id: other, .. } if other == id))
        {
            return Added::Already;
        }
        match self.queue.try_reserve(1) {
            Ok(()) => self.queue.push_back(Queued { info, _count: count }),
            Err(_) if signal.is_realtime() => return Added::NoMemory,
            // That it came is kept; the rest is lost.
            Err(_) => {}
        }
        self.set = self.set.with(signal);
        Added::Yes
    }

    /// Takes the first of those in `wanted`: lowest number first, and of one number the oldest.
    pub fn take(&mut self, wanted: SignalSet) -> Option<SigInfo> {
        let signal = (self.set & wanted).first()?;
        let Some(index) = self.queue.iter().position(|queued| queued.info.signal == signal) else {
            self.set = self.set.without(signal.set());
            return Some(SigInfo::forgotten(signal));
        };
        let more = self.queue.iter().skip(index + 1).any(|queued| queued.info.signal == signal);
        if !more {
            self.set = self.set.without(signal.set());
        }
        self.queue.remove(index).map(|queued| queued.info)
    }

    /// Takes the oldest exception: a signal the kernel raised because of what the thread itself did.
    pub fn take_synchronous(&mut self, blocked: SignalSet) -> Option<SigInfo> {
        let wanted = (self.set & SignalSet::SYNCHRONOUS).without(blocked);
        if wanted.is_empty() {
            return None;
        }
        let found =
            self.queue.iter().find(|queued| wanted.contains(queued.info.signal) && queued.info.code > 0)?;
        self.take(found.info.signal.set())
    }

    /// Drops all signals of `which`.
    pub fn discard(&mut self, which: SignalSet) {
        if (self.set & which).is_empty() {
            return;
        }
        self.set = self.set.without(which);
        self.queue.retain(|queued| !which.contains(queued.info.signal));
    }
}

static COUNTS: IrqLock<LiteMap<u32, u64>> = IrqLock::new(LiteMap::new());

/// One queued signal of a user's (`RLIMIT_SIGPENDING`).
pub struct UserCount(Uid);

impl UserCount {
    /// One more for `uid`, if it then has no more than `limit`.
    pub fn take(uid: Uid, limit: u64) -> Option<Self> {
        let mut counts = COUNTS.lock();
        let count = counts.entry(uid.0).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Self(uid))
    }

    /// How many `uid` has queued.
    pub fn of(uid: Uid) -> u64 {
        COUNTS.lock().get(&uid.0).copied().unwrap_or(0)
    }
}

impl Drop for UserCount {
    fn drop(&mut self) {
        if let Some(count) = COUNTS.lock().get_mut(&self.0.0) {
            *count -= 1;
        }
    }
}
