//! IP: packets in, packets out, and what they are for.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use platform::Nanoseconds;
use smoltcp::wire::{Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, UdpPacket};

use super::dhcp::Dhcp;
use super::engine::Engine;
use super::interface::Link;
use super::links::{Hop, LONGEST_PACKET, Links};
use super::reassembly::Reassembly;
use super::wire::{ETHERNET_HEADER, ETHERNET_MTU, Wire};
use super::{datagram, tcp};
use crate::errno::{Errno, KResult};

/// Bytes of an IP header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of a packet that a message about it repeats, beyond its header.
const REPEATED: usize = 8;
const ICMP_HEADER: usize = 8;
/// Frames that are taken from the Ethernet before others may have the stack.
const FRAMES_AT_A_TIME: usize = 64;

/// What goes into an IP header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What the packet carries.
    pub protocol: IpProtocol,
    /// How often it may be passed on.
    pub time_to_live: u8,
    /// `IP_TOS`
    pub type_of_service: u8,
}

/// The IP of this machine.
pub struct Stack<W> {
    /// The time of what is done now.
    pub(super) now: Nanoseconds,
    /// The interfaces.
    pub links: Links<W>,
    pub(super) engines: [Engine; 2],
    /// TCP sockets.
    pub tcp: tcp::Table,
    /// All other sockets.
    pub datagrams: datagram::Table,
    /// Where the addresses come from, if they are asked for.
    pub dhcp: Option<Dhcp>,
    /// Who knows names, if somebody said so at boot.
    pub name_servers: Vec<Ipv4Addr>,
    fragments: Reassembly,
    /// Room for a packet that goes out, after the Ethernet header.
    pub(super) buffer: Box<[u8]>,
    /// Room for one part of a packet that goes out.
    part: Box<[u8]>,
    /// Room for a frame that comes in.
    frame: Box<[u8]>,
    identification: u16,
    seed: u64,
}

impl<W: Wire> Stack<W> {
    /// With these devices. `seed` is for numbers that others should not guess.
    pub fn new(wire: Option<W>, now: Nanoseconds, seed: u64) -> Self {
        let zeros = |bytes| alloc::vec![0; bytes].into_boxed_slice();
        Self {
            now,
            links: Links::new(wire),
            engines: [Engine::new(LONGEST_PACKET, false, seed), Engine::new(ETHERNET_MTU, true, seed ^ 1)],
            tcp: tcp::Table::default(),
            datagrams: datagram::Table::default(),
            dhcp: None,
            name_servers: Vec::new(),
            fragments: Reassembly::default(),
            buffer: zeros(ETHERNET_HEADER + LONGEST_PACKET),
            part: zeros(ETHERNET_HEADER + ETHERNET_MTU),
            frame: zeros(ETHERNET_HEADER + ETHERNET_MTU),
            identification: seed as u16,
            seed,
        }
    }

    /// The time of what is done now.
    pub fn time(&self) -> Nanoseconds {
        self.now
    }

    /// What follows happens at `now`.
    pub fn begin(&mut self, now: Nanoseconds) {
        self.now = self.now.max(now);
    }

    /// A number to begin a search with (splitmix64).
    pub(super) fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.seed;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Room for `length` bytes that [`Self::send_packet`] sends.
    pub(super) fn payload_mut(&mut self, length: usize) -> &mut [u8] {
        &mut self.buffer[ETHERNET_HEADER + IPV4_HEADER..][..length]
    }

    /// Room for a packet of `length` bytes, at most [`LONGEST_PACKET`], that [`Self::send_with_header`] sends.
    pub(super) fn packet_mut(&mut self, length: usize) -> &mut [u8] {
        &mut self.buffer[ETHERNET_HEADER..][..length]
    }

    /// Sends what is in [`Self::payload_mut`], in several packets if it must.
    ///
    /// # Errors
    /// EMSGSIZE.
    pub(super) fn send_packet(&mut self, hop: Hop, header: Header, length: usize) -> KResult<()> {
        self.put_packet(hop, header, length)?;
        self.settle();
        Ok(())
    }

