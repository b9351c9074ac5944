//! What others know of a socket: its queue, its name, its state.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};

use super::address::Name;
use super::message::{Message, Sender};
use super::rights::Rights;
use crate::errno::{Errno, KResult};
use crate::sync::{Mutex, Once, SpinLock, WaitQueue};

/// How a socket carries data, by Linux's numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SocketType {
    /// A stream of bytes.
    Stream = 1,
    /// Messages, each to whom it says.
    Datagram = 2,
    /// Messages to the one at the other end.
    SeqPacket = 5,
}

impl SocketType {
    /// Whether it has one other end at most, which stays the same.
    #[inline]
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Datagram)
    }
}

/// What became of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Nothing yet.
    Fresh = 0,
    /// Waits for connections.
    Listening = 1,
    /// Has another end.
    Connected = 2,
    /// Nobody uses it any more.
    Closed = 3,
}

bitflags::bitflags! {
    /// Directions that are shut.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Shut: u8 {
        /// Nothing comes in.
        const RECEIVE = 1;
        /// Nothing goes out.
        const SEND = 2;
    }
}

/// Messages a datagram socket keeps from those it is not connected to (`net.unix.max_dgram_qlen`).
const MAX_DATAGRAMS: usize = 10;
/// What a socket may have on its way, in bytes, unless told otherwise (`net.core.wmem_default`).
pub const DEFAULT_BUFFER: usize = 212_992;

/// A connection that waits to be accepted.
pub struct Arrival {
    /// The end of whoever accepts.
    pub endpoint: Arc<Endpoint>,
    /// The other one.
    pub client: Arc<Endpoint>,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    arrivals: VecDeque<Arrival>,
    /// Connections that may wait beside one.
    backlog: usize,
    /// Senders that found the queue full.
    blocked: Vec<Weak<Endpoint>>,
}

/// One end of a connection, or a socket without any.
pub struct Endpoint {
    /// How it carries data.
    pub kind: SocketType,
    name: Once<Arc<Name>>,
    inbox: SpinLock<Inbox>,
    /// Messages and arrivals, those a reader has in hand included.
    unread: AtomicUsize,
    state: AtomicU8,
    shut: AtomicU8,
    error: AtomicI32,
    /// Wants to know who sends (`SO_PASSCRED`).
    wants_sender: AtomicBool,
    /// What it has sent and nobody taken, in bytes.
    on_the_way: AtomicUsize,
    send_buffer: AtomicUsize,
    /// Address of the endpoint it is connected to, to tell that from others; 0 for none. For datagrams.
    connected_to: AtomicUsize,
    /// Held by whoever takes messages, so that they come out in order.
    pub reader: Mutex<()>,
    /// Who is at the other end (`SO_PEERCRED`).
    pub peer_owner: SpinLock<Option<Sender>>,
    /// Woken when something has come in, or nothing will.
    pub can_read: WaitQueue,
    /// Woken when something may go out, or nothing will.
    pub can_write: WaitQueue,
}

impl Endpoint {
    /// A fresh one.
    pub fn new(kind: SocketType) -> Arc<Self> {
        Arc::new(Self {
            kind,
            name: Once::new(),
            inbox: SpinLock::new(Inbox::default()),
            unread: AtomicUsize::new(0),
            state: AtomicU8::new(State::Fresh as u8),
            shut: AtomicU8::new(0),
            error: AtomicI32::new(0),
            wants_sender: AtomicBool::new(false),
            on_the_way: AtomicUsize::new(0),
            send_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            connected_to: AtomicUsize::new(0),
            reader: Mutex::new(()),
            peer_owner: SpinLock::new(None),
            can_read: WaitQueue::new(),
            can_write: WaitQueue::new(),
        })
    }

    /// Its name, once it has one.
    #[inline]
    pub fn name(&self) -> Option<&Arc<Name>> {
        self.name.get()
    }

