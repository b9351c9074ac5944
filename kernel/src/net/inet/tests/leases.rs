//! An address by DHCP: asked for, kept while its server answers or another does, and lost in the end. Time passes as fast as
//! anything happens in it.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use platform::Nanoseconds;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket,
    DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet,
    Ipv4Repr, UdpPacket, UdpRepr,
};

use super::super::dhcp::Dhcp;
use super::super::interface::{Link, Network};
use super::super::stack::Stack;
use super::world::{Cable, Frames, seconds};

/// The machine's own.
const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 7]);
/// How long an address is given for.
const LEASE: u64 = 1000;

/// What a server was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// Who gives addresses?
    Discover,
    /// The address that was offered, by the server of this number.
    Select(usize),
    /// To keep the address, of the server of this number alone.
    Renew(usize),
    /// The same of any.
    Rebind,
}

struct Server {
    address: Ipv4Addr,
    gives: Ipv4Addr,
    router: Ipv4Addr,
    /// It is there.
    answers: bool,
    /// It says no to whoever wants to keep an address.
    refuses: bool,
}

impl Server {
    fn new(last: u8, gives: u8) -> Self {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let (gives, router) = (address(gives), address(254));
        Self { address: address(last), gives, router, answers: true, refuses: false }
    }

    fn hardware(&self) -> EthernetAddress {
        EthernetAddress([2, 0, 0, 0, 1, self.address.octets()[3]])
    }
}

/// A machine and the servers on its Ethernet.
struct Ether {
    stack: Stack<Cable>,
    sent: Frames,
    come: Frames,
    servers: Vec<Server>,
    now: Nanoseconds,
    /// When what was asked.
    asked: Vec<(u64, Asked)>,
    /// Frames of the machine, whatever they were.
    frames: usize,
}

impl Ether {
    fn new(servers: impl IntoIterator<Item = Server>) -> Self {
        let (sent, come) = (Frames::default(), Frames::default());
        let cable = Cable { address: HARDWARE.0, sent: sent.clone(), come: come.clone() };
        let mut stack = Stack::new(Some(cable), Nanoseconds::ZERO, 5);
        stack.links.set_up(Link::Ethernet, true).unwrap();
        stack.dhcp = Some(Dhcp::new(HARDWARE.0, Nanoseconds::ZERO, 5));
        stack.run();
        let servers = servers.into_iter().collect();
        let mut ether =
            Self { stack, sent, come, servers, now: Nanoseconds::ZERO, asked: Vec::new(), frames: 0 };
        ether.pass(1);
        ether
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, time: u64) {
        let end = self.now + seconds(time);
        loop {
            self.serve();
            while self.stack.receive() {}
            self.stack.run();
            if !self.sent.lock().unwrap().is_empty() {
                continue;
            }
            let Some(next) = self.stack.deadline().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.stack.begin(self.now);
            self.stack.run();
        }
        self.now = end;
        self.stack.begin(end);
    }

    /// Answers what the machine has sent.
    fn serve(&mut self) {
        let frames: Vec<_> = self.sent.lock().unwrap().drain(..).collect();
        self.frames += frames.len();
        for frame in frames {
            let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
            assert_eq!(ethernet.src_addr(), HARDWARE);
            match ethernet.ethertype() {
                EthernetProtocol::Arp => self.resolve(ethernet.payload()),
                _ => self.answer(&ethernet),
            }
        }
    }