    fn put_packet(&mut self, hop: Hop, header: Header, length: usize) -> KResult<()> {
        let total = IPV4_HEADER + length;
        if total > LONGEST_PACKET {
            return Err(Errno::EMSGSIZE);
        }
        let mtu = self.links.get(hop.link).map_or(0, |interface| interface.mtu);
        self.identification = self.identification.wrapping_add(1);
        let identification = self.identification;
        let mut packet = Ipv4Packet::new_unchecked(&mut self.buffer[ETHERNET_HEADER..][..total]);
        packet.set_version(4);
        packet.set_header_len(IPV4_HEADER as u8);
        packet.set_dscp(header.type_of_service >> 2);
        packet.set_ecn(header.type_of_service & 3);
        packet.set_total_len(total as u16);
        packet.set_ident(identification);
        packet.clear_flags();
        packet.set_frag_offset(0);
        packet.set_hop_limit(header.time_to_live);
        packet.set_next_header(header.protocol);
        packet.set_src_addr(header.source);
        packet.set_dst_addr(header.destination);
        packet.fill_checksum();
        if total <= mtu {
            self.links.send(self.now, hop.link, hop.next, &mut self.buffer[..ETHERNET_HEADER + total]);
        } else {
            self.send_parts(hop, length, mtu);
        }
        Ok(())
    }

