//! A socket as an open file.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize};

use super::endpoint::{DEFAULT_BUFFER, Endpoint, Shut, SocketType, State};
use super::message::Ancillary;
use super::{names, rights};
use crate::errno::{Errno, KResult};
use crate::fs::anonymous;
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_NONBLOCK, O_RDWR};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::mm::UserAddr;
use crate::net::waiting::{TimeLimit, Waiting};
use crate::sync::{Once, SpinLock, WaitQueue};
use crate::syscall::SysResult;

const FIONREAD: u32 = 0x541b;
const SIOCOUTQ: u32 = 0x5411;

/// A socket.
pub struct Socket {
    endpoint: Arc<Endpoint>,
    /// The other end of a stream or sequence, for good.
    connection: Once<Arc<Endpoint>>,
    /// Where datagrams go that do not say.
    destination: SpinLock<Option<Arc<Endpoint>>>,
    /// `SO_RCVTIMEO`.
    pub receive_limit: TimeLimit,
    /// `SO_SNDTIMEO`.
    pub send_limit: TimeLimit,
    /// `SO_RCVBUF`; nothing depends on it.
    pub receive_buffer: AtomicUsize,
    /// Options that are remembered for those who ask, a bit each.
    pub remembered: AtomicU32,
}

impl Socket {
    /// A socket that is connected to nothing.
    pub fn new(kind: SocketType) -> Arc<Self> {
        Self::with(Endpoint::new(kind))
    }

    fn with(endpoint: Arc<Endpoint>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            connection: Once::new(),
            destination: SpinLock::new(None),
            receive_limit: TimeLimit::none(),
            send_limit: TimeLimit::none(),
            receive_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            remembered: AtomicU32::new(0),
        })
    }

    /// One end of a connection.
    pub fn connected(endpoint: Arc<Endpoint>, peer: Arc<Endpoint>) -> Arc<Self> {
        let socket = Self::with(endpoint);
        socket.set_connection(peer);
        socket
    }

    /// As an open file.
    pub fn open(self: Arc<Self>, flags: u32) -> Arc<OpenFile> {
        anonymous::socket(self, O_RDWR | (flags & O_NONBLOCK))
    }

    /// What others know of it.
    #[inline]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// How it carries data.
    #[inline]
    pub fn kind(&self) -> SocketType {
        self.endpoint.kind
    }

    /// The other end of a stream or sequence.
    #[inline]
    pub fn connection(&self) -> Option<&Arc<Endpoint>> {
        self.connection.get()
    }

    /// Connects it for good, or until connected elsewhere if it is for datagrams.
    pub fn set_connection(&self, peer: Arc<Endpoint>) {
        if self.kind().is_connected() {
            self.connection.call_once(|| peer);
            self.endpoint.change_state(State::Fresh, State::Connected);
        } else {
            self.set_destination(Some(peer));
        }
    }

    /// Where datagrams go that do not say.
    pub fn destination(&self) -> Option<Arc<Endpoint>> {
        self.destination.lock().clone()
    }

    /// Sets where datagrams go that do not say; returns where they went.
    pub fn set_destination(&self, peer: Option<Arc<Endpoint>>) -> Option<Arc<Endpoint>> {
        self.endpoint.set_connected_to(peer.as_deref());
        core::mem::replace(&mut *self.destination.lock(), peer)
    }

    /// The other end, of whatever kind.
    pub fn peer(&self) -> Option<Arc<Endpoint>> {
        if self.kind().is_connected() { self.connection().cloned() } else { self.destination() }
    }

    /// Shuts directions (`shutdown(2)`).
    pub fn shut_down(&self, directions: Shut) {
        self.endpoint.add_shut(directions);
        if let Some(peer) = self.connection() {
            let mut mirrored = Shut::empty();
            mirrored.set(Shut::SEND, directions.contains(Shut::RECEIVE));
            mirrored.set(Shut::RECEIVE, directions.contains(Shut::SEND));
            peer.add_shut(mirrored);
        }
    }

    fn writable(&self) -> bool {
        let endpoint = &self.endpoint;
        if endpoint.state() == State::Listening || !endpoint.has_much_room() {
            return false;
        }
        self.kind().is_connected() || self.destination().is_none_or(|peer| peer.admits(endpoint))
    }
}

impl FileOps for Socket {
    #[inline]
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        Ok(self.receive(to, Waiting::of(file), 0)?.length)
    }

    #[inline]
    fn write(&self, file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        self.send(from, Waiting::of(file), 0, None, Ancillary::default())
    }

    fn poll(&self) -> PollEvents {
        let endpoint = &self.endpoint;
        let shut = endpoint.shut();
        let mut events = PollEvents::empty();
        if endpoint.has_error() {
            events |= PollEvents::ERR;
        }
        if shut == Shut::all() {
            events |= PollEvents::HUP;
        }
        if shut.contains(Shut::RECEIVE) {
            events |= PollEvents::RDHUP | PollEvents::READABLE;
        }
        if endpoint.has_unread() {
            events |= PollEvents::READABLE;
        }
        if self.kind().is_connected() && endpoint.state() == State::Fresh {
            events |= PollEvents::HUP;
        }
        if self.writable() {
            events |= PollEvents::WRITABLE | PollEvents::WRBAND;
        }
        events
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(&self.endpoint.can_read);
        visit(&self.endpoint.can_write);
    }

    fn queues_for(&self, events: PollEvents, visit: &mut dyn FnMut(&WaitQueue)) {
        let writes = PollEvents::WRITABLE | PollEvents::WRBAND;
        // What is reported in any case, errors and hang-ups, wakes both.
        if events.intersects(writes) {
            visit(&self.endpoint.can_write);
            if events.intersects(PollEvents::READABLE | PollEvents::RDHUP) {
                visit(&self.endpoint.can_read);
            }
        } else {
            visit(&self.endpoint.can_read);
        }
    }

    fn ioctl(&self, _file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        let bytes = match request {
            FIONREAD if self.endpoint.state() == State::Listening => return Err(Errno::EINVAL),
            FIONREAD => self.endpoint.readable_bytes(),
            SIOCOUTQ => self.endpoint.on_the_way(),
            _ => return Err(Errno::ENOTTY),
        };
        argument.write(&(bytes as i32))?;
        Ok(0)
    }

    fn released(&self, _file: &OpenFile) {
        names::release(&self.endpoint);
        self.endpoint.close(self.connection().map(|peer| &**peer));
        drop(self.set_destination(None));
        rights::collect();
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
