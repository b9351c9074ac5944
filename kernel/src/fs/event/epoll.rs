//! Sets of files to wait for (`epoll(7)`).
//!
//! Each member stands as a watcher in the queues of its file. When one of those is woken the member is listed as one
//! that may be ready; whoever waits for the set looks at the listed members only.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use platform::Nanoseconds;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::epoll_ready::{ReadyList, Slot};
use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::{CloseWatcher, OpenFile};
use crate::fs::poll::PollEvents;
use crate::fs::table::Fd;
use crate::mm::UserAddr;
use crate::sync::{Mutex, SpinLock, WaitQueue, Wake};

/// Report once for each time it becomes ready (`EPOLLET`).
pub const EDGE: u32 = 1 << 31;
/// Report once, then not until changed (`EPOLLONESHOT`).
pub const ONE_SHOT: u32 = 1 << 30;
/// Keep the machine awake (`EPOLLWAKEUP`); it never sleeps here.
pub const WAKE_UP: u32 = 1 << 29;
/// Wake one of several sets (`EPOLLEXCLUSIVE`). Waking them all is allowed, and what is done.
pub const EXCLUSIVE: u32 = 1 << 28;
/// The bits that are no events.
const MANNER: u32 = EDGE | ONE_SHOT | WAKE_UP | EXCLUSIVE;

/// `struct epoll_event`, which is packed on x86-64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct Event {
    /// Events, and the manner in which they are reported.
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

/// What tells members apart: the open file and the descriptor it was added by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    file: usize,
    fd: Fd,
}

impl Key {
    fn new(file: &OpenFile, fd: Fd) -> Self {
        Self { file: core::ptr::from_ref(file).addr(), fd }
    }
}

/// A member of a set.
pub struct Item {
    /// The set.
    pub(super) set: Arc<Set>,
    slot: Slot,
    key: Key,
    /// The file; gone once it is closed.
    pub(super) file: Weak<OpenFile>,
    /// The file is a set itself.
    pub(super) is_set: bool,
    /// The interest by which it stands in the file's queues.
    entered_for: AtomicU32,
    interest: AtomicU32,
    data: AtomicU64,
}

impl Item {
    fn interest(&self) -> u32 {
        self.interest.load(Ordering::Acquire)
    }

    /// Enters the queues that tell of `interest`: all, or none if there is not the memory for that.
    fn enter_queues(self: &Arc<Self>, file: &OpenFile, interest: u32) -> KResult<()> {
        file.prepare_to_watch()?;
        let mut entered = 0;
        let mut result = Ok(());
        each_queue(file, interest, &mut |queue| {
            if result.is_ok() {
                result = queue.watch(self.clone());
                entered += usize::from(result.is_ok());
            }
        });
        if result.is_err() {
            self.leave_queues_of(file, interest, entered);
        }
        result
    }

    fn leave_queues(self: &Arc<Self>, file: &OpenFile) {
        self.leave_queues_of(file, self.entered_for.load(Ordering::Relaxed), usize::MAX);
    }

    /// Leaves the first `most` of the queues that tell of `interest`.
    fn leave_queues_of(self: &Arc<Self>, file: &OpenFile, interest: u32, most: usize) {
        let watcher: Arc<dyn Wake> = self.clone();
        let mut left = most;
        each_queue(file, interest, &mut |queue| {
            if left > 0 {
                left -= 1;
                queue.unwatch(&watcher);
            }
        });
    }

    /// Events that are there and that it is interested in.
    fn ready_events(&self, file: &OpenFile) -> u32 {
        let interest = self.interest();
        if interest & !MANNER == 0 { 0 } else { file.poll().bits() & interest }
    }
}

/// The queues that are woken when one of the events of `interest` may have come.
fn each_queue(file: &OpenFile, interest: u32, visit: &mut dyn FnMut(&WaitQueue)) {
    match file.ops() {
        Some(ops) => ops.queues_for(PollEvents::from_bits_truncate(interest), visit),
        None => file.queues(visit),
    }
}

