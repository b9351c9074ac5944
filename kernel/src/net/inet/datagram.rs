//! Sockets for datagrams: UDP, echo requests (`ping`), and IP packets of any protocol (`raw(7)`).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::address::NOWHERE;
use super::interface::Link;
use super::links::LONGEST_PACKET;
use super::shared::{Condition, Shared};
use super::stack::{Header, IPV4_HEADER, Stack};
use super::tcp::{Directions, ports_in_turn};
use super::wire::Wire;
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::mm::frames;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, UdpPacket};

const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
/// What a datagram costs in a queue beside its bytes.
const OVERHEAD: usize = 256;
/// `SO_RCVBUF` and `SO_SNDBUF` of new sockets (`net.core.rmem_default`).
const BUFFER: usize = 212_992;

/// Names a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DatagramId(u64);

/// What a socket's datagrams are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// UDP.
    Udp,
    /// Echo requests and their answers.
    Ping,
    /// IP packets of this protocol.
    Raw(IpProtocol),
}

/// What programs can set.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `SO_REUSEADDR`
    pub reuse_address: bool,
    /// `SO_REUSEPORT`
    pub reuse_port: bool,
    /// `SO_BROADCAST`
    pub broadcast: bool,
    /// `IP_HDRINCL`
    pub header_included: bool,
    /// `ICMP_FILTER`: a bit for each type that is not wanted.
    pub unwanted: u32,
    /// `SO_RCVBUF`, in bytes.
    pub receive_buffer: usize,
    /// `SO_SNDBUF`, in bytes.
    pub send_buffer: usize,
    /// `IP_TTL`
    pub time_to_live: u8,
    /// `IP_TOS`
    pub type_of_service: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reuse_address: false,
            reuse_port: false,
            broadcast: false,
            header_included: false,
            unwanted: 0,
            receive_buffer: BUFFER,
            send_buffer: BUFFER,
            time_to_live: 64,
            type_of_service: 0,
        }
    }
}

struct Datagram {
    from: SocketAddrV4,
    bytes: Vec<u8>,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes that were copied.
    pub copied: usize,
    /// Bytes there were.
    pub whole: usize,
    /// Who sent it.
    pub from: SocketAddrV4,
}

/// One socket.
pub struct Block {
    /// What is known of it without the stack's lock.
    pub shared: Arc<Shared>,
    /// What its datagrams are.
    pub kind: Kind,
    /// This end; port 0 if it has none yet.
    pub local: SocketAddrV4,
    /// What `bind(2)` made of it, which is what is left of it when nobody is [`Self::remote`] any more.
    bound: SocketAddrV4,
    /// The only one who may send to it, and to whom what goes out goes.
    pub remote: Option<SocketAddrV4>,
    /// What programs can set.
    pub options: Options,
    /// The owner, for `/proc/net/udp`.
    pub user: u32,
    /// Datagrams for which there was no room.
    pub dropped: u64,
    shut: Directions,
    queue: VecDeque<Datagram>,
    queued: usize,
}

impl Block {
    fn publish(&self) {
        let mut events = PollEvents::WRITABLE;
        events.set(PollEvents::READABLE, !self.queue.is_empty() || self.shut.receive);
        events.set(PollEvents::RDHUP, self.shut.receive);
        events.set(PollEvents::HUP, self.shut.receive && self.shut.send);
        let unread = self.queue.front().map_or(0, |datagram| datagram.bytes.len());
        self.shared.publish(Condition { events, unread, unsent: 0 });
    }

    /// Bytes in its queue.
    pub fn queued(&self) -> usize {
        self.queued
    }

    fn deliver(&mut self, from: SocketAddrV4, bytes: &[u8]) {
        let cost = bytes.len() + OVERHEAD;
        let mut copy = Vec::new();
        if self.queued + cost > self.options.receive_buffer
            || frames::is_short()
            || copy.try_reserve_exact(bytes.len()).is_err()
            || self.queue.try_reserve(1).is_err()
        {
            self.dropped += 1;
            return;
        }
        copy.extend_from_slice(bytes);
        self.queued += cost;
        self.queue.push_back(Datagram { from, bytes: copy });
        self.publish();
        // Each is something new.
        self.shared.can_read.wake_all();
    }

