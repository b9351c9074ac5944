//! What packets and time do to TCP sockets.

use core::net::{Ipv4Addr, SocketAddrV4};

use platform::Nanoseconds;
use smoltcp::socket::tcp as machine;
use smoltcp::time::Duration;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use super::block::{Attempt, Block, Listener, State};
use super::{Ends, TcpId};
use crate::errno::Errno;
use crate::mm::frames;
use crate::net::inet::engine::Connection;
use crate::net::inet::interface::Link;
use crate::net::inet::stack::Stack;
use crate::net::inet::wire::{ETHERNET_HEADER, Wire};

/// How long an attempt to connect lasts (six times as often as `net.ipv4.tcp_syn_retries` doubles the second).
const CONNECT_TIME: Nanoseconds = Nanoseconds::from_seconds(127);
/// How long a connection that nobody has accepted may take to come about.
const ARRIVE_TIME: Nanoseconds = Nanoseconds::from_seconds(63);
/// How long an answer to data is waited for (`net.ipv4.tcp_retries2`).
const ANSWER_TIME: Nanoseconds = Nanoseconds::from_seconds(924);
/// How long the other end may take to end after the program is gone (`net.ipv4.tcp_fin_timeout`).
pub(super) const ORPHAN_TIME: Nanoseconds = Nanoseconds::from_seconds(60);
/// So many connections that no program has any more may stay until they are over, and then for as long as TIME_WAIT lasts.
const FEW_ORPHANS: usize = 64;
/// Most of them that are not over. It is what many buffers may cost, so there are fewer when memory is short.
const MOST_ORPHANS: usize = 1024;
/// A deadline that the protocol machine does nothing about must not keep the CPU busy.
const SHORTEST_WAIT: Nanoseconds = Nanoseconds::from_millis(1);

/// What a segment's header says before its connection sees it.
struct Segment {
    ends: Ends,
    /// The first of a connection.
    opens: bool,
    /// There is no such connection any more.
    resets: bool,
}

impl Segment {
    fn read(packet: &[u8]) -> Option<Self> {
        let packet = Ipv4Packet::new_checked(packet).ok()?;
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        Some(Self {
            ends: Ends {
                local: SocketAddrV4::new(to, segment.dst_port()),
                remote: SocketAddrV4::new(from, segment.src_port()),
            },
            opens: segment.syn() && !segment.ack() && !segment.rst(),
            resets: segment.rst(),
        })
    }
}

impl<W: Wire> Stack<W> {
    /// A TCP packet for this machine.
    pub(in crate::net::inet) fn tcp_input(&mut self, link: Link, packet: &[u8]) {
        let Some(segment) = Segment::read(packet) else { return };
        let known = self.tcp.connections.get(&segment.ends).copied();
        let known = known.filter(|&id| {
            // A new connection may take the place of one that is over.
            let is_over =
                self.tcp.get(id).is_none_or(|block| block.orphan && block.state() == State::TimeWait);
            let replaced = segment.opens && is_over;
            if replaced {
                self.tcp.remove(id);
            }
            !replaced
        });
        let id = match known {
            Some(id) => Some(id),
            None if segment.opens => match self.find_listener(segment.ends.local) {
                // Whoever gets no answer tries again.
                Some(listener) => match self.open_child(listener, link, segment.ends) {
                    Some(id) => Some(id),
                    None => return,
                },
                None => None,
            },
            None => None,
        };
        match id {
            Some(id) => self.feed(id, link, packet, segment.resets),
            None => self.refuse(link, segment.ends.remote, packet),
        }
    }

    /// Nobody wants the packet.
    fn refuse(&mut self, link: Link, to: SocketAddrV4, packet: &[u8]) {
        let out = &mut self.buffer[ETHERNET_HEADER..];
        let Some(length) = self.engines[link as usize].input(self.now, None, packet, out) else { return };
        if let Ok(hop) = self.links.hop(*to.ip()) {
            self.links.send(self.now, hop.link, hop.next, &mut self.buffer[..ETHERNET_HEADER + length]);
        }
    }

