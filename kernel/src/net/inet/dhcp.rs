//! An address from whoever gives them out on the Ethernet (RFC 2131). The protocol machine is smoltcp's.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use platform::Nanoseconds;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{DeviceCapabilities, Medium};
use smoltcp::socket::dhcpv4::{Event, Socket};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use super::engine::{Slot, capabilities, instant, nanoseconds};
use super::interface::{Link, Network};
use super::links::Links;
use super::routes::Route;
use super::stack::udp_destination;
use super::wire::{ETHERNET_HEADER, ETHERNET_MTU, Wire};

/// The client's port.
const PORT: u16 = 68;
const ARP: [u8; 2] = [8, 6];

/// What was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Our address.
    pub network: Network,
    /// Who passes packets on to elsewhere.
    pub router: Option<Ipv4Addr>,
    /// Who knows names.
    pub name_servers: Vec<Ipv4Addr>,
    /// Who gave it.
    pub server: Ipv4Addr,
}

/// Asks for an address and keeps it.
pub struct Dhcp {
    interface: Interface,
    capabilities: DeviceCapabilities,
    set: SocketSet<'static>,
    handle: SocketHandle,
    frame: Box<[u8]>,
    deadline: Option<Nanoseconds>,
    /// What it has been given.
    pub lease: Option<Lease>,
}

impl Dhcp {
    /// For the interface with this address, which must be up. [`Self::run`] sends the first question.
    pub fn new(hardware: [u8; 6], now: Nanoseconds, seed: u64) -> Self {
        let capabilities = capabilities(Medium::Ethernet, ETHERNET_HEADER + ETHERNET_MTU, true);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(hardware)));
        config.random_seed = seed;
        let mut slot = Slot::new(&capabilities, None, &mut []);
        let interface = Interface::new(config, &mut slot, instant(now));
        let mut set = SocketSet::new(Vec::new());
        let handle = set.add(Socket::new());
        let frame = alloc::vec![0; ETHERNET_HEADER + ETHERNET_MTU].into_boxed_slice();
        Self { interface, capabilities, set, handle, frame, deadline: Some(now), lease: None }
    }

    /// Looks at a frame that has come; says whether it is for nobody else.
    pub fn input<W: Wire>(&mut self, now: Nanoseconds, frame: &[u8], links: &mut Links<W>) -> bool {
        let ours = udp_destination(frame) == Some(PORT);
        // To keep the address, it asks for the server's hardware address itself.
        let answer = frame.len() > 21 && frame[12..14] == ARP && frame[20..22] == [0, 2];
        let wanted = ours || (answer && self.lease.is_some());
        if !wanted {
            return false;
        }
        let mut slot = Slot::new(&self.capabilities, Some(frame), &mut self.frame);
        self.interface.poll_ingress_single(instant(now), &mut slot, &mut self.set);
        let sent = slot.sent;
        if let Some(length) = sent {
            links.send_frame(&self.frame[..length]);
        }
        self.run(now, links);
        ours
    }

    /// Does what is due by now.
    pub fn run<W: Wire>(&mut self, now: Nanoseconds, links: &mut Links<W>) {
        loop {
            let mut slot = Slot::new(&self.capabilities, None, &mut self.frame);
            let result = self.interface.poll_egress(instant(now), &mut slot, &mut self.set);
            let sent = slot.sent;
            match sent {
                Some(length) if result != PollResult::None => links.send_frame(&self.frame[..length]),
                // The address of a neighbour was asked for.
                Some(length) => {
                    links.send_frame(&self.frame[..length]);
                    break;
                }
                None => break,
            }
        }
        self.apply(links);
        let next = self.interface.poll_at(instant(now), &self.set).map(nanoseconds);
        self.deadline = next.map(|next| next.max(now + Nanoseconds::from_millis(1)));
    }

    fn apply<W: Wire>(&mut self, links: &mut Links<W>) {
        let lease = match self.set.get_mut::<Socket<'static>>(self.handle).poll() {
            None => return,
            Some(Event::Deconfigured) => None,
            Some(Event::Configured(config)) => Some(Lease {
                network: Network { address: config.address.address(), prefix: config.address.prefix_len() },
                router: config.router,
                name_servers: config.dns_servers.iter().copied().collect(),
                server: config.server.identifier,
            }),
        };
        let address = self.lease.as_ref().map(|lease| lease.network);
        if lease.is_none() && address.is_none() {
            return;
        }
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            if let Some(Lease { network, .. }) = &lease {
                // There is room for more than one.
                let _ = addresses.push(IpCidr::new(network.address.into(), network.prefix));
            }
        });
        match &lease {
            Some(lease) => lease.apply(self.lease.as_ref(), links),
            None => {
                log::warn!("eth0: the address given by DHCP is lost");
                let _ = links.set_network(Link::Ethernet, None);
            }
        }
        self.lease = lease;
    }

    /// When [`Self::run`] has something to do next.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        self.deadline
    }
}

impl Lease {
    /// Uses it, after the one of `before`.
    fn apply<W: Wire>(&self, before: Option<&Self>, links: &mut Links<W>) {
        let Network { address, prefix } = self.network;
        match self.router {
            Some(router) => {
                log::info!("eth0: {address}/{prefix} by DHCP from {}, router {router}", self.server)
            }
            None => log::info!("eth0: {address}/{prefix} by DHCP from {}", self.server),
        }
        for server in &self.name_servers {
            log::info!("eth0: name server {server}");
        }
        let default =
            |gateway| Route { to: Network::ALL, gateway: Some(gateway), link: Link::Ethernet, metric: 0 };
        let has = links.get(Link::Ethernet).and_then(|interface| interface.network) == Some(self.network);
        let router_before = before.and_then(|lease| lease.router).filter(|_| has);
        if has && router_before == self.router {
            return;
        }
        // Another address takes the routes with it, another router its own alone.
        let set = if has { Ok(()) } else { links.set_network(Link::Ethernet, Some(self.network)) };
        if let Some(route) = router_before.map(default) {
            links.routes.remove(|other| *other == route);
        }
        let route = self.router.map(default);
        if let Err(error) = set.and_then(|()| route.map_or(Ok(()), |route| links.routes.add(route))) {
            log::warn!("eth0: the address given by DHCP cannot be used: {error}");
        }
    }
}
