//! What is known of one TCP socket.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::net::{Ipv4Addr, SocketAddrV4};

use platform::Nanoseconds;
use smoltcp::socket::tcp;

use super::TcpId;
use crate::fs::poll::PollEvents;
use crate::net::inet::address::NOWHERE;
use crate::net::inet::engine::Connection;
use crate::net::inet::interface::Link;
use crate::net::inet::shared::{Condition, Shared};

/// States of a connection, by the numbers `/proc/net/tcp` shows (Linux include/net/tcp_states.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum State {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl From<tcp::State> for State {
    fn from(state: tcp::State) -> Self {
        match state {
            tcp::State::Closed => Self::Closed,
            tcp::State::Listen => Self::Listen,
            tcp::State::SynSent => Self::SynSent,
            tcp::State::SynReceived => Self::SynReceived,
            tcp::State::Established => Self::Established,
            tcp::State::FinWait1 => Self::FinWait1,
            tcp::State::FinWait2 => Self::FinWait2,
            tcp::State::CloseWait => Self::CloseWait,
            tcp::State::Closing => Self::Closing,
            tcp::State::LastAck => Self::LastAck,
            tcp::State::TimeWait => Self::TimeWait,
        }
    }
}

/// A socket that waits for connections.
pub struct Listener {
    /// How many may wait to be accepted.
    pub backlog: usize,
    /// Connections that are not there yet.
    pub coming: usize,
    /// Those that wait to be accepted.
    pub ready: VecDeque<TcpId>,
}

/// What programs can set.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `SO_REUSEADDR`
    pub reuse_address: bool,
    /// `SO_REUSEPORT`
    pub reuse_port: bool,
    /// `TCP_NODELAY`
    pub no_delay: bool,
    /// `SO_KEEPALIVE`
    pub keep_alive: bool,
    /// `TCP_KEEPIDLE`, in seconds.
    pub keep_idle: u32,
    /// `TCP_KEEPINTVL`, in seconds.
    pub keep_interval: u32,
    /// `TCP_KEEPCNT`
    pub keep_count: u32,
    /// `TCP_USER_TIMEOUT`, in milliseconds; 0 for the usual.
    pub user_timeout: u32,
    /// `SO_LINGER`, in seconds.
    pub linger: Option<u32>,
    /// `SO_RCVBUF`, in bytes; half of it is for data.
    pub receive_buffer: usize,
    /// `SO_SNDBUF`, in bytes; half of it is for data.
    pub send_buffer: usize,
    /// `IP_TTL`
    pub time_to_live: u8,
    /// `IP_TOS`; remembered.
    pub type_of_service: u8,
}

/// `SO_RCVBUF` and `SO_SNDBUF` of new sockets.
const BUFFER: usize = 64 << 10;

impl Default for Options {
    fn default() -> Self {
        Self {
            reuse_address: false,
            reuse_port: false,
            no_delay: false,
            keep_alive: false,
            keep_idle: 7200,
            keep_interval: 75,
            keep_count: 9,
            user_timeout: 0,
            linger: None,
            receive_buffer: BUFFER,
            send_buffer: BUFFER,
            time_to_live: 64,
            type_of_service: 0,
        }
    }
}

/// What became of an attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// There was none, or its end has been told.
    None,
    /// It goes on, or has failed and that has not been told.
    Made,
    /// The connection came about, and that has not been told. What is done with it does not depend on that.
    Succeeded,
}

/// One TCP socket.
pub struct Block {
    /// What is known of it without the stack's lock.
    pub shared: Arc<Shared>,
    /// This end; port 0 if it has none yet.
    pub local: SocketAddrV4,
    /// What `bind(2)` made of it, which is what is left of it without a connection; port 0 without that call.
    pub bound: SocketAddrV4,
    /// The other end.
    pub remote: Option<SocketAddrV4>,
    /// Which way the other end is reached: through what and to whom.
    pub way: (Link, Ipv4Addr),
    /// What programs can set.
    pub options: Options,
    /// Where it listens.
    pub listener: Option<Listener>,
    /// The protocol's state, while it is connected or becomes so, and after that until it is connected anew.
    pub connection: Option<Connection>,
    /// The socket that listens, until this one is accepted.
    pub parent: Option<TcpId>,
    /// How far `connect(2)` has told what became of it.
    pub attempt: Attempt,
    /// Nothing more is received.
    pub shut_receive: bool,
    /// Nothing more is sent.
    pub shut_send: bool,
    /// No program has it any more.
    pub orphan: bool,
    /// An attempt to connect has failed.
    pub failed: bool,
    /// When something is to be done though nothing comes in.
    pub deadline: Option<Nanoseconds>,
    /// When the other end is given up, unless it is heard before.
    pub give_up: Option<Nanoseconds>,
    /// When the other end was heard last.
    pub heard: Nanoseconds,
    /// The owner, for `/proc/net/tcp`.
    pub user: u32,
}