    fn find_listener(&self, local: SocketAddrV4) -> Option<TcpId> {
        let listens_at = |id: TcpId, address: Ipv4Addr| {
            self.tcp.get(id).is_some_and(|block| block.listener.is_some() && *block.local.ip() == address)
        };
        let users = self.tcp.ports.users(local.port());
        let at = |address| users.iter().copied().find(|&id| listens_at(id, address));
        at(*local.ip()).or_else(|| at(Ipv4Addr::UNSPECIFIED))
    }

    /// A connection that comes, if there is room for it.
    fn open_child(&mut self, parent: TcpId, link: Link, ends: Ends) -> Option<TcpId> {
        let hop = self.links.hop(*ends.remote.ip()).ok()?;
        let now = self.now;
        let listening = self.tcp.get_mut(parent)?;
        let listener = listening.listener.as_mut()?;
        // One more than asked for, as in Linux.
        if listener.coming + listener.ready.len() > listener.backlog {
            return None;
        }
        let (options, user) = (listening.options, listening.user);
        let mut connection = Connection::new(options.receive_buffer / 2, options.send_buffer / 2).ok()?;
        configure(&mut connection, &options, link);
        let at: (Ipv4Addr, u16) = (*ends.local.ip(), ends.local.port());
        connection.socket_mut().listen(at).ok()?;
        listener.coming += 1;
        let mut block = Block::new(options, user);
        block.local = ends.local;
        block.remote = Some(ends.remote);
        block.way = (hop.link, hop.next);
        block.connection = Some(connection);
        block.parent = Some(parent);
        block.heard = now;
        block.give_up = Some(now + ARRIVE_TIME);
        let id = self.tcp.add(block);
        self.tcp.connections.insert(ends, id);
        self.tcp.ports.enter(id, ends.local.port());
        Some(id)
    }

    /// Has a connection take a packet.
    fn feed(&mut self, id: TcpId, link: Link, packet: &[u8], resets: bool) {
        let Some(block) = self.tcp.blocks.get_mut(&id) else { return };
        let before = block.state();
        let unsent = block.queues().1;
        let way = block.way;
        let Some(connection) = &mut block.connection else { return };
        let out = &mut self.buffer[ETHERNET_HEADER..];
        let answer = self.engines[link as usize].input(self.now, Some(connection), packet, out);
        // A reset that does not fit in is no sign of life, and whoever is alone with the other end wants to get rid of it.
        if !resets {
            block.heard = self.now;
            if !block.orphan || block.queues().1 < unsent {
                block.give_up = None;
            }
        }
        if let Some(length) = answer {
            self.links.send(self.now, way.0, way.1, &mut self.buffer[..ETHERNET_HEADER + length]);
        }
        if resets {
            self.note_reset(id, before);
        }
        self.tcp_pump(id);
    }

    /// The other end has reset the connection, if that is what became of it.
    fn note_reset(&mut self, id: TcpId, before: State) {
        let Some(block) = self.tcp.get_mut(id) else { return };
        if block.state() != State::Closed || before == State::Closed {
            return;
        }
        match before {
            State::SynSent => block.shared.set_error(Errno::ECONNREFUSED),
            State::CloseWait => block.shared.set_error(Errno::EPIPE),
            State::LastAck | State::Closing | State::TimeWait => {}
            _ => block.shared.set_error(Errno::ECONNRESET),
        }
    }

    /// Has a connection send what it has to send, and makes known what became of it.
    pub(super) fn tcp_pump(&mut self, id: TcpId) {
        let Some(block) = self.tcp.blocks.get_mut(&id) else { return };
        let (link, next) = block.way;
        let now = block.time(self.now);
        if let Some(connection) = &mut block.connection {
            let engine = &mut self.engines[link as usize];
            while let Some(length) = engine.output(now, connection, &mut self.buffer[ETHERNET_HEADER..]) {
                self.links.send(self.now, link, next, &mut self.buffer[..ETHERNET_HEADER + length]);
            }
        }
        self.tcp_settle(id);
    }

