//! Advisory locks on files: `flock(2)`, and record locks by process and by open file (`fcntl_locking(2)`).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::file::OpenFile;
use crate::errno::{Errno, KResult};
use crate::process::Pid;
use crate::sync::{SpinLock, WaitQueue};

/// Whose a lock is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockOwner {
    /// A table of descriptors: a process, as a rule.
    Table(usize),
    /// An open file.
    File(usize),
}

impl LockOwner {
    /// The owner that `file` itself is.
    pub fn of_file(file: &OpenFile) -> Self {
        Self::File(core::ptr::from_ref(file).addr())
    }
}

/// The two sorts of locks, which know nothing of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockSort {
    /// The whole file, by `flock(2)`.
    Whole,
    /// A range of bytes, by `fcntl(2)`.
    Record,
}

/// Whether others may hold the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// For reading.
    Shared,
    /// For writing.
    Exclusive,
}

/// A lock held, or wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lock {
    /// What sort.
    pub sort: LockSort,
    /// For reading or writing.
    pub mode: LockMode,
    /// Whose.
    pub owner: LockOwner,
    /// The process that asked for it; for locks of an open file, shown as -1.
    pub pid: Pid,
    /// First byte.
    pub start: u64,
    /// Last byte; all that may ever follow, if `u64::MAX`.
    pub last: u64,
}

impl Lock {
    fn conflicts(&self, other: &Self) -> bool {
        self.sort == other.sort
            && self.owner != other.owner
            && self.start <= other.last
            && other.start <= self.last
            && (self.mode == LockMode::Exclusive || other.mode == LockMode::Exclusive)
    }

    fn is_like(&self, other: &Self) -> bool {
        self.sort == other.sort && self.owner == other.owner
    }
}

#[derive(Default)]
struct Held {
    locks: Vec<Lock>,
    released: WaitQueue,
}

/// The locks on one file.
pub struct FileLocks {
    held: SpinLock<Option<Box<Held>>>,
    /// There has been a lock on the file.
    used: AtomicBool,
}

impl Default for FileLocks {
    fn default() -> Self {
        Self::new()
    }
}

/// The process waits for whom: a wait that would close a circle is refused.
static WAITING: SpinLock<Vec<(LockOwner, LockOwner)>> = SpinLock::new(Vec::new());

/// Takes `owner` out of [`WAITING`] when its wait is over.
struct WaitNote(LockOwner);

impl WaitNote {
    fn new(waiter: LockOwner, holder: LockOwner) -> KResult<Self> {
        let mut waiting = WAITING.lock();
        let mut at = holder;
        // Each owner waits for one other at most, so there are no more steps than entries.
        for _ in 0..=waiting.len() {
            if at == waiter {
                return Err(Errno::EDEADLK);
            }
            match waiting.iter().find(|(from, _)| *from == at) {
                Some((_, next)) => at = *next,
                None => break,
            }
        }
        waiting.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        waiting.push((waiter, holder));
        Ok(Self(waiter))
    }
}

impl Drop for WaitNote {
    fn drop(&mut self) {
        let mut waiting = WAITING.lock();
        if let Some(index) = waiting.iter().position(|(from, _)| *from == self.0) {
            waiting.swap_remove(index);
        }
    }
}

impl FileLocks {
    /// No locks.
    pub const fn new() -> Self {
        Self { held: SpinLock::new(None), used: AtomicBool::new(false) }
    }