    fn resolve(&mut self, packet: &[u8]) {
        let asked = ArpRepr::parse(&ArpPacket::new_checked(packet).unwrap()).unwrap();
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = asked
        else {
            return;
        };
        let there = |server: &&Server| server.answers && server.address == target_protocol_addr;
        let Some(server) = self.servers.iter().find(there) else { return };
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: server.hardware(),
            source_protocol_addr: server.address,
            target_hardware_addr: HARDWARE,
            target_protocol_addr: source_protocol_addr,
        };
        let mut bytes = frame(server.hardware(), EthernetProtocol::Arp, reply.buffer_len());
        reply.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
        self.come.lock().unwrap().push_back(bytes);
    }

    fn answer(&mut self, ethernet: &EthernetFrame<&[u8]>) {
        let checked = ChecksumCapabilities::default();
        let packet = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
        let ip = Ipv4Repr::parse(&packet, &checked).unwrap();
        let Ok(datagram) = UdpPacket::new_checked(packet.payload()) else { return };
        if datagram.dst_port() != DHCP_SERVER_PORT {
            return;
        }
        let dhcp = DhcpPacket::new_checked(datagram.payload()).unwrap();
        let question = DhcpRepr::parse(&dhcp).unwrap();
        let number = |address| self.servers.iter().position(|server| server.address == address).unwrap();
        let asked = match (question.message_type, question.server_identifier, ip.dst_addr) {
            (DhcpMessageType::Discover, ..) => Asked::Discover,
            (DhcpMessageType::Request, Some(server), _) => Asked::Select(number(server)),
            (DhcpMessageType::Request, None, Ipv4Addr::BROADCAST) => Asked::Rebind,
            (DhcpMessageType::Request, None, server) => Asked::Renew(number(server)),
            other => panic!("{other:?}"),
        };
        if matches!(asked, Asked::Renew(_) | Asked::Rebind) {
            assert_eq!((question.client_ip, ip.src_addr), (self.address().unwrap(), question.client_ip));
            assert_eq!(question.requested_ip, None);
        }
        self.asked.push((self.now.seconds(), asked));
        for (index, server) in self.servers.iter().enumerate().filter(|(_, server)| server.answers) {
            let reply = match asked {
                Asked::Discover => DhcpMessageType::Offer,
                Asked::Select(of) | Asked::Renew(of) if of != index => continue,
                Asked::Renew(_) | Asked::Rebind if server.refuses => DhcpMessageType::Nak,
                _ => DhcpMessageType::Ack,
            };
            let given = if question.client_ip.is_unspecified() { server.gives } else { question.client_ip };
            self.come.lock().unwrap().push_back(server.reply(&question, reply, given));
        }
    }

    fn network(&self) -> Option<Network> {
        self.stack.links.get(Link::Ethernet).unwrap().network
    }

    fn address(&self) -> Option<Ipv4Addr> {
        self.network().map(|network| network.address)
    }

    /// Through whom packets go elsewhere.
    fn router(&self) -> Option<Ipv4Addr> {
        let all = self.stack.links.routes.iter();
        all.filter(|route| route.to == Network::ALL).find_map(|route| route.gateway)
    }

    /// What was asked since this was called last.
    fn take_asked(&mut self) -> Vec<(u64, Asked)> {
        core::mem::take(&mut self.asked)
    }
}

impl Server {
    fn reply(&self, question: &DhcpRepr<'_>, kind: DhcpMessageType, given: Ipv4Addr) -> Vec<u8> {
        let gives = kind != DhcpMessageType::Nak;
        let dhcp = DhcpRepr {
            message_type: kind,
            your_ip: if gives { given } else { Ipv4Addr::UNSPECIFIED },
            client_ip: question.client_ip,
            server_identifier: Some(self.address),
            router: gives.then_some(self.router),
            subnet_mask: gives.then_some(Ipv4Addr::new(255, 255, 255, 0)),
            lease_duration: gives.then_some(LEASE as u32),
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            requested_ip: None,
            ..question.clone()
        };
        let udp = UdpRepr { src_port: DHCP_SERVER_PORT, dst_port: DHCP_CLIENT_PORT };
        let ip = Ipv4Repr {
            src_addr: self.address,
            dst_addr: Ipv4Addr::BROADCAST,
            next_header: IpProtocol::Udp,
            payload_len: udp.header_len() + dhcp.buffer_len(),
            hop_limit: 64,
        };
        let checked = ChecksumCapabilities::default();
        let mut bytes = frame(self.hardware(), EthernetProtocol::Ipv4, ip.buffer_len() + ip.payload_len);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        ip.emit(&mut packet, &checked);
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &self.address.into(),
            &Ipv4Addr::BROADCAST.into(),
            dhcp.buffer_len(),
            |payload| dhcp.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap(),
            &checked,
        );
        bytes
    }
}

/// A frame for the machine, with room behind its header.
fn frame(from: EthernetAddress, ethertype: EthernetProtocol, bytes: usize) -> Vec<u8> {
    let ethernet = EthernetRepr { src_addr: from, dst_addr: HARDWARE, ethertype };
    let mut frame = alloc::vec![0; EthernetRepr::buffer_len(&ethernet) + bytes];
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame));
    frame
}