    /// How well a datagram from `from` to `to` fits; none if it is not for this socket.
    fn fit(&self, from: SocketAddrV4, to: SocketAddrV4, broadcast: bool) -> Option<u32> {
        let address = self.local.ip();
        let here = address.is_unspecified() || address == to.ip() || broadcast;
        if !here || self.local.port() != to.port() || self.remote.is_some_and(|remote| remote != from) {
            return None;
        }
        Some(u32::from(!address.is_unspecified()) + 2 * u32::from(self.remote.is_some()))
    }
}

/// All sockets for datagrams.
#[derive(Default)]
pub struct Table {
    blocks: BTreeMap<DatagramId, Box<Block>>,
    last: u64,
}

impl Table {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values().map(|block| &**block)
    }

    /// What is known of a socket.
    pub fn get(&self, id: DatagramId) -> Option<&Block> {
        self.blocks.get(&id).map(|block| &**block)
    }

    fn of_kind(&mut self, kind: Kind) -> impl Iterator<Item = &mut Block> {
        self.blocks.values_mut().map(|block| &mut **block).filter(move |block| block.kind == kind)
    }

    fn may_bind(&self, id: DatagramId, local: SocketAddrV4) -> bool {
        let Some(own) = self.get(id) else { return false };
        self.blocks.iter().all(|(&other_id, other)| {
            let (a, b) = (local.ip(), other.local.ip());
            let apart = !a.is_unspecified() && !b.is_unspecified() && a != b;
            other_id == id
                || other.kind != own.kind
                || other.local.port() != local.port()
                || apart
                || (own.options.reuse_address && other.options.reuse_address)
                || (own.options.reuse_port && other.options.reuse_port && own.user == other.user)
        })
    }
}

impl<W: Wire> Stack<W> {
    fn datagram_block(&mut self, id: DatagramId) -> KResult<&mut Block> {
        self.datagrams.blocks.get_mut(&id).map(|block| &mut **block).ok_or(Errno::EBADF)
    }

    /// A new socket of `user`'s.
    pub fn datagram_open(&mut self, kind: Kind, user: u32) -> (DatagramId, Arc<Shared>) {
        let shared = Arc::new(Shared::new(PollEvents::WRITABLE));
        self.datagrams.last += 1;
        let id = DatagramId(self.datagrams.last);
        let block = Block {
            shared: shared.clone(),
            kind,
            local: NOWHERE,
            bound: NOWHERE,
            remote: None,
            options: Options::default(),
            user,
            dropped: 0,
            shut: Directions { receive: false, send: false },
            queue: VecDeque::new(),
            queued: 0,
        };
        self.datagrams.blocks.insert(id, Box::new(block));
        (id, shared)
    }

    /// No program has a descriptor for it any more.
    pub fn datagram_close(&mut self, id: DatagramId) {
        self.datagrams.blocks.remove(&id);
    }