    /// Draws the conclusions from a connection's state.
    fn tcp_settle(&mut self, id: TcpId) {
        let Some(block) = self.tcp.blocks.get(&id) else { return };
        let state = block.state();
        if let Some(parent) = block.parent {
            match state {
                State::SynReceived => {}
                State::Listen | State::Closed => {
                    self.lose_child(parent, id);
                    return;
                }
                _ => self.child_has_come(parent, id),
            }
        }
        let Some(block) = self.tcp.blocks.get_mut(&id) else { return };
        if block.attempt == Attempt::Made && !block.is_connecting() && state != State::Closed {
            block.attempt = Attempt::Succeeded;
        }
        if block.orphan {
            // There is nobody to read it.
            let unwanted = block.queues().0 > 0;
            if let Some(connection) = block.connection.as_mut().filter(|_| unwanted) {
                connection.socket_mut().abort();
                let (link, next) = block.way;
                let out = &mut self.buffer[ETHERNET_HEADER..];
                if let Some(length) = self.engines[link as usize].output(self.now, connection, out) {
                    self.links.send(self.now, link, next, &mut self.buffer[..ETHERNET_HEADER + length]);
                }
            }
            if unwanted || state == State::Closed {
                self.tcp.remove(id);
                return;
            }
        } else if state == State::Closed && block.attempt == Attempt::Made && block.connection.is_some() {
            // Another attempt may follow.
            block.failed = true;
            self.tcp.disconnect(id);
        }
        self.set_timers(id);
        if let Some(block) = self.tcp.get(id) {
            block.publish();
        }
    }

    fn lose_child(&mut self, parent: TcpId, id: TcpId) {
        if let Some(block) = self.tcp.get_mut(parent)
            && let Some(listener) = &mut block.listener
        {
            let waiting = listener.ready.len();
            listener.ready.retain(|&other| other != id);
            if listener.ready.len() == waiting {
                listener.coming = listener.coming.saturating_sub(1);
            }
            block.publish();
        }
        self.tcp.remove(id);
    }

    fn child_has_come(&mut self, parent: TcpId, id: TcpId) {
        let Some(block) = self.tcp.get_mut(parent) else { return };
        let Some(Listener { coming, ready, .. }) = &mut block.listener else { return };
        if !ready.contains(&id) {
            *coming = coming.saturating_sub(1);
            ready.push_back(id);
            block.publish();
            // Each of them is something new, which those who were told of the first want to know too.
            block.shared.can_read.wake_all();
        }
    }

    /// When the connection is to be looked at again.
    fn set_timers(&mut self, id: TcpId) {
        let now = self.now;
        let Some(block) = self.tcp.blocks.get_mut(&id) else { return };
        let state = block.state();
        let ends_at = block.time(Nanoseconds(u64::MAX));
        let Some(connection) = &mut block.connection else {
            self.tcp.set_deadline(id, None);
            return;
        };
        let options = &block.options;
        let unsent = connection.socket().send_queue() > 0;
        let patience = match state {
            // What it has not sent stays with it, and goes nowhere.
            State::Closed => None,
            State::SynSent => Some(CONNECT_TIME),
            State::SynReceived => Some(ARRIVE_TIME),
            _ if block.orphan && state != State::TimeWait => Some(ORPHAN_TIME),
            State::FinWait1 | State::Closing | State::LastAck => Some(ANSWER_TIME),
            _ if unsent && options.user_timeout > 0 => {
                Some(Nanoseconds::from_millis(options.user_timeout.into()))
            }
            _ if unsent => Some(ANSWER_TIME),
            _ => None,
        };
        let mut give_up = patience.map(|patience| block.give_up.unwrap_or(now + patience));
        block.give_up = give_up;
        if give_up.is_none() && options.keep_alive && matches!(state, State::Established | State::CloseWait) {
            let seconds = |seconds: u32| Nanoseconds::from_seconds(seconds.into());
            let idle = block.heard + seconds(options.keep_idle);
            let all = options.keep_interval.saturating_mul(options.keep_count);
            give_up = Some(idle + seconds(all));
            let wait = if now >= idle { options.keep_interval } else { options.keep_idle };
            let wait = Some(Duration::from_secs(wait.into()));
            if connection.socket().keep_alive() != wait {
                connection.socket_mut().set_keep_alive(wait);
            }
        }
        let next = self.engines[block.way.0 as usize].deadline(now, connection);
        let next = next.filter(|next| *next <= ends_at).map(|next| next.max(now + SHORTEST_WAIT));
        let deadline = next.into_iter().chain(give_up).min();
        self.tcp.set_deadline(id, deadline);
    }