#[test]
fn an_address_is_kept_while_its_server_answers() {
    let mut ether = Ether::new([Server::new(1, 50)]);
    assert_eq!(ether.take_asked(), [(0, Asked::Discover), (0, Asked::Select(0))]);
    let given = Some(Network { address: Ipv4Addr::new(10, 0, 0, 50), prefix: 24 });
    assert_eq!((ether.network(), ether.router()), (given, Some(Ipv4Addr::new(10, 0, 0, 254))));
    // Four times as long as it was given for: half of that passes each time before it is asked again.
    ether.pass(4 * LEASE);
    assert_eq!((ether.network(), ether.router()), (given, Some(Ipv4Addr::new(10, 0, 0, 254))));
    let asked = ether.take_asked();
    let renewals: Vec<_> = (1..=8).map(|turn| (turn * LEASE / 2, Asked::Renew(0))).collect();
    assert_eq!(asked, renewals);
    // A question, an answer, and at times the server's hardware address.
    assert!(ether.frames < 30, "{} frames", ether.frames);
}

#[test]
fn another_server_keeps_it_when_the_first_is_gone() {
    let mut ether = Ether::new([Server::new(1, 50)]);
    let given = ether.network();
    ether.take_asked();
    ether.servers[0].answers = false;
    ether.servers.push(Server::new(2, 60));
    ether.pass(LEASE * 7 / 8 - 2);
    assert_eq!(ether.network(), given);
    assert!(ether.take_asked().is_empty(), "nobody answers who has the server's address");
    ether.pass(10);
    let asked = ether.take_asked();
    assert_eq!(asked, [(LEASE * 7 / 8, Asked::Rebind)]);
    ether.pass(LEASE / 4);
    assert_eq!(ether.network(), given, "it was lost though another server has said yes");
    // One frame a second and not more, while nobody answers.
    assert!(ether.frames < LEASE as usize / 2, "{} frames", ether.frames);
}

#[test]
fn an_address_is_lost_in_the_end_and_another_asked_for() {
    let mut ether = Ether::new([Server::new(1, 50)]);
    ether.take_asked();
    ether.servers[0].answers = false;
    ether.pass(LEASE - 3);
    assert!(ether.network().is_some(), "it is lost too early");
    assert!(ether.take_asked().iter().all(|asked| asked.1 == Asked::Rebind));
    ether.pass(4);
    assert_eq!((ether.network(), ether.router()), (None, None), "it is kept beyond its time");
    ether.pass(120);
    let asked = ether.take_asked();
    assert!(asked.iter().all(|asked| asked.1 == Asked::Discover), "{asked:?}");
    assert!((8..20).contains(&asked.len()), "{asked:?}");
    ether.servers[0].answers = true;
    ether.servers[0].gives = Ipv4Addr::new(10, 0, 0, 51);
    ether.pass(20);
    assert_eq!(ether.address(), Some(Ipv4Addr::new(10, 0, 0, 51)));
    assert_eq!(ether.router(), Some(Ipv4Addr::new(10, 0, 0, 254)));
}

#[test]
fn an_address_that_is_refused_is_given_up_at_once() {
    let mut ether = Ether::new([Server::new(1, 50)]);
    ether.take_asked();
    ether.servers[0].refuses = true;
    ether.servers[0].gives = Ipv4Addr::new(10, 0, 0, 51);
    ether.pass(LEASE / 2 + 30);
    let asked: Vec<_> = ether.take_asked().into_iter().map(|asked| asked.1).collect();
    assert_eq!(asked, [Asked::Renew(0), Asked::Discover, Asked::Select(0)]);
    assert_eq!(ether.address(), Some(Ipv4Addr::new(10, 0, 0, 51)));
}

#[test]
fn a_renewal_may_name_another_router() {
    let mut ether = Ether::new([Server::new(1, 50)]);
    ether.servers[0].router = Ipv4Addr::new(10, 0, 0, 253);
    ether.pass(LEASE / 2 + 30);
    assert_eq!(ether.address(), Some(Ipv4Addr::new(10, 0, 0, 50)));
    assert_eq!(ether.router(), Some(Ipv4Addr::new(10, 0, 0, 253)));
}
