//! Pipes, with and without a name (`pipe(7)`, `fifo(7)`).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use platform::PAGE_SIZE;

use super::io::{IoDst, IoSrc};
use super::poll::PollEvents;
use crate::errno::{Errno, KResult};
use crate::mm::{Page, frames};
use crate::sync::{Mutex, WaitQueue};

/// Writes of up to this many bytes are not mixed with others (`PIPE_BUF`).
pub const ATOMIC_WRITE: usize = 4096;
/// What a pipe holds unless told otherwise.
pub const DEFAULT_CAPACITY: usize = 65536;
/// What the unprivileged may make it hold (`fs.pipe-max-size`).
pub const MAX_CAPACITY: usize = 1 << 20;

const PAGE: usize = PAGE_SIZE as usize;

/// The bytes in a pipe: pages used as a ring.
struct Ring {
    pages: Vec<Option<Page>>,
    /// Place of the first byte, in bytes from the start of the ring's first page; below the ring's size.
    first: usize,
    /// A page to spare, so that a pipe in use does not allocate.
    spare: Option<Page>,
}

/// A pipe.
pub struct Pipe {
    ring: Mutex<Ring>,
    /// Bytes in it. Changed with the ring locked.
    used: AtomicUsize,
    capacity: AtomicUsize,
    /// Open ends.
    readers: AtomicU32,
    writers: AtomicU32,
    /// Ends ever opened, for those who wait for the other one.
    reads_opened: AtomicU32,
    writes_opened: AtomicU32,
    can_read: WaitQueue,
    can_write: WaitQueue,
    /// Somebody watches it by `poll(2)` or `epoll(7)`, and may want to hear of every write.
    watched: AtomicBool,
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipe {
    /// An empty pipe with no ends.
    pub fn new() -> Self {
        Self {
            ring: Mutex::new(Ring { pages: Vec::new(), first: 0, spare: None }),
            used: AtomicUsize::new(0),
            capacity: AtomicUsize::new(DEFAULT_CAPACITY),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reads_opened: AtomicU32::new(0),
            writes_opened: AtomicU32::new(0),
            can_read: WaitQueue::new(),
            can_write: WaitQueue::new(),
            watched: AtomicBool::new(false),
        }
    }

    /// Bytes in it.
    #[inline]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Bytes it holds.
    pub fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    fn room(&self) -> usize {
        self.capacity().saturating_sub(self.used())
    }

    /// Counts ends that are opened.
    pub fn open(&self, read: bool, write: bool) {
        if read {
            self.readers.fetch_add(1, Ordering::AcqRel);
            self.reads_opened.fetch_add(1, Ordering::AcqRel);
        }
        if write {
            self.writers.fetch_add(1, Ordering::AcqRel);
            self.writes_opened.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Counts ends that are closed.
    pub fn close(&self, read: bool, write: bool) {
        let last_reader = read && self.readers.fetch_sub(1, Ordering::AcqRel) == 1;
        let last_writer = write && self.writers.fetch_sub(1, Ordering::AcqRel) == 1;
        let (readers, writers) = (self.readers.load(Ordering::Acquire), self.writers.load(Ordering::Acquire));
        if readers == 0 && writers == 0 {
            // A pipe with a name forgets what nobody read.
            let mut ring = self.ring.lock();
            if self.readers.load(Ordering::Acquire) == 0 && self.writers.load(Ordering::Acquire) == 0 {
                *ring = Ring { pages: Vec::new(), first: 0, spare: None };
                self.used.store(0, Ordering::Release);
            }
            return;
        }
        if last_writer {
            self.can_read.wake_all();
        }
        if last_reader {
            self.can_write.wake_all();
        }
    }

    /// Opens ends of a pipe with a name: waits for somebody at the other end unless told not to (`fifo(7)`).
    ///
    /// # Errors
    /// ENXIO to open it for writing without waiting while nobody reads; ERESTARTSYS.
    pub fn open_named(&self, read: bool, write: bool, nonblock: bool) -> KResult<()> {
        if write && !read && nonblock && self.readers.load(Ordering::Acquire) == 0 {
            return Err(Errno::ENXIO);
        }
        let seen_reads = self.reads_opened.load(Ordering::Acquire);
        let seen_writes = self.writes_opened.load(Ordering::Acquire);
        let had_readers = self.readers.load(Ordering::Acquire) > 0;
        let had_writers = self.writers.load(Ordering::Acquire) > 0;
        self.open(read, write);
        if read {
            self.can_write.wake_all();
        }
        if write {
            self.can_read.wake_all();
        }
        let waited = if read && !write && !nonblock && !had_writers {
            let came = || (self.writes_opened.load(Ordering::Acquire) != seen_writes).then_some(());
            self.can_read.wait(came)
        } else if write && !read && !nonblock && !had_readers {
            let came = || (self.reads_opened.load(Ordering::Acquire) != seen_reads).then_some(());
            self.can_write.wait(came)
        } else {
            Ok(())
        };
        waited.map_err(|interrupted| {
            self.close(read, write);
            interrupted.into()
        })
    }

    /// Reads what there is; waits only if there is nothing.
    ///
    /// # Errors
    /// EAGAIN, EFAULT, ERESTARTSYS.
    pub fn read(&self, to: &mut IoDst<'_>, nonblock: bool) -> KResult<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        loop {
            {
                let mut ring = self.ring.lock();
                let used = self.used();
                if used > 0 {
                    let moved = ring.read(used, to);
                    let done = *moved.as_ref().unwrap_or(&0);
                    let left = used - done;
                    if left == 0 {
                        ring.rewind();
                    }
                    self.used.store(left, Ordering::Release);
                    drop(ring);
                    let capacity = self.capacity();
                    let had_room = capacity.saturating_sub(used) >= ATOMIC_WRITE;
                    let has_room = capacity.saturating_sub(left) >= ATOMIC_WRITE;
                    if done > 0 && ((!had_room && has_room) || self.watched.load(Ordering::Relaxed)) {
                        self.can_write.wake_all();
                    }
                    return moved;
                }
                if self.writers.load(Ordering::Acquire) == 0 {
                    return Ok(0);
                }
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let ready = || (self.used() > 0 || self.writers.load(Ordering::Acquire) == 0).then_some(());
            self.can_read.wait(ready)?;
        }
    }

    /// Writes everything, waiting for room as needed; up to [`ATOMIC_WRITE`] bytes in one piece.
    ///
    /// # Errors
    /// EPIPE (and SIGPIPE) if nobody reads, EAGAIN, EFAULT, ENOMEM, ERESTARTSYS; each only if nothing was written.
    pub fn write(&self, from: &mut IoSrc<'_>, nonblock: bool) -> KResult<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let mut done = 0;
        let result = self.write_all(from, nonblock, &mut done);
        match result {
            Err(Errno::EPIPE) => {
                crate::signal::send_to_current(crate::signal::SIGPIPE);
                if done > 0 { Ok(done) } else { Err(Errno::EPIPE) }
            }
            Err(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    fn write_all(&self, from: &mut IoSrc<'_>, nonblock: bool, done: &mut usize) -> KResult<()> {
        // A write that must stay in one piece needs room for all of it.
        let wanted = if from.remaining() <= ATOMIC_WRITE { from.remaining() } else { 1 };
        loop {
            {
                let mut ring = self.ring.lock();
                if self.readers.load(Ordering::Acquire) == 0 {
                    return Err(Errno::EPIPE);
                }
                let used = self.used();
                let capacity = self.capacity();
                let room = capacity.saturating_sub(used);
                if room >= wanted {
                    let moved = ring.write(used, capacity, room, from);
                    let count = *moved.as_ref().unwrap_or(&0);
                    self.used.store(used + count, Ordering::Release);
                    *done += count;
                    drop(ring);
                    if count > 0 && (used == 0 || self.watched.load(Ordering::Relaxed)) {
                        self.can_read.wake_all();
                    }
                    moved?;
                    if from.remaining() == 0 || count < room {
                        return Ok(());
                    }
                }
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            let ready = || (self.room() >= wanted || self.readers.load(Ordering::Acquire) == 0).then_some(());
            self.can_write.wait(ready)?;
        }
    }

    /// What its ends could do now without waiting.
    pub fn poll(&self, read: bool, write: bool) -> PollEvents {
        let mut events = PollEvents::empty();
        if read {
            // In this order, so that nobody hears of the end and not of what came before.
            if self.writers.load(Ordering::Acquire) == 0 && self.writes_opened.load(Ordering::Acquire) > 0 {
                events |= PollEvents::HUP;
            }
            if self.used() > 0 {
                events |= PollEvents::READABLE;
            }
        }
        if write {
            if self.room() >= ATOMIC_WRITE {
                events |= PollEvents::WRITABLE;
            }
            if self.readers.load(Ordering::Acquire) == 0 {
                events |= PollEvents::ERR;
            }
        }
        events
    }

    /// The queues of its ends.
    pub fn queues(&self, read: bool, write: bool, visit: &mut dyn FnMut(&WaitQueue)) {
        self.watched.store(true, Ordering::Relaxed);
        if read {
            visit(&self.can_read);
        }
        if write {
            visit(&self.can_write);
        }
    }

    /// Makes it hold at least `bytes` (`F_SETPIPE_SZ`); returns how many it holds then.
    ///
    /// # Errors
    /// EBUSY if more is in it, EPERM beyond [`MAX_CAPACITY`] for the unprivileged, EINVAL.
    pub fn set_capacity(&self, bytes: usize, privileged: bool) -> KResult<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let capacity = bytes.next_multiple_of(PAGE).max(PAGE).next_power_of_two();
        if capacity > MAX_CAPACITY && !privileged {
            return Err(Errno::EPERM);
        }
        let mut ring = self.ring.lock();
        let used = self.used();
        if used > capacity {
            return Err(Errno::EBUSY);
        }
        ring.resize(used, self.capacity(), capacity)?;
        self.capacity.store(capacity, Ordering::Relaxed);
        drop(ring);
        self.can_write.wake_all();
        Ok(capacity)
    }
}

impl Ring {
    fn read(&mut self, used: usize, to: &mut IoDst<'_>) -> KResult<usize> {
        let size = self.pages.len() * PAGE;
        let mut done = 0;
        while done < used && to.remaining() > 0 {
            let in_page = self.first % PAGE;
            let part = (PAGE - in_page).min(used - done).min(to.remaining());
            let slot = self.first / PAGE;
            let Some(page) = &self.pages[slot] else { unreachable!("a pipe's bytes lie in no page") };
            // A piece that does not arrive whole stays in the pipe, as on Linux.
            match page.with_bytes(in_page, part, |bytes| to.write(bytes)) {
                Ok(moved) if moved == part => {}
                _ if done == 0 => return Err(Errno::EFAULT),
                _ => break,
            }
            done += part;
            self.first += part;
            if self.first.is_multiple_of(PAGE) {
                // A full ring's last bytes may lie at the start of the page its first bytes came from.
                if used - done <= size - PAGE {
                    let page = self.pages[slot].take();
                    self.spare = self.spare.take().or(page);
                }
                if self.first == size {
                    self.first = 0;
                }
            }
        }
        Ok(done)
    }

    fn write(&mut self, used: usize, capacity: usize, room: usize, from: &mut IoSrc<'_>) -> KResult<usize> {
        let slots = capacity / PAGE;
        if self.pages.is_empty() {
            self.pages.try_reserve_exact(slots).map_err(|_| Errno::ENOMEM)?;
            self.pages.resize(slots, None);
        }
        let mut done = 0;
        while done < room && from.remaining() > 0 {
            let at = (self.first + used + done) % capacity;
            let in_page = at % PAGE;
            let part = (PAGE - in_page).min(room - done).min(from.remaining());
            let moved = self
                .page(at / PAGE)
                .and_then(|page| page.with_bytes_mut(in_page, part, |bytes| from.read(bytes)));
            match moved {
                Ok(moved) if moved == part => done += part,
                Ok(_) if done == 0 => return Err(Errno::EFAULT),
                Err(error) if done == 0 => return Err(error),
                _ => break,
            }
        }
        Ok(done)
    }

    fn page(&mut self, slot: usize) -> KResult<&Page> {
        let entry = &mut self.pages[slot];
        if entry.is_none() {
            *entry = match self.spare.take() {
                Some(page) => Some(page),
                None => Some(Page::from_held(frames::allocate_user().ok_or(Errno::ENOMEM)?)),
            };
        }
        entry.as_ref().ok_or(Errno::ENOMEM)
    }

    /// Nothing is in it: starts over at the start of a page, the one used last if it is still there.
    fn rewind(&mut self) {
        self.first -= self.first % PAGE;
    }

    /// Arranges the `used` bytes for another capacity.
    fn resize(&mut self, used: usize, old: usize, new: usize) -> KResult<()> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let mut pages = Vec::new();
        pages.try_reserve_exact(new / PAGE).map_err(|_| Errno::ENOMEM)?;
        pages.resize(new / PAGE, None);
        // The ring may wrap within one page, so the bytes are copied rather than the pages moved.
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(used).map_err(|_| Errno::ENOMEM)?;
        buffer.resize(used, 0);
        let mut done = 0;
        while done < used {
            let at = (self.first + done) % old;
            let part = (PAGE - at % PAGE).min(used - done);
            if let Some(page) = &self.pages[at / PAGE] {
                page.read(at % PAGE, &mut buffer[done..done + part]);
            }
            done += part;
        }
        let mut fresh = Self { pages, first: 0, spare: self.spare.take() };
        let moved = fresh.write(0, new, used, &mut IoSrc::kernel(&buffer))?;
        debug_assert_eq!(moved, used);
        *self = fresh;
        Ok(())
    }
}