    /// Does what is due by now.
    pub(in crate::net::inet) fn tcp_run(&mut self) {
        let now = self.now;
        while let Some(&(deadline, id)) = self.tcp.deadlines.first()
            && deadline <= now
        {
            self.tcp.set_deadline(id, None);
            let keep_up = self.tcp.get(id).is_some_and(|block| !self.is_lost(block));
            if keep_up { self.tcp_pump(id) } else { self.give_up(id, Errno::ETIMEDOUT) }
        }
    }

    /// Whether the other end has not been heard for too long.
    fn is_lost(&self, block: &Block) -> bool {
        let options = &block.options;
        let watched = options.keep_alive && matches!(block.state(), State::Established | State::CloseWait);
        let all =
            u64::from(options.keep_idle) + u64::from(options.keep_interval) * u64::from(options.keep_count);
        let silent = watched && block.heard + Nanoseconds::from_seconds(all) <= self.now;
        silent || block.give_up.is_some_and(|at| at <= self.now)
    }

    /// Ends a connection from this end, for `error`.
    pub(in crate::net::inet) fn give_up(&mut self, id: TcpId, error: Errno) {
        let Some(block) = self.tcp.get_mut(id) else { return };
        let silent = block.state() == State::SynSent;
        block.shared.set_error(error);
        if let Some(connection) = &mut block.connection {
            connection.socket_mut().abort();
        }
        if silent && !block.orphan {
            block.failed = true;
            self.tcp.disconnect(id);
        }
        self.tcp_pump(id);
    }

    /// No program has the connection any more.
    pub(super) fn orphan(&mut self, id: TcpId) {
        if let Some(block) = self.tcp.get_mut(id) {
            block.orphan = true;
            block.give_up = None;
        }
        self.tcp.orphans.push_back(id);
        while self.tcp.orphans.len() > FEW_ORPHANS {
            let is_over = |id| self.tcp.get(id).is_none_or(|block| block.state() == State::TimeWait);
            let over = self.tcp.orphans.iter().copied().find(|&id| is_over(id));
            if let Some(over) = over {
                self.tcp.remove(over);
                continue;
            }
            let bearable = self.tcp.orphans.len() <= MOST_ORPHANS && !frames::is_short();
            let Some(&oldest) = self.tcp.orphans.front().filter(|_| !bearable) else { break };
            self.give_up(oldest, Errno::ETIMEDOUT);
            self.tcp.remove(oldest);
        }
    }

    /// The other end of a connection cannot be reached, says somebody on the way.
    pub(in crate::net::inet) fn tcp_unreachable(&mut self, ends: Ends, error: Errno) {
        let Some(&id) = self.tcp.connections.get(&ends) else { return };
        // Whoever is connected tries on.
        if self.tcp.get(id).is_some_and(|block| block.state() == State::SynSent) {
            self.give_up(id, error);
        }
    }
}

/// Sets a connection up as `options` say.
pub(super) fn configure(connection: &mut Connection, options: &super::Options, link: Link) {
    let socket: &mut machine::Socket<'static> = connection.socket_mut();
    socket.set_nagle_enabled(!options.no_delay);
    socket.set_hop_limit(Some(options.time_to_live.max(1)));
    match link {
        // Nothing is lost or waits there.
        Link::Loopback => socket.set_ack_delay(None),
        Link::Ethernet => socket.set_congestion_control(machine::CongestionControl::Reno),
    }
}