impl Wake for Item {
    fn wake(&self) {
        if self.interest() & !MANNER != 0 {
            self.set.note(self.slot);
        }
    }
}

impl CloseWatcher for Item {
    fn file_closed(&self, file: &OpenFile) {
        let removed = {
            let mut members = self.set.members.lock();
            let still_member =
                members.get(self.slot).is_some_and(|item| core::ptr::eq(Arc::as_ptr(item), self));
            if still_member { members.remove(self.slot) } else { None }
        };
        if let Some(item) = removed {
            item.leave_queues(file);
        }
    }
}

#[derive(Default)]
struct Members {
    slots: Vec<Option<Arc<Item>>>,
    free: Vec<Slot>,
    by_key: BTreeMap<Key, Slot>,
}

impl Members {
    fn get(&self, slot: Slot) -> Option<&Arc<Item>> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    fn find(&self, key: Key) -> Option<&Arc<Item>> {
        self.get(*self.by_key.get(&key)?)
    }

    /// A free slot, which stays free until something is put there.
    fn free_slot(&mut self) -> KResult<Slot> {
        if self.free.is_empty() {
            // Room to note the slot as free is made now, so that removal never fails.
            self.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let slots = self.slots.len() + 1;
            self.free.try_reserve(slots).map_err(|_| Errno::ENOMEM)?;
            self.free.push(Slot(self.slots.len() as u32));
            self.slots.push(None);
        }
        self.free.last().copied().ok_or(Errno::ENOMEM)
    }

    fn remove(&mut self, slot: Slot) -> Option<Arc<Item>> {
        let item = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.by_key.remove(&item.key);
        self.free.push(slot);
        Some(item)
    }
}

/// What a set and its members share.
pub struct Set {
    members: SpinLock<Members>,
    ready: ReadyList,
    /// Held by whoever looks at what is ready, and by whoever changes members.
    scan: Mutex<()>,
    /// Tasks in `epoll_wait(2)`.
    sleepers: WaitQueue,
    /// How many they are, or are about to be.
    sleeping: AtomicUsize,
    /// Those who watch the set as a file.
    watchers: WaitQueue,
    watched: AtomicBool,
    /// Members of other sets that this set is.
    pub(super) parents: SpinLock<Vec<Weak<Item>>>,
}

impl Set {
    /// Notes that a member may be ready. Any context.
    fn note(&self, slot: Slot) {
        if self.ready.add(slot) {
            self.sleepers.wake_one();
        }
        if self.watched.load(Ordering::Acquire) {
            self.watchers.wake_all();
        }
    }

    fn member(&self, slot: Slot) -> Option<(Arc<Item>, Arc<OpenFile>)> {
        let item = self.members.lock().get(slot)?.clone();
        let file = item.file.upgrade()?;
        Some((item, file))
    }

    /// Calls `visit` for each listed member, which is listed no more unless `visit` leaves it in its second argument; says
    /// whether some are listed in the end.
    #[inline(always)]
    fn go_through(&self, mut visit: impl FnMut(Slot, &mut Option<Slot>) -> ControlFlow<()>) -> bool {
        let _scan = self.scan.lock();
        let mut again = None;
        if let Some((mut slot, listed)) = self.ready.begin() {
            for left in (0..listed).rev() {
                if visit(slot, &mut again).is_break() || left == 0 {
                    break;
                }
                let Some(next) = self.ready.next(again.take()) else { break };
                slot = next;
            }
        }
        self.ready.end(again)
    }

    /// Hands what is there of a member to `put`; `again` is its slot if it stays listed.
    #[inline(always)]
    fn report(
        &self,
        slot: Slot,
        again: &mut Option<Slot>,
        put: impl FnOnce(&Event) -> KResult<()>,
    ) -> KResult<()> {
        let Some((item, file)) = self.member(slot) else { return Ok(()) };
        let events = item.ready_events(&file);
        if events == 0 {
            return Ok(());
        }
        if let Err(error) = put(&Event { events, data: item.data.load(Ordering::Relaxed) }) {
            self.ready.put_back(slot);
            return Err(error);
        }
        let manner = item.interest();
        if manner & ONE_SHOT != 0 {
            item.interest.store(manner & MANNER, Ordering::Release);
        } else if manner & EDGE == 0 {
            *again = Some(slot);
        }
        Ok(())
    }