    /// Whether there has been a lock.
    #[inline]
    pub fn in_use(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// A lock that keeps `wanted` from being had.
    pub fn conflict(&self, wanted: &Lock) -> Option<Lock> {
        self.held.lock().as_ref()?.locks.iter().find(|held| held.conflicts(wanted)).copied()
    }

    fn try_take(&self, wanted: &Lock) -> KResult<Result<(), Lock>> {
        self.used.store(true, Ordering::Relaxed);
        let mut held = self.held.lock();
        let held = held.get_or_insert_with(Box::default);
        if let Some(conflict) = held.locks.iter().find(|held| held.conflicts(wanted)) {
            return Ok(Err(*conflict));
        }
        let weaker = set_range(&mut held.locks, wanted, Some(wanted.mode))?;
        if weaker {
            held.released.wake_all();
        }
        Ok(Ok(()))
    }

    /// Takes a lock; whatever the owner held of its range becomes this one.
    ///
    /// # Errors
    /// EAGAIN if somebody else's is in the way and `wait` is false; EDEADLK, ENOLCK, ERESTARTSYS.
    pub fn take(&self, wanted: &Lock, wait: bool) -> KResult<()> {
        loop {
            let Err(conflict) = self.try_take(wanted)? else { return Ok(()) };
            if !wait {
                return Err(Errno::EAGAIN);
            }
            let _note = match wanted.owner {
                LockOwner::Table(_) => Some(WaitNote::new(wanted.owner, conflict.owner)?),
                LockOwner::File(_) => None,
            };
            self.wait_for(wanted)?;
        }
    }

    fn wait_for(&self, wanted: &Lock) -> KResult<()> {
        let queue: *const WaitQueue = match self.held.lock().as_ref() {
            Some(held) => &raw const held.released,
            None => return Ok(()),
        };
        // SAFETY: the box is made once and lives as long as `self`: `release` empties it but never drops it.
        let queue = unsafe { &*queue };
        queue.wait(|| self.conflict(wanted).is_none().then_some(()))?;
        Ok(())
    }

    /// Gives up what `range`'s owner holds of its range.
    ///
    /// # Errors
    /// ENOLCK: a lock would have to be split, and there is no memory.
    pub fn give_up(&self, range: &Lock) -> KResult<()> {
        let mut held = self.held.lock();
        let Some(held) = held.as_mut() else { return Ok(()) };
        if set_range(&mut held.locks, range, None)? {
            held.released.wake_all();
        }
        Ok(())
    }

    /// Gives up everything of `owner`'s.
    pub fn release(&self, owner: LockOwner) {
        let mut held = self.held.lock();
        let Some(held) = held.as_mut() else { return };
        let before = held.locks.len();
        held.locks.retain(|lock| lock.owner != owner);
        if held.locks.len() != before {
            held.released.wake_all();
        }
    }

    /// All locks held.
    pub fn list(&self) -> Vec<Lock> {
        self.held.lock().as_ref().map_or_else(Vec::new, |held| held.locks.clone())
    }
}

/// Sets what `range`'s owner holds of its range; says whether anything was given up or weakened.
fn set_range(locks: &mut Vec<Lock>, range: &Lock, mode: Option<LockMode>) -> KResult<bool> {
    // At worst one lock is split in two and the new one comes in.
    locks.try_reserve(2).map_err(|_| Errno::ENOLCK)?;
    let mut weaker = false;
    let mut new = *range;
    let mut index = 0;
    while index < locks.len() {
        let old = locks[index];
        let touches = old.start <= new.last.saturating_add(1) && new.start <= old.last.saturating_add(1);
        if !old.is_like(range) || !touches {
            index += 1;
            continue;
        }
        if mode == Some(old.mode) {
            // Neighbours of the same mode become one.
            new.start = new.start.min(old.start);
            new.last = new.last.max(old.last);
            locks.swap_remove(index);
            continue;
        }
        let overlaps = old.start <= range.last && range.start <= old.last;
        if !overlaps {
            index += 1;
            continue;
        }
        weaker |= mode.is_none() || old.mode == LockMode::Exclusive;
        let before = (old.start < range.start).then(|| Lock { last: range.start - 1, ..old });
        let after = (old.last > range.last).then(|| Lock { start: range.last + 1, ..old });
        match (before, after) {
            (Some(before), Some(after)) => {
                locks[index] = before;
                locks.push(after);
                // Nothing else of the owner's can overlap a range that lies inside one lock.
                break;
            }
            (Some(part), None) | (None, Some(part)) => {
                locks[index] = part;
                index += 1;
            }
            (None, None) => {
                locks.swap_remove(index);
            }
        }
    }
    if let Some(mode) = mode {
        new.mode = mode;
        locks.push(new);
    }
    Ok(weaker)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(owner: usize, mode: LockMode, start: u64, last: u64) -> Lock {
        Lock {
            sort: LockSort::Record,
            mode,
            owner: LockOwner::Table(owner),
            pid: Pid(owner as i32),
            start,
            last,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_bytes(steps in proptest::collection::vec((0usize..2, 0u8..3, 0u64..40, 0u64..12), 1..60)) {
            let locks = FileLocks::new();
            let mut model = [[None::<LockMode>; 64]; 2];
            for (owner, what, start, length) in steps {
                let last = start + length;
                let bytes = start as usize..=last as usize;
                let mode = [None, Some(LockMode::Shared), Some(LockMode::Exclusive)][usize::from(what)];
                let wanted = lock(owner, mode.unwrap_or(LockMode::Shared), start, last);
                let blocked = mode.is_some_and(|mode| bytes.clone().any(|byte| match model[1 - owner][byte] {
                    Some(LockMode::Exclusive) => true,
                    Some(LockMode::Shared) => mode == LockMode::Exclusive,
                    None => false,
                }));
                let result = match mode {
                    Some(_) => locks.take(&wanted, false),
                    None => locks.give_up(&wanted),
                };
                prop_assert_eq!(result.is_err(), blocked);
                if !blocked {
                    for byte in bytes {
                        model[owner][byte] = mode;
                    }
                }
                let mut shown = [[None; 64]; 2];
                for held in locks.list() {
                    let LockOwner::Table(owner) = held.owner else { unreachable!() };
                    for byte in held.start..=held.last {
                        prop_assert!(shown[owner][byte as usize].is_none());
                        shown[owner][byte as usize] = Some(held.mode);
                    }
                }
                prop_assert_eq!(shown, model);
            }
        }
    }

    #[test]
    fn sorts_know_nothing_of_each_other() {
        let locks = FileLocks::new();
        let record = lock(1, LockMode::Exclusive, 0, u64::MAX);
        locks.take(&record, false).unwrap();
        let whole = Lock { sort: LockSort::Whole, owner: LockOwner::File(2), ..record };
        locks.take(&whole, false).unwrap();
        let other = Lock { owner: LockOwner::File(3), ..whole };
        assert_eq!(locks.take(&other, false), Err(Errno::EAGAIN));
        locks.release(LockOwner::File(2));
        locks.take(&other, false).unwrap();
    }

    #[test]
    fn a_circle_of_waits_is_refused() {
        let note = WaitNote::new(LockOwner::Table(11), LockOwner::Table(12)).unwrap();
        let second = WaitNote::new(LockOwner::Table(12), LockOwner::Table(13)).unwrap();
        assert_eq!(WaitNote::new(LockOwner::Table(13), LockOwner::Table(11)).err(), Some(Errno::EDEADLK));
        drop((note, second));
        assert!(WaitNote::new(LockOwner::Table(13), LockOwner::Table(11)).is_ok());
    }
}
