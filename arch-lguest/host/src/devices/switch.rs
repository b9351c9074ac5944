//! The switch between the guests of one host. Every guest's address is known, so it learns nothing and nobody can pass for another.
//! What a guest has not taken yet waits in a queue of its own, of a fixed size.

use super::port::MOST_FRAME;
use crate::archive::MOST_GUESTS;

/// Destination, source, type.
pub const ETHERNET_HEADER: usize = 14;
/// Frames that wait for one guest.
pub const MOST_WAITING: usize = 64;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Guest `number`'s: locally administered.
    pub const fn of_guest(number: usize) -> Self {
        Self([0x52, 0x54, 0x00, 0x6c, 0x67, number as u8])
    }

    /// Whether it stands for several stations.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This guest.
    Guest(usize),
    /// Outside of the machine.
    Uplink,
}

impl Source {
    fn index(self) -> usize {
        match self {
            Self::Guest(number) => number,
            Self::Uplink => MOST_GUESTS,
        }
    }
}

/// A frame that waits.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    bytes: [u8; MOST_FRAME],
    length: u16,
    source: u16,
}

impl Frame {
    /// None.
    pub const EMPTY: Self = Self { bytes: [0; MOST_FRAME], length: 0, source: 0 };
}

/// Memory for the frames that wait for one guest; any bytes will do.
pub type Room = &'static mut [Frame; MOST_WAITING];

#[derive(Debug)]
struct Port {
    frames: Room,
    first: usize,
    count: usize,
    /// How many of them are whose.
    by_source: [usize; MOST_GUESTS + 1],
    /// It reaches the uplink, and the uplink it.
    outside: bool,
    /// A frame has come since it was last asked.
    fresh: bool,
    lost: u64,
}

impl Port {
    /// A source may fill as much as it leaves free: however many flood a port, the next one finds room.
    fn push(&mut self, source: Source, frame: &[u8]) {
        let theirs = &mut self.by_source[source.index()];
        if *theirs >= MOST_WAITING - self.count {
            self.lost += 1;
            return;
        }
        *theirs += 1;
        let slot = &mut self.frames[(self.first + self.count) % MOST_WAITING];
        slot.bytes[..frame.len()].copy_from_slice(frame);
        slot.length = frame.len() as u16;
        slot.source = source.index() as u16;
        self.count += 1;
        self.fresh = true;
    }

    fn pop(&mut self, to: &mut [u8; MOST_FRAME]) -> Option<usize> {
        let count = self.count.checked_sub(1)?;
        let frame = &self.frames[self.first];
        let length = usize::from(frame.length);
        to[..length].copy_from_slice(&frame.bytes[..length]);
        self.by_source[usize::from(frame.source)] -= 1;
        (self.first, self.count) = ((self.first + 1) % MOST_WAITING, count);
        Some(length)
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// To these guests, whether or not they have room.
    pub guests: [bool; MOST_GUESTS],
    /// To the uplink.
    pub outside: bool,
}

/// The switch.
#[derive(Debug)]
pub struct Switch {
    ports: [Option<Port>; MOST_GUESTS],
}

impl Switch {
    /// One without ports.
    pub const fn new() -> Self {
        Self { ports: [const { None }; MOST_GUESTS] }
    }

    /// Guest `number` is connected to the others, and to the uplink if it may go `outside`.
    pub fn connect(&mut self, number: usize, frames: Room, outside: bool) {
        let by_source = [0; MOST_GUESTS + 1];
        self.ports[number] =
            Some(Port { frames, first: 0, count: 0, by_source, outside, fresh: false, lost: 0 });
    }

    /// Hands a frame on to guests; the caller does so to the uplink. A guest's frame must bear its address, and the uplink's no
    /// connected guest's.
    pub fn forward(&mut self, source: Source, frame: &[u8]) -> Route {
        let mut route = Route::default();
        let Some(&[a, b, c, d, e, f, from @ .., _, _]) = frame.first_chunk::<ETHERNET_HEADER>() else {
            return route;
        };
        let to = MacAddress([a, b, c, d, e, f]);
        let outside = match source {
            Source::Guest(number) if MacAddress(from) == MacAddress::of_guest(number) => {
                self.ports[number].as_ref().is_some_and(|port| port.outside)
            }
            Source::Guest(_) => return route,
            Source::Uplink if self.is_connected(MacAddress(from)) => return route,
            Source::Uplink => false,
        };
        if frame.len() > MOST_FRAME {
            return route;
        }
        let mut is_known = false;
        for (number, port) in self.ports.iter_mut().enumerate() {
            let Some(port) = port else { continue };
            let is_it = MacAddress::of_guest(number) == to;
            is_known |= is_it;
            let reaches = match source {
                Source::Guest(guest) => guest != number,
                Source::Uplink => port.outside,
            };
            if reaches && (is_it || to.is_group()) {
                port.push(source, frame);
                route.guests[number] = true;
            }
        }
        route.outside = outside && !is_known;
        route
    }

    fn is_connected(&self, address: MacAddress) -> bool {
        let ports = self.ports.iter().enumerate();
        ports.filter(|(_, port)| port.is_some()).any(|(guest, _)| MacAddress::of_guest(guest) == address)
    }

    /// The next frame for a guest, and its length.
    pub fn take(&mut self, number: usize, frame: &mut [u8; MOST_FRAME]) -> Option<usize> {
        self.ports[number].as_mut()?.pop(frame)
    }

    /// Whether frames have come for a guest since this was last asked.
    pub fn take_fresh(&mut self, number: usize) -> bool {
        self.ports[number].as_mut().is_some_and(|port| core::mem::take(&mut port.fresh))
    }

    /// Whether frames have come for anybody.
    pub fn has_fresh(&self) -> bool {
        self.ports.iter().flatten().any(|port| port.fresh)
    }

    /// Drops what waits for a guest.
    pub fn clear(&mut self, number: usize) {
        let mut frame = [0; MOST_FRAME];
        while self.take(number, &mut frame).is_some() {}
    }

    /// How many frames for a guest have found no room.
    pub fn lost(&self, number: usize) -> u64 {
        self.ports[number].as_ref().map_or(0, |port| port.lost)
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}