    /// Whether somebody sleeps, or is about to, who may not have seen what the caller has listed: either this finds the
    /// sleeper counted, or the sleeper, who is counted before the last look, finds the list filled.
    fn has_sleepers(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) > 0
    }

    /// The files that are sets themselves.
    pub(super) fn inner_sets(&self) -> Vec<Arc<OpenFile>> {
        let members = self.members.lock();
        let inner = members.slots.iter().flatten().filter(|item| item.is_set);
        inner.filter_map(|item| item.file.upgrade()).collect()
    }
}

/// A set of files to wait for.
pub struct Epoll {
    pub(super) set: Arc<Set>,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Self {
        Self {
            set: Arc::new(Set {
                members: SpinLock::new(Members::default()),
                ready: ReadyList::new(),
                scan: Mutex::new(()),
                sleepers: WaitQueue::new(),
                sleeping: AtomicUsize::new(0),
                watchers: WaitQueue::new(),
                watched: AtomicBool::new(false),
                parents: SpinLock::new(Vec::new()),
            }),
        }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// EEXIST, ENOMEM.
    pub fn add(&self, file: &Arc<OpenFile>, fd: Fd, event: Event) -> KResult<()> {
        let set = &self.set;
        let key = Key::new(file, fd);
        let interest = event.events | PollEvents::ALWAYS.bits();
        let inner = file.ops_as::<Self>();
        let _scan = set.scan.lock();
        let item = {
            let mut members = set.members.lock();
            if members.by_key.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            let slot = members.free_slot()?;
            set.ready.make_room(members.slots.len())?;
            let item = Arc::new(Item {
                set: set.clone(),
                slot,
                key,
                file: Arc::downgrade(file),
                is_set: inner.is_some(),
                entered_for: AtomicU32::new(interest),
                interest: AtomicU32::new(interest),
                data: AtomicU64::new(event.data),
            });
            members.free.pop();
            members.by_key.insert(key, slot);
            members.slots[slot.0 as usize] = Some(item.clone());
            item
        };
        if let Some(inner) = inner {
            let mut parents = inner.set.parents.lock();
            parents.retain(|parent| parent.strong_count() > 0);
            parents.push(Arc::downgrade(&item));
        }
        let watcher: Weak<Item> = Arc::downgrade(&item);
        file.add_close_watcher(watcher);
        if let Err(error) = item.enter_queues(file, interest) {
            set.members.lock().remove(item.slot);
            return Err(error);
        }
        if item.ready_events(file) != 0 {
            set.note(item.slot);
        }
        Ok(())
    }

    /// Changes what a file is watched for.
    ///
    /// # Errors
    /// ENOENT; EINVAL for a member that was added as [`EXCLUSIVE`]; ENOMEM, and then nothing has changed.
    pub fn modify(&self, file: &Arc<OpenFile>, fd: Fd, event: Event) -> KResult<()> {
        let _scan = self.set.scan.lock();
        let item = self.set.members.lock().find(Key::new(file, fd)).cloned().ok_or(Errno::ENOENT)?;
        let before = item.interest();
        if before & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let interest = event.events | PollEvents::ALWAYS.bits();
        if (item.entered_for.load(Ordering::Relaxed) ^ interest) & !MANNER != 0 {
            // The new ones first: that may fail, and the rest does not.
            item.enter_queues(file, interest)?;
            item.leave_queues(file);
            item.entered_for.store(interest, Ordering::Relaxed);
        }
        item.data.store(event.data, Ordering::Relaxed);
        item.interest.store(interest, Ordering::SeqCst);
        if item.ready_events(file) != 0 {
            self.set.note(item.slot);
        }
        Ok(())
    }

    /// Takes a file out.
    ///
    /// # Errors
    /// ENOENT.
    pub fn remove(&self, file: &Arc<OpenFile>, fd: Fd) -> KResult<()> {
        let _scan = self.set.scan.lock();
        let item = {
            let mut members = self.set.members.lock();
            let slot = members.by_key.get(&Key::new(file, fd)).copied();
            slot.and_then(|slot| members.remove(slot)).ok_or(Errno::ENOENT)?
        };
        item.leave_queues(file);
        Ok(())
    }

    /// Writes up to `room` events to the user's array, waiting until `deadline` for the first; returns how many.
    ///
    /// # Errors
    /// EINTR, EFAULT.
    pub fn wait(&self, to: UserAddr, room: usize, timeout: Timeout) -> KResult<usize> {
        loop {
            if !self.set.ready.is_empty() {
                let count = self.collect(room, |index, event| {
                    to.offset((index * size_of::<Event>()) as u64).write(event)
                })?;
                if count > 0 {
                    return Ok(count);
                }
            }
            let deadline = match timeout {
                Timeout::Never => None,
                Timeout::AtOnce => return Ok(0),
                Timeout::At(deadline) => Some(deadline),
            };
            let some = || (!self.set.ready.is_empty()).then_some(());
            self.set.sleeping.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let waited = self.set.sleepers.wait_until(deadline, some);
            self.set.sleeping.fetch_sub(1, Ordering::Relaxed);
            match waited {
                Ok(Some(())) => {}
                Ok(None) => return Ok(0),
                // Never restarted, whatever the handler's flags say.
                Err(_) => return Err(Errno::EINTR),
            }
        }
    }

    /// Hands up to `room` events that are there to `put(index, event)`; returns how many.
    pub(super) fn collect(
        &self,
        room: usize,
        mut put: impl FnMut(usize, &Event) -> KResult<()>,
    ) -> KResult<usize> {
        let set = &*self.set;
        let mut count = 0;
        let mut result = Ok(());
        let left = set.go_through(|slot, again| {
            result = set.report(slot, again, |event| {
                put(count, event)?;
                count += 1;
                Ok(())
            });
            if count == room || result.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if left && set.has_sleepers() {
            // Others may want what is left, or what stays ready.
            set.sleepers.wake_one();
        }
        if count == 0 { result.map(|()| 0) } else { Ok(count) }
    }

    /// Whether a member is ready. Members that turn out not to be are listed no more.
    fn has_ready(&self) -> bool {
        let set = &*self.set;
        let mut found = false;
        if !set.ready.is_empty() {
            set.go_through(|slot, _| {
                found = set.member(slot).is_some_and(|(item, file)| item.ready_events(&file) != 0);
                if !found {
                    return ControlFlow::Continue(());
                }
                set.ready.put_back(slot);
                ControlFlow::Break(())
            });
        }
        found
    }
}

impl FileOps for Epoll {
    fn poll(&self) -> PollEvents {
        if self.has_ready() { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        self.set.watched.store(true, Ordering::SeqCst);
        visit(&self.set.watchers);
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn describe(&self, out: &mut dyn core::fmt::Write) {
        let members = self.set.members.lock();
        for item in members.slots.iter().flatten() {
            let (fd, interest) = (item.key.fd.0, item.interest());
            // The text ends where there is no more room for it.
            let _full = writeln!(
                out,
                "tfd: {fd:8} events: {interest:8x} data: {:16x}",
                item.data.load(Ordering::Relaxed)
            );
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let members = core::mem::take(&mut *self.set.members.lock());
        for item in members.slots.iter().flatten() {
            if let Some(file) = item.file.upgrade() {
                item.leave_queues(&file);
            }
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timeout {
    /// Not at all.
    AtOnce,
    /// Until this time.
    At(Nanoseconds),
    /// For ever.
    Never,
}
