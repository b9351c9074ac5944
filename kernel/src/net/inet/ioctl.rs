//! Device control of sockets: interfaces and routes (`netdevice(7)`), as `ifconfig` and `route` do it.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::address::{BYTES, encode, from_bytes};
use super::interface::{self, Interface, Link};
use super::links::Links;
use super::routes::Route;
use super::service::with;
use super::socket::{Socket, Which};
use crate::devices::network::Network;
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::current;
use crate::syscall::SysResult;

/// Requests (Linux include/uapi/linux/sockios.h and asm-generic/ioctls.h).
mod request {
    pub const UNREAD: u32 = 0x541b;
    pub const UNSENT: u32 = 0x5411;
    pub const ADD_ROUTE: u32 = 0x890b;
    pub const DELETE_ROUTE: u32 = 0x890c;
    pub const GET_NAME: u32 = 0x8910;
    pub const GET_ALL: u32 = 0x8912;
    pub const GET_FLAGS: u32 = 0x8913;
    pub const SET_FLAGS: u32 = 0x8914;
    pub const GET_ADDRESS: u32 = 0x8915;
    pub const SET_ADDRESS: u32 = 0x8916;
    pub const GET_DESTINATION: u32 = 0x8917;
    pub const GET_BROADCAST: u32 = 0x8919;
    pub const SET_BROADCAST: u32 = 0x891a;
    pub const GET_MASK: u32 = 0x891b;
    pub const SET_MASK: u32 = 0x891c;
    pub const GET_METRIC: u32 = 0x891d;
    pub const GET_MTU: u32 = 0x8921;
    pub const SET_MTU: u32 = 0x8922;
    pub const GET_HARDWARE: u32 = 0x8927;
    pub const GET_INDEX: u32 = 0x8933;
    pub const GET_QUEUE_LENGTH: u32 = 0x8942;
    pub const GET_MAP: u32 = 0x8970;
}

/// Flags of interfaces (Linux include/uapi/linux/if.h).
mod flag {
    pub const UP: u16 = 0x1;
    pub const BROADCAST: u16 = 0x2;
    pub const LOOPBACK: u16 = 0x8;
    pub const RUNNING: u16 = 0x40;
    pub const MULTICAST: u16 = 0x1000;
}

const ROUTE_GATEWAY: u16 = 0x2;
const ROUTE_HOST: u16 = 0x4;
/// Kinds of hardware address (Linux include/uapi/linux/if_arp.h).
const HARDWARE_ETHERNET: u16 = 1;
const HARDWARE_LOOPBACK: u16 = 772;
/// Least that every network must carry (RFC 791).
const LEAST_MTU: usize = 68;
const NAME_BYTES: usize = 16;

/// `struct ifreq`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    value: [u8; 24],
}

/// `struct ifconf`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct All {
    length: i32,
    padding: u32,
    buffer: u64,
}

/// `struct rtentry`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RouteEntry {
    padding1: u64,
    destination: [u8; BYTES],
    gateway: [u8; BYTES],
    mask: [u8; BYTES],
    flags: u16,
    padding2: [u16; 3],
    padding3: [u64; 2],
    /// One more than the metric, or 0.
    metric: i16,
    padding4: [u16; 3],
    device: u64,
    mtu: u64,
    window: u64,
    round_trip: u16,
    padding5: [u16; 3],
}

const _: () = assert!(size_of::<Request>() == 40 && size_of::<RouteEntry>() == 120);

