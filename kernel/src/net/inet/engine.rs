//! The protocol machine of TCP, which is smoltcp's.
//!
//! Each connection has a set of its own with one socket in it, so that a packet and a deadline concern that socket alone,
//! however many there are. An [`Engine`] stands for the interface the connection goes through.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use platform::Nanoseconds;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpEndpoint};

use crate::errno::{Errno, KResult};
use crate::mm::frames;

/// A time as smoltcp has it.
pub fn instant(time: Nanoseconds) -> Instant {
    Instant::from_micros((time.0 / 1000) as i64)
}

/// Back from smoltcp's time, never too early.
pub fn nanoseconds(time: Instant) -> Nanoseconds {
    Nanoseconds((time.total_micros().max(0) as u64).saturating_mul(1000))
}

/// One packet in, at most one out.
pub struct Slot<'a> {
    capabilities: &'a DeviceCapabilities,
    incoming: Option<&'a [u8]>,
    outgoing: &'a mut [u8],
    /// Bytes of the packet that went out.
    pub sent: Option<usize>,
}

impl<'a> Slot<'a> {
    /// With `incoming` to be received, and room at `outgoing` for what goes out.
    pub fn new(
        capabilities: &'a DeviceCapabilities,
        incoming: Option<&'a [u8]>,
        outgoing: &'a mut [u8],
    ) -> Self {
        Self { capabilities, incoming, outgoing, sent: None }
    }
}

/// Where a packet goes to.
pub struct Out<'a> {
    to: &'a mut [u8],
    sent: &'a mut Option<usize>,
}

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        *self.sent = Some(length);
        fill(&mut self.to[..length])
    }
}

/// Where a packet comes from.
pub struct In<'a>(&'a [u8]);

impl phy::RxToken for In<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl phy::Device for Slot<'_> {
    type RxToken<'b>
        = In<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Out<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(In<'_>, Out<'_>)> {
        let incoming = self.incoming.take()?;
        Some((In(incoming), Out { to: self.outgoing, sent: &mut self.sent }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Out<'_>> {
        if self.sent.is_some() { None } else { Some(Out { to: self.outgoing, sent: &mut self.sent }) }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

/// The capabilities of an interface with packets of at most `mtu` bytes; `checked` if what it carries may be damaged.
pub fn capabilities(medium: Medium, mtu: usize, checked: bool) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = medium;
    capabilities.max_transmission_unit = mtu;
    if !checked {
        let mut checksum = ChecksumCapabilities::ignored();
        // Whoever looks at a packet of the loopback interface may still want its header to be right.
        checksum.ipv4 = Checksum::Both;
        capabilities.checksum = checksum;
    }
    capabilities
}

/// One connection's protocol state.
pub struct Connection {
    set: SocketSet<'static>,
    handle: SocketHandle,
}

fn buffer(bytes: usize) -> KResult<tcp::SocketBuffer<'static>> {
    let mut buffer = Vec::new();
    // The kernel's reserve is not for what a connection keeps.
    if frames::is_short() {
        return Err(Errno::ENOBUFS);
    }
    buffer.try_reserve_exact(bytes).map_err(|_| Errno::ENOBUFS)?;
    buffer.resize(bytes, 0);
    Ok(tcp::SocketBuffer::new(buffer))
}

impl Connection {
    /// A closed one with buffers of these sizes.
    ///
    /// # Errors
    /// ENOBUFS.
    pub fn new(receive_bytes: usize, send_bytes: usize) -> KResult<Self> {
        let mut storage = Vec::new();
        storage.try_reserve_exact(1).map_err(|_| Errno::ENOBUFS)?;
        storage.push(SocketStorage::EMPTY);
        let mut set = SocketSet::new(storage);
        let handle = set.add(tcp::Socket::new(buffer(receive_bytes)?, buffer(send_bytes)?));
        Ok(Self { set, handle })
    }

    /// The socket.
    pub fn socket(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    /// The socket, to be changed.
    pub fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// The protocol machine of one interface.
pub struct Engine {
    interface: Interface,
    capabilities: DeviceCapabilities,
}

impl Engine {
    /// For packets of at most `mtu` bytes; `checked` if what the interface carries may be damaged.
    pub fn new(mtu: usize, checked: bool, seed: u64) -> Self {
        let capabilities = capabilities(Medium::Ip, mtu, checked);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut slot = Slot::new(&capabilities, None, &mut []);
        let mut interface = Interface::new(config, &mut slot, Instant::ZERO);
        // What is for others has been sorted out before.
        interface.set_any_ip(true);
        Self { interface, capabilities }
    }

    /// Has `connection` take a packet for it, or nobody's connection refuse it; returns the length of an answer in `out`.
    pub fn input(
        &mut self,
        now: Nanoseconds,
        connection: Option<&mut Connection>,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let mut nobody = SocketSet::new(Vec::new());
        let set = connection.map_or(&mut nobody, |connection| &mut connection.set);
        let mut slot = Slot::new(&self.capabilities, Some(packet), out);
        self.interface.poll_ingress_single(instant(now), &mut slot, set);
        slot.sent
    }

    /// The length of the next packet that `connection` has to send, now in `out`.
    pub fn output(&mut self, now: Nanoseconds, connection: &mut Connection, out: &mut [u8]) -> Option<usize> {
        let mut slot = Slot::new(&self.capabilities, None, out);
        let result = self.interface.poll_egress(instant(now), &mut slot, &mut connection.set);
        if result == PollResult::None { None } else { slot.sent }
    }

    /// When [`Self::output`] is to be called next though nothing comes in.
    pub fn deadline(&mut self, now: Nanoseconds, connection: &Connection) -> Option<Nanoseconds> {
        self.interface.poll_at(instant(now), &connection.set).map(nanoseconds)
    }

    /// Starts to connect.
    ///
    /// # Errors
    /// EADDRNOTAVAIL for addresses that cannot be used.
    pub fn connect(
        &mut self,
        connection: &mut Connection,
        local: SocketAddrV4,
        remote: SocketAddrV4,
    ) -> KResult<()> {
        let endpoint = |address: SocketAddrV4| IpEndpoint::new((*address.ip()).into(), address.port());
        let socket: &mut tcp::Socket<'static> = connection.set.get_mut(connection.handle);
        let context = self.interface.context();
        socket.connect(context, endpoint(remote), endpoint(local)).map_err(|_| Errno::EADDRNOTAVAIL)
    }
}