    /// Gives it an address (`bind(2)`).
    ///
    /// # Errors
    /// EINVAL if it has one, EADDRNOTAVAIL, EADDRINUSE.
    pub fn datagram_bind(&mut self, id: DatagramId, mut local: SocketAddrV4) -> KResult<()> {
        let block = self.datagram_block(id)?;
        let kind = block.kind;
        if block.local.port() != 0 || (block.remote.is_some() && kind == Kind::Udp) {
            return Err(Errno::EINVAL);
        }
        let address = *local.ip();
        let is_broadcast = Link::ALL.iter().any(|&link| self.links.is_broadcast(link, address));
        if !address.is_unspecified()
            && !self.links.is_own(address)
            && !is_broadcast
            && !address.is_multicast()
        {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if matches!(kind, Kind::Raw(_)) {
            local.set_port(0);
        } else if local.port() == 0 {
            local.set_port(self.free_datagram_port(id, address).ok_or(Errno::EADDRINUSE)?);
        } else if !self.datagrams.may_bind(id, local) {
            return Err(Errno::EADDRINUSE);
        }
        let block = self.datagram_block(id)?;
        block.local = local;
        block.bound = local;
        Ok(())
    }

    fn free_datagram_port(&mut self, id: DatagramId, address: Ipv4Addr) -> Option<u16> {
        let seed = self.random();
        let free = |&port: &u16| self.datagrams.may_bind(id, SocketAddrV4::new(address, port));
        ports_in_turn(seed).find(free)
    }

    /// Gives it a port, unless it has one.
    fn datagram_name(&mut self, id: DatagramId) -> KResult<()> {
        let block = self.datagram_block(id)?;
        let (local, kind) = (block.local, block.kind);
        if local.port() == 0 && !matches!(kind, Kind::Raw(_)) {
            let port = self.free_datagram_port(id, *local.ip()).ok_or(Errno::EAGAIN)?;
            self.datagram_block(id)?.local.set_port(port);
        }
        Ok(())
    }

    /// Sets to whom it sends and from whom alone it receives; none for no such restriction (`connect(2)`).
    ///
    /// # Errors
    /// ENETUNREACH, EACCES for a broadcast that was not allowed, EAGAIN if there is no port left.
    pub fn datagram_connect(&mut self, id: DatagramId, remote: Option<SocketAddrV4>) -> KResult<()> {
        let Some(mut remote) = remote else {
            let block = self.datagram_block(id)?;
            block.remote = None;
            block.local = block.bound;
            return Ok(());
        };
        let hop = self.links.hop(*remote.ip())?;
        if hop.broadcast && !self.datagram_block(id)?.options.broadcast {
            return Err(Errno::EACCES);
        }
        if remote.ip().is_unspecified() {
            remote.set_ip(hop.next);
        }
        self.datagram_name(id)?;
        let block = self.datagram_block(id)?;
        if block.local.ip().is_unspecified() {
            block.local.set_ip(hop.source);
        }
        block.remote = Some(remote);
        Ok(())
    }

    /// Sends a datagram to `to`, or to whom it is connected.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn datagram_send(
        &mut self,
        id: DatagramId,
        from: &mut IoSrc<'_>,
        to: Option<SocketAddrV4>,
    ) -> KResult<usize> {
        let block = self.datagram_block(id)?;
        block.shared.check_error()?;
        if block.shut.send {
            return Err(Errno::EPIPE);
        }
        let to = to.or(block.remote).ok_or(Errno::EDESTADDRREQ)?;
        let (kind, options) = (block.kind, block.options);
        let length = from.remaining();
        let own_header = if kind == Kind::Udp { UDP_HEADER } else { 0 };
        let header_included = options.header_included && matches!(kind, Kind::Raw(_));
        let before = if header_included { 0 } else { IPV4_HEADER + own_header };
        if length + before > LONGEST_PACKET {
            return Err(Errno::EMSGSIZE);
        }
        if kind == Kind::Udp && to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        let hop = self.links.hop(*to.ip())?;
        if hop.broadcast && !options.broadcast {
            return Err(Errno::EACCES);
        }
        let to = if to.ip().is_unspecified() { SocketAddrV4::new(hop.next, to.port()) } else { to };
        self.datagram_name(id)?;
        let local = self.datagram_block(id)?.local;
        let source =
            if local.ip().is_unspecified() || local.ip().is_multicast() { hop.source } else { *local.ip() };
        let payload =
            if header_included { self.packet_mut(length) } else { self.payload_mut(own_header + length) };
        if length > 0 {
            from.read_whole(&mut payload[own_header..])?;
        }
        let protocol = match kind {
            Kind::Udp => {
                let mut packet = UdpPacket::new_unchecked(payload);
                packet.set_src_port(local.port());
                packet.set_dst_port(to.port());
                packet.set_len((UDP_HEADER + length) as u16);
                packet.fill_checksum(&source.into(), &(*to.ip()).into());
                IpProtocol::Udp
            }
            Kind::Ping => {
                if length < ICMP_HEADER || payload[..2] != [u8::from(Icmpv4Message::EchoRequest), 0] {
                    return Err(Errno::EINVAL);
                }
                let mut packet = Icmpv4Packet::new_unchecked(payload);
                packet.set_echo_ident(local.port());
                packet.fill_checksum();
                IpProtocol::Icmp
            }
            Kind::Raw(protocol) => protocol,
        };
        if header_included {
            return self.send_with_header(hop, length).map(|()| length);
        }
        let header = Header {
            source,
            destination: *to.ip(),
            protocol,
            time_to_live: if to.ip().is_multicast() { 1 } else { options.time_to_live },
            type_of_service: options.type_of_service,
        };
        self.send_packet(hop, header, own_header + length)?;
        Ok(length)
    }

