//! What `/proc/net` tells.

use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::address::NOWHERE;
use super::configuration;
use super::datagram::Kind;
use super::interface::{Counters, Link};
use super::service::with;
use super::stack::Stack;
use crate::devices::network::Network;
use crate::errno::KResult;
use crate::fs::proc::text::{Text, put};

/// Writes a file's content while the stack stands still.
fn text(write: impl FnOnce(&mut Text, &mut Stack<Network>)) -> KResult<Vec<u8>> {
    with(|stack| {
        let mut text = Text::new();
        write(&mut text, stack);
        text.finish()
    })
}

/// An address as these files have it: a number of this machine whose bytes are the address.
fn number(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

struct Shown(SocketAddrV4);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}:{:04X}", number(*self.0.ip()), self.0.port())
    }
}

/// A line that is filled with blanks to `width`.
fn line(out: &mut Text, width: usize, arguments: fmt::Arguments<'_>) {
    out.put_padded(width, arguments);
    out.bytes(b"\n");
}

/// `/proc/net/dev`
///
/// # Errors
/// ENOMEM.
pub fn devices() -> KResult<Vec<u8>> {
    text(|out, stack| {
        let head = concat!(
            "Inter-|   Receive                                                |  Transmit\n",
            " face |bytes    packets errs drop fifo frame compressed multicast",
            "|bytes    packets errs drop fifo colls carrier compressed\n",
        );
        out.bytes(head.as_bytes());
        for link in Link::ALL {
            let Some(interface) = stack.links.get(link) else { continue };
            let Counters { packets, bytes, errors, dropped } = interface.received;
            put!(out, "{:>6}: {bytes:>7} {packets:>7} {errors:>4} {dropped:>4}", link.name());
            put!(out, " {:>4} {:>5} {:>10} {:>9}", 0, 0, 0, 0);
            let Counters { packets, bytes, errors, dropped } = interface.sent;
            put!(out, " {bytes:>8} {packets:>7} {errors:>4} {dropped:>4}");
            put!(out, " {:>4} {:>5} {:>7} {:>10}\n", 0, 0, 0, 0);
        }
    })
}

/// `/proc/net/route`
///
/// # Errors
/// ENOMEM.
pub fn routes() -> KResult<Vec<u8>> {
    const WIDTH: usize = 127;
    text(|out, stack| {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        line(out, WIDTH, format_args!("{head}"));
        for route in stack.links.routes.iter() {
            let gateway = number(route.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED));
            let flags = 1 | u32::from(route.gateway.is_some()) << 1 | u32::from(route.to.prefix == 32) << 2;
            let (to, mask) = (number(route.to.address), number(route.to.mask()));
            let (name, metric) = (route.link.name(), route.metric);
            line(
                out,
                WIDTH,
                format_args!(
                    "{name}\t{to:08X}\t{gateway:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0"
                ),
            );
        }
    })
}

/// `/proc/net/tcp`
///
/// # Errors
/// ENOMEM.
pub fn tcp() -> KResult<Vec<u8>> {
    const WIDTH: usize = 149;
    text(|out, stack| {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        line(out, WIDTH, format_args!("{head}"));
        let known = stack.tcp.iter().filter(|block| block.listener.is_some() || block.connection.is_some());
        for (index, block) in known.enumerate() {
            let (unread, unsent) = match &block.listener {
                Some(listener) => (listener.ready.len(), listener.backlog),
                None => block.queues(),
            };
            let (local, remote) = (Shown(block.local), Shown(block.remote.unwrap_or(NOWHERE)));
            let (state, user) = (block.state() as u8, block.user);
            line(
                out,
                WIDTH,
                format_args!(
                    "{index:4}: {local} {remote} {state:02X} {unsent:08X}:{unread:08X} 00:00000000 00000000 {user:5}        0 0 1 0000000000000000 100 0 0 10 0"
                ),
            );
        }
    })
}

fn datagrams(wanted: fn(Kind) -> bool) -> KResult<Vec<u8>> {
    const WIDTH: usize = 127;
    text(|out, stack| {
        let head = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
        line(out, WIDTH, format_args!("{head}"));
        let known = stack.datagrams.iter().filter(|block| wanted(block.kind));
        for (index, block) in known.enumerate() {
            let shown = match block.kind {
                Kind::Raw(protocol) => SocketAddrV4::new(*block.local.ip(), u8::from(protocol).into()),
                _ => block.local,
            };
            if shown.port() == 0 {
                continue;
            }
            let (local, remote) = (Shown(shown), Shown(block.remote.unwrap_or(NOWHERE)));
            let state = if block.remote.is_some() { 1 } else { 7 };
            let (queued, user, dropped) = (block.queued(), block.user, block.dropped);
            line(
                out,
                WIDTH,
                format_args!(
                    "{index:5}: {local} {remote} {state:02X} 00000000:{queued:08X} 00:00000000 00000000 {user:5}        0 0 2 0000000000000000 {dropped}"
                ),
            );
        }
    })
}

/// `/proc/net/udp`
///
/// # Errors
/// ENOMEM.
pub fn udp() -> KResult<Vec<u8>> {
    datagrams(|kind| kind == Kind::Udp)
}

/// `/proc/net/raw`
///
/// # Errors
/// ENOMEM.
pub fn raw() -> KResult<Vec<u8>> {
    datagrams(|kind| matches!(kind, Kind::Raw(_)))
}

/// `/proc/net/arp`
///
/// # Errors
/// ENOMEM.
pub fn neighbours() -> KResult<Vec<u8>> {
    text(|out, stack| {
        put!(out, "IP address       HW type     Flags       HW address            Mask     Device\n");
        for (address, hardware) in stack.links.neighbours().iter() {
            let flags = if hardware.is_some() { 2 } else { 0 };
            let [a, b, c, d, e, f] = hardware.unwrap_or_default();
            put!(out, "{:<16} 0x1         0x{flags:<10x}", address);
            put!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}     *        eth0\n");
        }
    })
}

/// `/proc/net/pnp`: what the configuration at boot said beyond addresses.
///
/// # Errors
/// ENOMEM.
pub fn configured() -> KResult<Vec<u8>> {
    text(|out, stack| configuration::describe(out, stack))
}
