//! The interfaces and what is below IP: where packets go out and come in.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use platform::Nanoseconds;

use super::interface::{Interface, Link, Network};
use super::neighbours::{Arp, Due, Neighbours, Resolved};
use super::routes::{Route, Routes};
use super::wire::{ETHERNET_HEADER, ETHERNET_MTU, Wire};
use crate::errno::{Errno, KResult};

/// Longest IP packet there is, which is what the loopback interface takes.
pub const LONGEST_PACKET: usize = 65_535;
/// Most bytes that are on their way through the loopback interface at a time.
const LOOPBACK_ROOM: usize = 4 << 20;
const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_ARP: [u8; 2] = [8, 6];

/// The next step of a packet's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Through which interface.
    pub link: Link,
    /// To whom there.
    pub next: Ipv4Addr,
    /// Our address on that way.
    pub source: Ipv4Addr,
    /// Whether it goes to all of a network.
    pub broadcast: bool,
}

/// The interfaces.
pub struct Links<W> {
    loopback: Interface,
    ethernet: Option<(Interface, W)>,
    /// Which way packets go that are not for this machine.
    pub routes: Routes,
    neighbours: Neighbours,
    /// Packets on their way through the loopback interface.
    queue: VecDeque<Vec<u8>>,
    queued: usize,
}

impl<W: Wire> Links<W> {
    /// With a loopback interface that is up, and an Ethernet that is down, if there is any.
    pub fn new(wire: Option<W>) -> Self {
        let mut loopback = Interface::new([0; 6], LONGEST_PACKET);
        loopback.up = true;
        loopback.network = Some(Network { address: Ipv4Addr::LOCALHOST, prefix: 8 });
        let ethernet = wire.map(|wire| (Interface::new(wire.address(), ETHERNET_MTU), wire));
        Self {
            loopback,
            ethernet,
            routes: Routes::default(),
            neighbours: Neighbours::default(),
            queue: VecDeque::new(),
            queued: 0,
        }
    }

    /// An interface, if there is such.
    pub fn get(&self, link: Link) -> Option<&Interface> {
        match link {
            Link::Loopback => Some(&self.loopback),
            Link::Ethernet => self.ethernet.as_ref().map(|(interface, _)| interface),
        }
    }

    /// An interface, to be changed.
    pub fn get_mut(&mut self, link: Link) -> Option<&mut Interface> {
        match link {
            Link::Loopback => Some(&mut self.loopback),
            Link::Ethernet => self.ethernet.as_mut().map(|(interface, _)| interface),
        }
    }

    /// The neighbours on the Ethernet.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// ENODEV.
    pub fn set_up(&mut self, link: Link, up: bool) -> KResult<()> {
        let interface = self.get_mut(link).ok_or(Errno::ENODEV)?;
        if interface.up != up {
            interface.up = up;
            self.renew_routes(link);
        }
        Ok(())
    }

    /// Sets an interface's address and network, or takes it away.
    ///
    /// # Errors
    /// ENODEV.
    pub fn set_network(&mut self, link: Link, network: Option<Network>) -> KResult<()> {
        let interface = self.get_mut(link).ok_or(Errno::ENODEV)?;
        interface.network = network;
        interface.broadcast = match link {
            Link::Loopback => None,
            Link::Ethernet => network.and_then(Network::broadcast),
        };
        self.renew_routes(link);
        Ok(())
    }

    /// An interface with another address or none has no routes but the one to its own network.
    fn renew_routes(&mut self, link: Link) {
        self.routes.remove_link(link);
        if link == Link::Ethernet {
            self.neighbours.clear();
        }
        let Some(Interface { up: true, network: Some(network), .. }) = self.get(link) else { return };
        let to = Network { address: network.first(), prefix: network.prefix };
        if link == Link::Ethernet && network.prefix < 32 {
            // There are none through this interface, so there is room.
            let _ = self.routes.add(Route { to, gateway: None, link, metric: 0 });
        }
    }