    /// Receives a datagram if one has come. If `keep`, it stays.
    ///
    /// # Errors
    /// EFAULT, and what was heard of a datagram that was sent.
    pub fn datagram_receive(
        &mut self,
        id: DatagramId,
        to: &mut IoDst<'_>,
        keep: bool,
    ) -> KResult<Option<Received>> {
        let block = self.datagram_block(id)?;
        block.shared.check_error()?;
        let Some(datagram) = block.queue.front() else {
            let end = Received { copied: 0, whole: 0, from: NOWHERE };
            return Ok(block.shut.receive.then_some(end));
        };
        let wanted = datagram.bytes.len().min(to.remaining());
        let copied = if wanted == 0 { 0 } else { to.write(&datagram.bytes)? };
        let received = Received { copied, whole: datagram.bytes.len(), from: datagram.from };
        if copied < wanted {
            return Err(Errno::EFAULT);
        }
        if !keep {
            let length = received.whole;
            block.queue.pop_front();
            block.queued -= length + OVERHEAD;
            block.publish();
        }
        Ok(Some(received))
    }

    /// Shuts directions (`shutdown(2)`).
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn datagram_shut_down(&mut self, id: DatagramId, directions: Directions) -> KResult<()> {
        let block = self.datagram_block(id)?;
        if block.remote.is_none() {
            return Err(Errno::ENOTCONN);
        }
        block.shut.receive |= directions.receive;
        block.shut.send |= directions.send;
        block.publish();
        Ok(())
    }

    /// Sets options.
    ///
    /// # Errors
    /// EBADF.
    pub fn datagram_set_options(&mut self, id: DatagramId, change: impl FnOnce(&mut Options)) -> KResult<()> {
        change(&mut self.datagram_block(id)?.options);
        Ok(())
    }

    /// A UDP packet for this machine; says whether anybody wanted it.
    pub(super) fn udp_input(&mut self, packet: &Ipv4Packet<&[u8]>, broadcast: bool) -> bool {
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        let Ok(udp) = UdpPacket::new_checked(packet.payload()) else { return true };
        if !udp.verify_checksum(&source.into(), &destination.into()) {
            return true;
        }
        let from = SocketAddrV4::new(source, udp.src_port());
        let to = SocketAddrV4::new(destination, udp.dst_port());
        let mut best: Option<(u32, &mut Block)> = None;
        for block in self.datagrams.of_kind(Kind::Udp) {
            let Some(fit) = block.fit(from, to, broadcast).filter(|_| !block.shut.receive) else { continue };
            if broadcast {
                block.deliver(from, udp.payload());
            } else if best.as_ref().is_none_or(|(best, _)| fit > *best) {
                best = Some((fit, block));
            }
        }
        match best {
            Some((_, block)) => block.deliver(from, udp.payload()),
            None => return broadcast,
        }
        true
    }

    /// An answer to an echo request.
    pub(super) fn ping_input(&mut self, from: Ipv4Addr, ident: u16, message: &[u8]) {
        for block in self.datagrams.of_kind(Kind::Ping) {
            let from_other = block.remote.is_some_and(|remote| *remote.ip() != from);
            if block.local.port() == ident && !from_other {
                block.deliver(SocketAddrV4::new(from, 0), message);
            }
        }
    }

    /// A packet for this machine, of which sockets for its protocol get a copy. Says whether there was one.
    pub(super) fn raw_input(&mut self, packet: &Ipv4Packet<&[u8]>) -> bool {
        let protocol = packet.next_header();
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let message = packet.payload().first().copied().filter(|_| protocol == IpProtocol::Icmp);
        let mut wanted = false;
        for block in self.datagrams.of_kind(Kind::Raw(protocol)) {
            let filtered = message.is_some_and(|kind| kind < 32 && block.options.unwanted & (1 << kind) != 0);
            let here = block.local.ip().is_unspecified() || *block.local.ip() == to;
            let from_other = block.remote.is_some_and(|remote| *remote.ip() != from);
            if here && !from_other && !filtered && !block.shut.receive {
                block.deliver(SocketAddrV4::new(from, 0), packet.as_ref());
                wanted = true;
            }
        }
        wanted
    }

    /// Somebody says that a datagram from `local` to `remote` did not arrive.
    pub(super) fn udp_unreachable(&mut self, local: SocketAddrV4, remote: SocketAddrV4, error: Errno) {
        for block in self.datagrams.of_kind(Kind::Udp) {
            if block.local.port() == local.port() && block.remote == Some(remote) {
                block.shared.set_error(error);
            }
        }
    }
}