    /// Sends the packet in the buffer in parts that fit.
    fn send_parts(&mut self, hop: Hop, length: usize, mtu: usize) {
        let (before, rest) = self.buffer.split_at(ETHERNET_HEADER + IPV4_HEADER);
        let most = (mtu - IPV4_HEADER) & !7;
        for (index, part) in rest[..length].chunks(most).enumerate() {
            let total = IPV4_HEADER + part.len();
            let frame = &mut self.part[..ETHERNET_HEADER + total];
            frame[..before.len()].copy_from_slice(before);
            frame[before.len()..].copy_from_slice(part);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET_HEADER..]);
            packet.set_total_len(total as u16);
            packet.set_more_frags((index + 1) * most < length);
            packet.set_frag_offset((index * most) as u16);
            packet.fill_checksum();
            self.links.send(self.now, hop.link, hop.next, frame);
        }
    }

    /// Sends the packet of `length` bytes in [`Self::packet_mut`], which has its own header (`IP_HDRINCL`).
    ///
    /// # Errors
    /// EINVAL if it is none, EMSGSIZE.
    pub(super) fn send_with_header(&mut self, hop: Hop, length: usize) -> KResult<()> {
        let mtu = self.links.get(hop.link).map_or(0, |interface| interface.mtu);
        if length > mtu {
            return Err(Errno::EMSGSIZE);
        }
        self.identification = self.identification.wrapping_add(1);
        let bytes = &mut self.buffer[..ETHERNET_HEADER + length];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[ETHERNET_HEADER..]);
        if length < IPV4_HEADER || packet.version() != 4 {
            return Err(Errno::EINVAL);
        }
        let header_length = usize::from(packet.header_len());
        if header_length < IPV4_HEADER || header_length > length {
            return Err(Errno::EINVAL);
        }
        packet.set_total_len(length as u16);
        if packet.ident() == 0 {
            packet.set_ident(self.identification);
        }
        if packet.src_addr().is_unspecified() {
            packet.set_src_addr(hop.source);
        }
        packet.fill_checksum();
        self.links.send(self.now, hop.link, hop.next, bytes);
        self.settle();
        Ok(())
    }

    /// Brings every packet to its end that stays on this machine.
    pub fn settle(&mut self) {
        while let Some(packet) = self.links.take_looped() {
            self.ip_input(Link::Loopback, &packet);
        }
    }

    /// Takes frames from the Ethernet; says whether there may be more.
    pub fn receive(&mut self) -> bool {
        for _ in 0..FRAMES_AT_A_TIME {
            let mut frame = core::mem::take(&mut self.frame);
            let length = self.links.receive(&mut frame);
            if let Some(length @ ETHERNET_HEADER..) = length {
                self.frame_input(&frame[..length]);
            }
            self.frame = frame;
            self.settle();
            if length.is_none() {
                return false;
            }
        }
        true
    }

    fn frame_input(&mut self, frame: &[u8]) {
        if let Some(dhcp) = &mut self.dhcp
            && dhcp.input(self.now, frame, &mut self.links)
        {
            return;
        }
        if self.links.is_packet(self.now, frame) {
            self.ip_input(Link::Ethernet, &frame[ETHERNET_HEADER..]);
        }
    }

    /// Does what is due by now.
    pub fn run(&mut self) {
        loop {
            let frames = self.links.run(self.now);
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                let Ok(packet) = Ipv4Packet::new_checked(&frame[ETHERNET_HEADER..]) else { continue };
                self.packet_lost(&packet, Errno::EHOSTUNREACH);
            }
        }
        self.tcp_run();
        self.fragments.expire(self.now);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.run(self.now, &mut self.links);
        }
        self.settle();
    }

    /// When [`Self::run`] has something to do next.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        let dhcp = self.dhcp.as_ref().and_then(Dhcp::deadline);
        let all = [self.tcp.deadline(), self.links.deadline(), self.fragments.deadline(), dhcp];
        all.into_iter().flatten().min()
    }

    fn ip_input(&mut self, link: Link, bytes: &[u8]) {
        let Some((packet, broadcast)) = self.check(link, bytes) else { return };
        let packet = Ipv4Packet::new_unchecked(&bytes[..packet]);
        if !packet.more_frags() && packet.frag_offset() == 0 {
            self.whole_input(link, &packet, broadcast);
        } else if let Some(whole) = self.fragments.add(self.now, &packet) {
            self.whole_input(link, &Ipv4Packet::new_unchecked(&whole[..]), broadcast);
        }
    }

    /// The length of a packet for this machine, and whether it is for all of a network; none if it is not, or damaged.
    fn check(&mut self, link: Link, bytes: &[u8]) -> Option<(usize, bool)> {
        let checked = Ipv4Packet::new_checked(bytes).ok().filter(|packet| {
            packet.version() == 4
                && usize::from(packet.header_len()) >= IPV4_HEADER
                && (link == Link::Loopback || packet.verify_checksum())
        });
        let Some(packet) = checked else {
            if let Some(interface) = self.links.get_mut(link) {
                interface.received.errors += 1;
            }
            return None;
        };
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        // Nobody there has our addresses.
        let strange =
            link == Link::Ethernet && (self.links.is_own(from) || from.is_loopback() || to.is_loopback());
        let from_all = from.is_multicast() || from.is_broadcast() || self.links.is_broadcast(link, from);
        let broadcast = self.links.is_broadcast(link, to);
        let ours = broadcast || to.is_multicast() || self.links.is_own(to);
        if strange || from_all || !ours {
            return None;
        }
        Some((packet.total_len().into(), broadcast || to.is_multicast()))
    }

    fn whole_input(&mut self, link: Link, packet: &Ipv4Packet<&[u8]>, broadcast: bool) {
        let wanted = self.raw_input(packet);
        match packet.next_header() {
            IpProtocol::Tcp if !broadcast => self.tcp_input(link, packet.as_ref()),
            IpProtocol::Tcp => {}
            IpProtocol::Udp if self.udp_input(packet, broadcast) => {}
            IpProtocol::Udp => self.send_unreachable(packet, Icmpv4DstUnreachable::PortUnreachable),
            IpProtocol::Icmp => self.icmp_input(packet, broadcast),
            _ if !wanted && !broadcast => {
                self.send_unreachable(packet, Icmpv4DstUnreachable::ProtoUnreachable);
            }
            _ => {}
        }
    }

    fn icmp_input(&mut self, packet: &Ipv4Packet<&[u8]>, broadcast: bool) {
        let bytes = packet.payload();
        let Ok(message) = Icmpv4Packet::new_checked(bytes) else { return };
        if !message.verify_checksum() || bytes.len() < ICMP_HEADER {
            return;
        }
        match message.msg_type() {
            Icmpv4Message::EchoRequest if !broadcast => self.answer_echo(packet),
            Icmpv4Message::EchoReply => self.ping_input(packet.src_addr(), message.echo_ident(), bytes),
            Icmpv4Message::DstUnreachable => {
                let error = match Icmpv4DstUnreachable::from(message.msg_code()) {
                    Icmpv4DstUnreachable::PortUnreachable | Icmpv4DstUnreachable::ProtoUnreachable => {
                        Errno::ECONNREFUSED
                    }
                    Icmpv4DstUnreachable::NetUnreachable => Errno::ENETUNREACH,
                    _ => Errno::EHOSTUNREACH,
                };
                // Of the packet itself there are only its first bytes.
                let about = &bytes[ICMP_HEADER..];
                if about.len() >= IPV4_HEADER + REPEATED {
                    self.packet_lost(&Ipv4Packet::new_unchecked(about), error);
                }
            }
            _ => {}
        }
    }

    /// A packet of ours has not arrived. Its length may lie.
    fn packet_lost(&mut self, packet: &Ipv4Packet<&[u8]>, error: Errno) {
        let bytes: &[u8] = packet.as_ref();
        let header = usize::from(packet.header_len());
        let Some([a, b, c, d]) =
            bytes.get(header..header + 4).map(|ports| [ports[0], ports[1], ports[2], ports[3]])
        else {
            return;
        };
        let local = SocketAddrV4::new(packet.src_addr(), u16::from_be_bytes([a, b]));
        let remote = SocketAddrV4::new(packet.dst_addr(), u16::from_be_bytes([c, d]));
        match packet.next_header() {
            IpProtocol::Tcp => self.tcp_unreachable(tcp::Ends { local, remote }, error),
            IpProtocol::Udp => self.udp_unreachable(local, remote, error),
            _ => {}
        }
    }

    fn answer_echo(&mut self, packet: &Ipv4Packet<&[u8]>) {
        let message = packet.payload();
        let Ok(hop) = self.links.hop(packet.src_addr()) else { return };
        let payload = self.payload_mut(message.len());
        payload.copy_from_slice(message);
        let mut answer = Icmpv4Packet::new_unchecked(payload);
        answer.set_msg_type(Icmpv4Message::EchoReply);
        answer.fill_checksum();
        self.send_icmp(hop, packet, message.len());
    }

    /// Tells the sender of a packet that it is of no use.
    fn send_unreachable(&mut self, packet: &Ipv4Packet<&[u8]>, why: Icmpv4DstUnreachable) {
        let bytes: &[u8] = packet.as_ref();
        let about = &bytes[..bytes.len().min(usize::from(packet.header_len()) + REPEATED)];
        // Nobody is told about what has no sender.
        let Ok(hop) = self.links.hop(packet.src_addr()) else { return };
        if packet.src_addr().is_unspecified() {
            return;
        }
        let payload = self.payload_mut(ICMP_HEADER + about.len());
        payload[..ICMP_HEADER].fill(0);
        payload[ICMP_HEADER..].copy_from_slice(about);
        let mut message = Icmpv4Packet::new_unchecked(payload);
        message.set_msg_type(Icmpv4Message::DstUnreachable);
        message.set_msg_code(why.into());
        message.fill_checksum();
        self.send_icmp(hop, packet, ICMP_HEADER + about.len());
    }

    fn send_icmp(&mut self, hop: Hop, about: &Ipv4Packet<&[u8]>, length: usize) {
        let header = Header {
            source: about.dst_addr(),
            destination: about.src_addr(),
            protocol: IpProtocol::Icmp,
            time_to_live: 64,
            type_of_service: 0,
        };
        // What it answers was no longer than a packet may be.
        let _ = self.put_packet(hop, header, length);
    }
}

/// The port that a UDP packet is for, wherever it is.
pub fn udp_destination(frame: &[u8]) -> Option<u16> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET_HEADER)?;
    let packet = Ipv4Packet::new_checked(packet).ok().filter(|_| ethernet[12..] == [8, 0])?;
    let whole = !packet.more_frags() && packet.frag_offset() == 0;
    let udp = UdpPacket::new_checked(packet.payload()).ok()?;
    (whole && packet.next_header() == IpProtocol::Udp).then(|| udp.dst_port())
}