    /// Whether packets to `address` are for this machine, wherever they come from.
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        let has = |link| {
            self.get(link).is_some_and(|interface| interface.up && interface.address() == Some(address))
        };
        has(Link::Ethernet) || (self.loopback.up && (address.is_loopback() || has(Link::Loopback)))
    }

    /// Whether a packet to `address` that comes through `link` is for all of a network.
    pub fn is_broadcast(&self, link: Link, address: Ipv4Addr) -> bool {
        address.is_broadcast() || self.get(link).is_some_and(|interface| interface.broadcast == Some(address))
    }

    /// The way to `to`.
    ///
    /// # Errors
    /// ENETUNREACH.
    pub fn hop(&self, to: Ipv4Addr) -> KResult<Hop> {
        // As in Linux, nowhere is here.
        let to = if to.is_unspecified() { Ipv4Addr::LOCALHOST } else { to };
        if self.is_own(to) {
            return Ok(Hop { link: Link::Loopback, next: to, source: to, broadcast: false });
        }
        if to.is_loopback() {
            return Err(Errno::ENETUNREACH);
        }
        if to.is_broadcast() || to.is_multicast() {
            let source =
                self.get(Link::Ethernet).filter(|interface| interface.up).and_then(Interface::address);
            let source = source.ok_or(Errno::ENETUNREACH)?;
            return Ok(Hop { link: Link::Ethernet, next: to, source, broadcast: to.is_broadcast() });
        }
        let route = self.routes.find(to).ok_or(Errno::ENETUNREACH)?;
        let source = self.get(route.link).and_then(Interface::address).ok_or(Errno::ENETUNREACH)?;
        let broadcast = self.is_broadcast(route.link, to);
        Ok(Hop { link: route.link, next: route.gateway.unwrap_or(to), source, broadcast })
    }

    /// Sends the packet that follows the first [`ETHERNET_HEADER`] bytes of `frame`. It may be lost.
    pub fn send(&mut self, now: Nanoseconds, link: Link, next: Ipv4Addr, frame: &mut [u8]) {
        match link {
            Link::Loopback => self.send_back(&frame[ETHERNET_HEADER..]),
            Link::Ethernet => self.send_out(now, next, frame),
        }
    }

    fn send_back(&mut self, packet: &[u8]) {
        let mut copy = Vec::new();
        let room = self.loopback.up && self.queued + packet.len() <= LOOPBACK_ROOM;
        if !room || copy.try_reserve_exact(packet.len()).is_err() || self.queue.try_reserve(1).is_err() {
            self.loopback.sent.dropped += 1;
            return;
        }
        copy.extend_from_slice(packet);
        self.queued += packet.len();
        self.loopback.sent.add(packet.len());
        self.queue.push_back(copy);
    }

    fn send_out(&mut self, now: Nanoseconds, next: Ipv4Addr, frame: &mut [u8]) {
        let Some((interface, wire)) = &mut self.ethernet else { return };
        if !interface.up || frame.len() > ETHERNET_HEADER + interface.mtu {
            interface.sent.dropped += 1;
            return;
        }
        frame[6..12].copy_from_slice(&interface.hardware);
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        let to = if next.is_broadcast() || interface.broadcast == Some(next) {
            BROADCAST
        } else if next.is_multicast() {
            let [_, b, c, d] = next.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        } else {
            let (resolved, ask) = self.neighbours.resolve(now, next, frame);
            if ask {
                send_question(interface, wire, next);
            }
            match resolved {
                Resolved::Known(hardware) => hardware,
                Resolved::Kept => return,
                Resolved::Dropped => {
                    interface.sent.dropped += 1;
                    return;
                }
            }
        };
        frame[..6].copy_from_slice(&to);
        transmit(interface, wire, frame);
    }

    /// Sends a frame that is made up already. It may be lost.
    pub fn send_frame(&mut self, frame: &[u8]) {
        if let Some((interface, wire)) = &mut self.ethernet {
            transmit(interface, wire, frame);
        }
    }

    /// The next packet on its way through the loopback interface.
    pub fn take_looped(&mut self) -> Option<Vec<u8>> {
        let packet = self.queue.pop_front()?;
        self.queued -= packet.len();
        self.loopback.received.add(packet.len());
        Some(packet)
    }

    /// Copies the next frame from the Ethernet to `to`; returns its length.
    pub fn receive(&mut self, to: &mut [u8]) -> Option<usize> {
        let (interface, wire) = self.ethernet.as_mut()?;
        let length = wire.receive(|frame| {
            let fits = frame.len() <= to.len();
            if fits {
                to[..frame.len()].copy_from_slice(frame);
            }
            if fits { frame.len() } else { 0 }
        })?;
        if length < ETHERNET_HEADER || !interface.up {
            interface.received.errors += u64::from(interface.up);
            return Some(0);
        }
        interface.received.add(length);
        Some(length)
    }

    /// Looks below IP: does what a frame asks for, unless it has an IP packet for this interface.
    pub fn is_packet(&mut self, now: Nanoseconds, frame: &[u8]) -> bool {
        let Some((interface, _)) = &self.ethernet else { return false };
        let Some((header, payload)) = frame.split_first_chunk::<ETHERNET_HEADER>() else { return false };
        let multicast = header[0] & 1 != 0;
        if !multicast && header[..6] != interface.hardware {
            return false;
        }
        match [header[12], header[13]] {
            ETHERTYPE_IPV4 => true,
            ETHERTYPE_ARP => {
                if let Some(arp) = Arp::read(payload) {
                    self.answer(now, arp);
                }
                false
            }
            _ => false,
        }
    }

    fn answer(&mut self, now: Nanoseconds, arp: Arp) {
        let Some((interface, wire)) = &mut self.ethernet else { return };
        let for_us = interface.up && interface.address() == Some(arp.target);
        let (address, hardware) = arp.from;
        if address.is_unspecified() || interface.address() == Some(address) {
            // Somebody wants to know whether an address is free.
            if for_us && arp.asks && address.is_unspecified() {
                let own = (arp.target, interface.hardware);
                transmit(interface, wire, &Arp { asks: false, from: own, target: address }.frame(hardware));
            }
            return;
        }
        if for_us && arp.asks {
            let own = (arp.target, interface.hardware);
            transmit(interface, wire, &Arp { asks: false, from: own, target: address }.frame(hardware));
        }
        let waiting = self.neighbours.heard(now, address, hardware, for_us && arp.asks);
        for mut frame in waiting {
            frame[..6].copy_from_slice(&hardware);
            transmit(interface, wire, &frame);
        }
    }

    /// When [`Self::run`] has something to do next.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        self.neighbours.deadline()
    }

    /// Does what is due by now; returns a frame that nobody took, until there is none.
    pub fn run(&mut self, now: Nanoseconds) -> VecDeque<Vec<u8>> {
        let Some((interface, wire)) = &mut self.ethernet else { return VecDeque::new() };
        while let Some(due) = self.neighbours.due(now) {
            match due {
                Due::Ask(address) => send_question(interface, wire, address),
                Due::Unreachable(frames) if frames.is_empty() => {}
                Due::Unreachable(frames) => return frames,
            }
        }
        VecDeque::new()
    }
}

fn transmit<W: Wire>(interface: &mut Interface, wire: &mut W, frame: &[u8]) {
    if wire.transmit(frame) {
        interface.sent.add(frame.len());
    } else {
        interface.sent.dropped += 1;
    }
}

fn send_question<W: Wire>(interface: &mut Interface, wire: &mut W, about: Ipv4Addr) {
    let Some(own) = interface.address() else { return };
    let question = Arp { asks: true, from: (own, interface.hardware), target: about };
    transmit(interface, wire, &question.frame(BROADCAST));
}