impl Block {
    /// A fresh one.
    pub fn new(options: Options, user: u32) -> Self {
        Self {
            shared: Arc::new(Shared::new(UNCONNECTED)),
            local: NOWHERE,
            bound: NOWHERE,
            remote: None,
            way: (Link::Loopback, Ipv4Addr::UNSPECIFIED),
            options,
            listener: None,
            connection: None,
            parent: None,
            attempt: Attempt::None,
            shut_receive: false,
            shut_send: false,
            orphan: false,
            failed: false,
            deadline: None,
            give_up: None,
            heard: Nanoseconds::ZERO,
            user,
        }
    }

    /// The protocol's state.
    pub fn state(&self) -> State {
        match (&self.listener, &self.connection) {
            (Some(_), _) => State::Listen,
            (None, Some(connection)) => connection.socket().state().into(),
            (None, None) => State::Closed,
        }
    }

    /// Whether the other end will send nothing more.
    pub fn has_ended(&self) -> bool {
        use State::*;
        matches!(self.state(), CloseWait | LastAck | Closing | TimeWait | Closed)
    }

    /// Whether a connection is being made.
    pub fn is_connecting(&self) -> bool {
        matches!(self.state(), State::SynSent | State::SynReceived)
    }

    /// Bytes to be read, and bytes that were sent but not acknowledged, while they still may be.
    pub fn queues(&self) -> (usize, usize) {
        let Some(connection) = &self.connection else { return (0, 0) };
        let socket = connection.socket();
        let unsent = if self.state() == State::Closed { 0 } else { socket.send_queue() };
        (socket.recv_queue(), unsent)
    }

    /// The time that the protocol machine is told. When TIME_WAIT is over it forgets all, also what it has received; it does
    /// not hear of that moment while there is something to be read.
    pub fn time(&self, now: Nanoseconds) -> Nanoseconds {
        let is_read_late = self.state() == State::TimeWait && self.queues().0 > 0;
        if is_read_late { now.min(self.heard + WITHIN_TIME_WAIT) } else { now }
    }

    /// What the socket is ready for.
    pub fn condition(&self) -> Condition {
        let (unread, unsent) = self.queues();
        let mut events = PollEvents::empty();
        if let Some(listener) = &self.listener {
            events.set(PollEvents::READABLE, !listener.ready.is_empty());
        } else if self.connection.is_none() {
            events = UNCONNECTED;
            events.set(PollEvents::READABLE | PollEvents::RDHUP, self.failed || self.shut_receive);
        } else if !self.is_connecting() {
            let closed = matches!(self.state(), State::Closed | State::TimeWait);
            let no_more_in = self.shut_receive || self.has_ended();
            let no_more_out = self.shut_send || closed;
            events.set(PollEvents::READABLE, unread > 0 || no_more_in);
            events.set(PollEvents::RDHUP, no_more_in);
            events.set(PollEvents::HUP, no_more_in && no_more_out);
            let room = self.connection.as_ref().map_or(0, |connection| connection.socket().send_capacity());
            // As in Linux a third must be free.
            events.set(PollEvents::WRITABLE, no_more_out || (room - unsent) * 2 >= unsent);
        }
        Condition { events, unread, unsent }
    }

    /// Makes its condition known.
    pub fn publish(&self) {
        self.shared.publish(self.condition());
    }
}

/// Less than TIME_WAIT lasts with smoltcp, and more than any other of its timers in that state.
const WITHIN_TIME_WAIT: Nanoseconds = Nanoseconds::from_seconds(5);

/// What `poll(2)` says of a socket that is not connected.
const UNCONNECTED: PollEvents = PollEvents::WRITABLE.union(PollEvents::HUP);