/// `ioctl(2)` on an Internet socket.
///
/// # Errors
/// ENOTTY for what is unknown, ENODEV, EADDRNOTAVAIL, EPERM, EINVAL, EFAULT.
pub fn ioctl(socket: &Socket, request: u32, argument: UserAddr) -> SysResult {
    match request {
        request::UNREAD if socket.listens()? => return Err(Errno::EINVAL),
        request::UNREAD => argument.write(&(socket.shared().unread() as i32))?,
        request::UNSENT => match socket.which() {
            Which::Stream(_) => argument.write(&(socket.shared().unsent() as i32))?,
            // What they send is gone at once.
            Which::Datagram(..) => argument.write(&0i32)?,
        },
        request::ADD_ROUTE | request::DELETE_ROUTE => change_route(request, argument)?,
        request::GET_ALL => get_all(argument)?,
        request::SET_FLAGS
        | request::SET_ADDRESS
        | request::SET_BROADCAST
        | request::SET_MASK
        | request::SET_MTU => {
            check_privilege()?;
            let asked: Request = argument.read()?;
            with(|stack| set(&mut stack.links, request, &asked))?;
        }
        request::GET_NAME
        | request::GET_FLAGS
        | request::GET_ADDRESS
        | request::GET_DESTINATION
        | request::GET_BROADCAST
        | request::GET_MASK
        | request::GET_METRIC
        | request::GET_MTU
        | request::GET_HARDWARE
        | request::GET_INDEX
        | request::GET_QUEUE_LENGTH
        | request::GET_MAP => {
            let mut asked: Request = argument.read()?;
            with(|stack| get(&stack.links, request, &mut asked))?;
            argument.write(&asked)?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn check_privilege() -> KResult<()> {
    if current().process.credentials().is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// The interface with this name, whatever follows a colon in it.
fn named(name: &[u8]) -> KResult<Link> {
    let end = name.iter().position(|&byte| byte == 0 || byte == b':').unwrap_or(name.len());
    Link::ALL.into_iter().find(|link| link.name().as_bytes() == &name[..end]).ok_or(Errno::ENODEV)
}

fn name_bytes(link: Link) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    bytes[..link.name().len()].copy_from_slice(link.name().as_bytes());
    bytes
}

fn value(bytes: &[u8]) -> [u8; 24] {
    let mut value = [0; 24];
    value[..bytes.len()].copy_from_slice(bytes);
    value
}

fn address_value(address: Ipv4Addr) -> [u8; 24] {
    value(&encode(SocketAddrV4::new(address, 0)))
}

fn flags(link: Link, interface: &Interface) -> u16 {
    let kind = match link {
        Link::Loopback => flag::LOOPBACK,
        Link::Ethernet => flag::BROADCAST | flag::MULTICAST,
    };
    kind | if interface.up { flag::UP | flag::RUNNING } else { 0 }
}

fn get(links: &Links<Network>, request: u32, asked: &mut Request) -> KResult<()> {
    if request == request::GET_NAME {
        let index = i32::from_ne_bytes([asked.value[0], asked.value[1], asked.value[2], asked.value[3]]);
        let is_there = |link: &Link| link.index() == index && links.get(*link).is_some();
        asked.name = name_bytes(Link::ALL.into_iter().find(is_there).ok_or(Errno::ENODEV)?);
        return Ok(());
    }
    let link = named(&asked.name)?;
    let interface = links.get(link).ok_or(Errno::ENODEV)?;
    let network = interface.network.ok_or(Errno::EADDRNOTAVAIL);
    asked.value = match request {
        request::GET_FLAGS => value(&flags(link, interface).to_ne_bytes()),
        request::GET_ADDRESS | request::GET_DESTINATION => address_value(network?.address),
        request::GET_MASK => address_value(network?.mask()),
        request::GET_BROADCAST => {
            network?;
            address_value(interface.broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED))
        }
        request::GET_METRIC | request::GET_MAP => [0; 24],
        request::GET_MTU => value(&(interface.mtu as i32).to_ne_bytes()),
        request::GET_INDEX => value(&link.index().to_ne_bytes()),
        request::GET_QUEUE_LENGTH => value(&1000i32.to_ne_bytes()),
        request::GET_HARDWARE => {
            let kind = match link {
                Link::Loopback => HARDWARE_LOOPBACK,
                Link::Ethernet => HARDWARE_ETHERNET,
            };
            let mut bytes = value(&kind.to_ne_bytes());
            bytes[2..8].copy_from_slice(&interface.hardware);
            bytes
        }
        _ => return Err(Errno::ENOTTY),
    };
    Ok(())
}

fn address_in(value: &[u8; 24]) -> KResult<Ipv4Addr> {
    let bytes = value.first_chunk().ok_or(Errno::EINVAL)?;
    from_bytes(bytes).map(|address| *address.ip()).ok_or(Errno::EINVAL)
}

fn set(links: &mut Links<Network>, request: u32, asked: &Request) -> KResult<()> {
    let link = named(&asked.name)?;
    let interface = links.get_mut(link).ok_or(Errno::ENODEV)?;
    match request {
        request::SET_FLAGS => {
            let up = u16::from_ne_bytes([asked.value[0], asked.value[1]]) & flag::UP != 0;
            links.set_up(link, up)
        }
        request::SET_ADDRESS => {
            let address = address_in(&asked.value)?;
            if address.is_multicast() || address.is_broadcast() {
                return Err(Errno::EINVAL);
            }
            let network = (!address.is_unspecified()).then(|| interface::Network::by_class(address));
            links.set_network(link, network)
        }
        request::SET_MASK => {
            let prefix = interface::Network::prefix_of(address_in(&asked.value)?).ok_or(Errno::EINVAL)?;
            let address = interface.address().ok_or(Errno::EADDRNOTAVAIL)?;
            links.set_network(link, Some(interface::Network { address, prefix }))
        }
        request::SET_BROADCAST => {
            let address = address_in(&asked.value)?;
            if interface.network.is_none() {
                return Err(Errno::EADDRNOTAVAIL);
            }
            interface.broadcast = (!address.is_unspecified()).then_some(address);
            Ok(())
        }
        request::SET_MTU => {
            let mtu = i32::from_ne_bytes([asked.value[0], asked.value[1], asked.value[2], asked.value[3]]);
            // Packets are cut for what the device takes.
            if mtu as usize == interface.mtu { Ok(()) } else { Err(too_odd(mtu)) }
        }
        _ => Err(Errno::ENOTTY),
    }
}

fn too_odd(mtu: i32) -> Errno {
    if usize::try_from(mtu).is_ok_and(|mtu| mtu >= LEAST_MTU) { Errno::EOPNOTSUPP } else { Errno::EINVAL }
}

/// Tells all interfaces with an address; asked without a buffer, how much room they need.
fn get_all(argument: UserAddr) -> KResult<()> {
    let mut all: All = argument.read()?;
    let found = with(|stack| {
        let address =
            |link| stack.links.get(link).and_then(Interface::address).map(|address| (link, address));
        Ok(Link::ALL.into_iter().filter_map(address).collect::<Vec<_>>())
    })?;
    let step = size_of::<Request>();
    let room = usize::try_from(all.length).map_err(|_| Errno::EINVAL)? / step;
    let count = if all.buffer == 0 { found.len() } else { found.len().min(room) };
    if all.buffer != 0 {
        for (index, (link, address)) in found.into_iter().take(count).enumerate() {
            let entry = Request { name: name_bytes(link), value: address_value(address) };
            UserAddr(all.buffer).offset((index * step) as u64).write(&entry)?;
        }
    }
    all.length = (count * step) as i32;
    argument.write(&all)
}

fn change_route(request: u32, argument: UserAddr) -> KResult<()> {
    check_privilege()?;
    let entry: RouteEntry = argument.read()?;
    let device = match entry.device {
        0 => None,
        at => Some(named(&UserAddr(at).read_string(NAME_BYTES, Errno::ENODEV)?)?),
    };
    let destination = *from_bytes(&entry.destination).ok_or(Errno::EAFNOSUPPORT)?.ip();
    let mask = from_bytes(&entry.mask).map_or(Ipv4Addr::UNSPECIFIED, |mask| *mask.ip());
    let prefix = match entry.flags & ROUTE_HOST {
        0 => interface::Network::prefix_of(mask).ok_or(Errno::EINVAL)?,
        _ => 32,
    };
    let to = interface::Network { address: destination, prefix };
    if to.first() != destination {
        return Err(Errno::EINVAL);
    }
    let gateway = match entry.flags & ROUTE_GATEWAY {
        0 => None,
        _ => Some(*from_bytes(&entry.gateway).ok_or(Errno::EINVAL)?.ip()),
    };
    let metric = entry.metric.max(0) as u32;
    with(|stack| {
        let links = &mut stack.links;
        if request == request::DELETE_ROUTE {
            let unwanted = |route: &Route| {
                route.to == to
                    && gateway.is_none_or(|gateway| route.gateway == Some(gateway))
                    && device.is_none_or(|device| route.link == device)
                    && (metric == 0 || route.metric == metric - 1)
            };
            return if links.routes.remove(unwanted) { Ok(()) } else { Err(Errno::ESRCH) };
        }
        let link = match (device, gateway) {
            (Some(link), _) => link,
            (None, Some(gateway)) => {
                // Who passes packets on must be reached without anybody's help.
                let way = links.routes.find(gateway).filter(|route| route.gateway.is_none());
                way.ok_or(Errno::ENETUNREACH)?.link
            }
            (None, None) => return Err(Errno::ENODEV),
        };
        if !links.get(link).is_some_and(|interface| interface.up) {
            return Err(Errno::ENETDOWN);
        }
        links.routes.add(Route { to, gateway, link, metric: metric.saturating_sub(1) })
    })
}