    /// Gives it a name for good; says whether it had none.
    pub fn set_name(&self, name: Arc<Name>) -> bool {
        let mut fresh = false;
        self.name.call_once(|| {
            fresh = true;
            name
        });
        fresh
    }

    /// What became of it.
    #[inline]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Fresh,
            1 => State::Listening,
            2 => State::Connected,
            _ => State::Closed,
        }
    }

    /// Goes from one state to another; says whether it was in the first.
    pub fn change_state(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The directions that are shut.
    #[inline]
    pub fn shut(&self) -> Shut {
        Shut::from_bits_truncate(self.shut.load(Ordering::Acquire))
    }

    /// Shuts directions and tells whoever waits.
    pub fn add_shut(&self, directions: Shut) {
        {
            // With the lock held, so that nothing comes in behind it.
            let _inbox = self.inbox.lock();
            self.shut.fetch_or(directions.bits(), Ordering::AcqRel);
        }
        self.can_read.wake_all();
        self.can_write.wake_all();
    }

    /// Notes an error for the next who asks.
    pub fn set_error(&self, error: Errno) {
        self.error.store(error.number(), Ordering::Release);
    }

    /// Whether there is an error.
    #[inline]
    pub fn has_error(&self) -> bool {
        self.error.load(Ordering::Acquire) != 0
    }

    /// Takes the error's number; 0 for none.
    pub fn take_error_number(&self) -> i32 {
        self.error.swap(0, Ordering::AcqRel)
    }

    /// Fails with the error, if there is one. The only errors noted are broken connections.
    #[inline]
    pub fn check_error(&self) -> KResult<()> {
        if self.has_error() && self.take_error_number() != 0 { Err(Errno::ECONNRESET) } else { Ok(()) }
    }

    /// Whether it wants to know who sends.
    #[inline]
    pub fn wants_sender(&self) -> bool {
        self.wants_sender.load(Ordering::Relaxed)
    }

    /// Sets whether it wants to know who sends.
    pub fn set_wants_sender(&self, wants: bool) {
        self.wants_sender.store(wants, Ordering::Relaxed);
    }

    /// Bytes it may have on their way.
    pub fn send_buffer(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed)
    }

    /// Sets how many bytes it may have on their way.
    pub fn set_send_buffer(&self, bytes: usize) {
        self.send_buffer.store(bytes, Ordering::Relaxed);
        self.can_write.wake_all();
    }

    /// Bytes it has on their way, with what they cost beside.
    pub fn on_the_way(&self) -> usize {
        self.on_the_way.load(Ordering::Acquire)
    }

    /// Whether it may send one more message.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.on_the_way() < self.send_buffer()
    }

    /// Whether it may send a good deal: what `poll(2)` takes for writable.
    #[inline]
    pub fn has_much_room(&self) -> bool {
        self.on_the_way() * 4 <= self.send_buffer()
    }

    /// A message it sent has been taken.
    #[inline]
    fn message_taken(&self, cost: usize) {
        let before = self.on_the_way.fetch_sub(cost, Ordering::AcqRel);
        let threshold = self.send_buffer() / 4;
        if before > threshold && before - cost <= threshold {
            self.can_write.wake_all();
        }
    }

    /// The endpoint a datagram socket is connected to, by address.
    fn identity(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Notes whom a datagram socket is connected to.
    pub fn set_connected_to(&self, other: Option<&Self>) {
        self.connected_to.store(other.map_or(0, Self::identity), Ordering::Release);
    }

    /// Whether it takes datagrams from `sender`: whether it is connected to that or to none.
    pub fn accepts_from(&self, sender: &Self) -> bool {
        let to = self.connected_to.load(Ordering::Acquire);
        to == 0 || to == sender.identity()
    }

    /// Whether it is connected to `other`.
    pub fn is_connected_to(&self, other: &Self) -> bool {
        self.connected_to.load(Ordering::Acquire) == other.identity()
    }

    /// Whether there is something to read or accept.
    #[inline]
    pub fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire) != 0
    }

    /// Whether a read would not wait.
    #[inline]
    pub fn may_read(&self) -> bool {
        self.has_unread() || self.has_error() || self.shut().contains(Shut::RECEIVE)
    }

    /// Puts a message of `sender`'s in the queue.
    ///
    /// # Errors
    /// EPIPE if nothing comes in any more, ECONNREFUSED if nobody uses a socket for datagrams any more, ENOBUFS.
    #[inline]
    pub fn deliver(&self, message: Message, sender: &Self) -> KResult<()> {
        let cost = message.cost();
        {
            // A message that is refused is dropped after the lock.
            let mut inbox = self.inbox.lock();
            if self.state() == State::Closed && !self.kind.is_connected() {
                return Err(Errno::ECONNREFUSED);
            }
            if self.shut().contains(Shut::RECEIVE) {
                return Err(Errno::EPIPE);
            }
            inbox.messages.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
            sender.on_the_way.fetch_add(cost, Ordering::AcqRel);
            self.unread.fetch_add(1, Ordering::AcqRel);
            inbox.messages.push_back(message);
        }
        self.can_read.wake_all();
        Ok(())
    }

    /// Whether a datagram of `sender`'s finds a place. If not, `sender` is woken when that changes.
    pub fn admits(&self, sender: &Arc<Self>) -> bool {
        if self.kind.is_connected()
            || core::ptr::eq(self, Arc::as_ptr(sender))
            || self.is_connected_to(sender)
        {
            return true;
        }
        let mut inbox = self.inbox.lock();
        let full = inbox.messages.len() > MAX_DATAGRAMS
            && self.state() != State::Closed
            && !self.shut().contains(Shut::RECEIVE);
        if full && !inbox.blocked.iter().any(|other| core::ptr::eq(other.as_ptr(), Arc::as_ptr(sender))) {
            inbox.blocked.push(Arc::downgrade(sender));
        }
        !full
    }

    /// Takes the first message in hand. Context: [`Self::reader`] is held.
    #[inline]
    pub fn take_in_hand(&self) -> Option<Message> {
        let mut message = self.inbox.lock().messages.pop_front()?;
        if let Some(ancillary) = &mut message.ancillary
            && let Some(rights) = &mut ancillary.rights
        {
            rights.leave();
        }
        Some(message)
    }

    /// Puts a message in hand back to the front. Context: [`Self::reader`] is held.
    #[inline]
    pub fn put_back(&self, mut message: Message) {
        if let Some(ancillary) = &mut message.ancillary
            && let Some(rights) = &mut ancillary.rights
        {
            rights.enter_again();
        }
        self.inbox.lock().messages.push_front(message);
    }

    /// Lets go of a message in hand, of which `cost` was known before; `connected` is the other end, if it came from
    /// there. Context: [`Self::reader`] is held.
    #[inline]
    pub fn finish(&self, message: Message, connected: Option<&Self>) {
        self.unread.fetch_sub(1, Ordering::AcqRel);
        let cost = message.cost();
        if let Some(sender) = message.from.as_deref().or(connected) {
            sender.message_taken(cost);
        }
        if !self.kind.is_connected() {
            self.wake_blocked();
        }
    }

    fn wake_blocked(&self) {
        let blocked = core::mem::take(&mut self.inbox.lock().blocked);
        for sender in blocked.iter().filter_map(Weak::upgrade) {
            sender.can_write.wake_all();
        }
    }

    /// Drops all messages; says whether there were any. Context: a task, no locks held.
    pub fn purge(&self) -> bool {
        let _reader = self.reader.lock();
        let mut any = false;
        while let Some(message) = self.take_in_hand() {
            self.finish(message, None);
            any = true;
        }
        any
    }

    /// Bytes to be read: of all messages of a stream or sequence, of the first datagram.
    pub fn readable_bytes(&self) -> usize {
        let inbox = self.inbox.lock();
        let mut lengths = inbox.messages.iter().map(Message::remaining);
        if self.kind.is_connected() { lengths.sum() } else { lengths.next().unwrap_or(0) }
    }

    /// Sets how many connections may wait beside one.
    pub fn set_backlog(&self, backlog: usize) {
        self.inbox.lock().backlog = backlog;
        self.can_write.wake_all();
    }

    /// Whether one more connection may wait, or none ever again.
    pub fn admits_arrival(&self) -> bool {
        let inbox = self.inbox.lock();
        inbox.arrivals.len() <= inbox.backlog
            || self.state() != State::Listening
            || self.shut().contains(Shut::RECEIVE)
    }

    /// Has a connection wait to be accepted, if it has a place, and does `commit` at that moment.
    ///
    /// # Errors
    /// ECONNREFUSED if it does not listen, EAGAIN if too many wait, ENOMEM, and those of `commit`.
    pub fn arrive(&self, arrival: Arrival, commit: impl FnOnce() -> KResult<()>) -> KResult<()> {
        {
            let mut inbox = self.inbox.lock();
            if self.state() != State::Listening || self.shut().contains(Shut::RECEIVE) {
                return Err(Errno::ECONNREFUSED);
            }
            if inbox.arrivals.len() > inbox.backlog {
                return Err(Errno::EAGAIN);
            }
            inbox.arrivals.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            commit()?;
            self.unread.fetch_add(1, Ordering::AcqRel);
            inbox.arrivals.push_back(arrival);
        }
        self.can_read.wake_all();
        Ok(())
    }

    /// Takes the connection that has waited longest.
    pub fn take_arrival(&self) -> Option<Arrival> {
        let arrival = self.inbox.lock().arrivals.pop_front()?;
        self.unread.fetch_sub(1, Ordering::AcqRel);
        self.can_write.wake_all();
        Some(arrival)
    }

    /// Nobody uses it any more: `peer`, the other end, is told, what lies in the queue is dropped. Context: a task, no
    /// locks held.
    pub fn close(&self, peer: Option<&Self>) {
        let inbox = {
            let mut inbox = self.inbox.lock();
            self.state.store(State::Closed as u8, Ordering::Release);
            self.shut.fetch_or(Shut::all().bits(), Ordering::AcqRel);
            core::mem::take(&mut *inbox)
        };
        if let Some(peer) = peer.filter(|_| self.kind.is_connected()) {
            if !inbox.messages.is_empty() {
                peer.set_error(Errno::ECONNRESET);
            }
            peer.add_shut(Shut::all());
        }
        for message in inbox.messages {
            if let Some(sender) = message.from.as_deref().or(peer) {
                sender.message_taken(message.cost());
            }
        }
        for arrival in inbox.arrivals {
            arrival.client.set_error(Errno::ECONNRESET);
            arrival.endpoint.close(Some(&arrival.client));
        }
        for sender in inbox.blocked.iter().filter_map(Weak::upgrade) {
            sender.can_write.wake_all();
        }
        self.can_read.wake_all();
        self.can_write.wake_all();
    }

    /// Visits the files that go with the messages in its queue, and in those of connections that wait.
    pub fn each_rights(&self, visit: &mut dyn FnMut(&Rights)) {
        let inbox = self.inbox.lock();
        inbox.messages.iter().filter_map(Message::rights).for_each(&mut *visit);
        for arrival in &inbox.arrivals {
            arrival.endpoint.each_rights(visit);
        }
    }

    /// Takes out the messages that files go with, to be dropped by the caller with no lock held.
    pub fn take_messages_with_rights(&self) -> Vec<Message> {
        let mut taken = Vec::new();
        let mut inbox = self.inbox.lock();
        for _ in 0..inbox.messages.len() {
            match inbox.messages.pop_front() {
                Some(message) if message.rights().is_some() => {
                    self.unread.fetch_sub(1, Ordering::AcqRel);
                    taken.push(message);
                }
                Some(message) => inbox.messages.push_back(message),
                None => break,
            }
        }
        for arrival in &inbox.arrivals {
            taken.extend(arrival.endpoint.take_messages_with_rights());
        }
        taken
    }
}
