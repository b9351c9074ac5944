//! Split virtqueues (virtio 1.2, section 2.7), as a device sees them. Everything in them is the guest's, and is checked when it is
//! read; what was read is not read again.

use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};

/// The most entries of a queue.
pub const MOST_ENTRIES: u16 = 128;
/// The most descriptors of a chain.
pub const MOST_CHAIN: usize = super::port::MOST_SEGMENTS + 2;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// In the driver area: the guest polls.
const NO_INTERRUPT: u16 = 1;

/// A piece of a buffer, in memory and not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Where.
    pub at: GuestPhys,
    /// How long.
    pub bytes: u32,
}

/// A chain of descriptors that the guest has made available.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// Its first descriptor: its name when it is given back.
    pub head: u16,
    segments: [Segment; MOST_CHAIN],
    readable: usize,
    count: usize,
}

impl Chain {
    /// What the device reads.
    pub fn readable(&self) -> &[Segment] {
        &self.segments[..self.readable]
    }

    /// What the device writes.
    pub fn writable(&self) -> &[Segment] {
        &self.segments[self.readable..self.count]
    }

    /// The bytes of a chain that is only to be read, from `least` to `most`.
    pub fn only_readable(&self, least: u64, most: u64) -> Result<u64, Broken> {
        let bytes = total(self.readable());
        let fits = self.writable().is_empty() && (least..=most).contains(&bytes);
        if fits { Ok(bytes) } else { Err(self.is_bad()) }
    }

    /// The bytes of a chain that is only to be written, `least` or more.
    pub fn only_writable(&self, least: u64) -> Result<u64, Broken> {
        let bytes = total(self.writable());
        let fits = self.readable().is_empty() && bytes >= least;
        if fits { Ok(bytes) } else { Err(self.is_bad()) }
    }

    /// It is not what its device wants.
    pub fn is_bad(&self) -> Broken {
        Rule::BadQueue.broken_by(u64::from(self.head))
    }
}

/// The bytes of `segments`.
pub fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.bytes)).sum()
}

/// Fills `to` with the bytes of `segments` from `skip` on; how many there were.
pub fn read(memory: &GuestMemory, segments: &[Segment], skip: u64, to: &mut [u8]) -> Result<usize, Broken> {
    let mut done = 0;
    for (at, bytes) in pieces(segments, skip, to.len()) {
        memory.copy_out(at, &mut to[done..done + bytes])?;
        done += bytes;
    }
    Ok(done)
}

/// Writes `from` to `segments` from `skip` on; how much there was room for.
pub fn write(memory: &GuestMemory, segments: &[Segment], skip: u64, from: &[u8]) -> Result<usize, Broken> {
    let mut done = 0;
    for (at, bytes) in pieces(segments, skip, from.len()) {
        memory.copy_in(at, &from[done..done + bytes])?;
        done += bytes;
    }
    Ok(done)
}

/// The pieces of `segments` from byte `skip` on that make up `bytes`, or less.
fn pieces(segments: &[Segment], mut skip: u64, mut bytes: usize) -> impl Iterator<Item = (GuestPhys, usize)> {
    segments.iter().filter_map(move |segment| {
        let length = u64::from(segment.bytes);
        let passed = skip.min(length);
        skip -= passed;
        let now = usize::try_from(length - passed).unwrap_or(usize::MAX).min(bytes);
        bytes -= now;
        (now > 0).then_some((GuestPhys(segment.at.0 + passed), now))
    })
}

/// A queue's place, as the guest has set it up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Entries.
    pub size: u16,
    /// Descriptor table.
    pub table: GuestPhys,
    /// Driver area: the available ring.
    pub driver: GuestPhys,
    /// Device area: the used ring.
    pub device: GuestPhys,
}

/// A queue in use.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    place: Place,
    /// The available entry that comes next.
    next: u16,
    /// The used entry that comes next.
    used: u16,
}

impl Queue {
    /// The queue at `place`, unused so far.
    pub fn new(memory: &GuestMemory, place: Place) -> Result<Self, Broken> {
        let Place { size, table, driver, device } = place;
        if !size.is_power_of_two() || size > MOST_ENTRIES {
            return Err(Rule::BadDevice.broken_by(u64::from(size)));
        }
        let entries = u64::from(size);
        for (area, bytes, alignment) in
            [(table, 16 * entries, 16), (driver, 4 + 2 * entries, 2), (device, 4 + 8 * entries, 4)]
        {
            if !area.0.is_multiple_of(alignment) || memory.check(area, bytes).is_err() {
                return Err(Rule::BadDevice.broken_by(area.0));
            }
        }
        Ok(Self { place, next: 0, used: 0 })
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index % self.place.size)
    }

    /// Takes the next chain, if there is one.
    pub fn pop(&mut self, memory: &GuestMemory) -> Result<Option<Chain>, Broken> {
        let Place { size, driver, .. } = self.place;
        let index = word(memory, driver.0 + 2)?;
        match index.wrapping_sub(self.next) {
            0 => return Ok(None),
            waiting if waiting > size => return Err(Rule::BadQueue.broken_by(u64::from(index))),
            _ => {}
        }
        let head = word(memory, driver.0 + 4 + 2 * self.slot(self.next))?;
        let chain = self.chain(memory, head)?;
        self.next = self.next.wrapping_add(1);
        Ok(Some(chain))
    }

    /// The chain that was taken last stays available.
    pub fn put_back(&mut self) {
        self.next = self.next.wrapping_sub(1);
    }

    fn chain(&self, memory: &GuestMemory, head: u16) -> Result<Chain, Broken> {
        let bad = |value: u64| Err(Rule::BadQueue.broken_by(value));
        let mut chain = Chain { head, segments: [Segment::default(); MOST_CHAIN], readable: 0, count: 0 };
        let mut at = head;
        loop {
            // A loop is longer than any chain may be.
            if at >= self.place.size || chain.count == MOST_CHAIN.min(usize::from(self.place.size)) {
                return bad(u64::from(at));
            }
            let mut descriptor = [0; 16];
            memory.copy_out(GuestPhys(self.place.table.0 + 16 * u64::from(at)), &mut descriptor)?;
            let [a, b, c, d, e, f, g, h, length @ .., f0, f1, n0, n1] = descriptor;
            let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let bytes = u32::from_le_bytes(length);
            let flags = u16::from_le_bytes([f0, f1]);
            if flags & !(NEXT | WRITE) != 0 || bytes == 0 {
                return bad(u64::from(at));
            }
            if memory.check(GuestPhys(address), u64::from(bytes)).is_err() {
                return bad(address);
            }
            if flags & WRITE == 0 {
                if chain.readable < chain.count {
                    return bad(u64::from(at));
                }
                chain.readable += 1;
            }
            chain.segments[chain.count] = Segment { at: GuestPhys(address), bytes };
            chain.count += 1;
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            at = u16::from_le_bytes([n0, n1]);
        }
    }

    /// Gives the chain of `head` back, with `written` bytes written to it.
    pub fn push(&mut self, memory: &GuestMemory, head: u16, written: u32) -> Result<(), Broken> {
        let device = self.place.device.0;
        let entry = u64::from(head) | u64::from(written) << 32;
        memory.copy_in(GuestPhys(device + 4 + 8 * self.slot(self.used)), &entry.to_le_bytes())?;
        self.used = self.used.wrapping_add(1);
        memory.copy_in(GuestPhys(device + 2), &self.used.to_le_bytes())
    }

    /// Whether the guest wants to hear of what was given back.
    pub fn wants_interrupt(&self, memory: &GuestMemory) -> bool {
        word(memory, self.place.driver.0).is_ok_and(|flags| flags & NO_INTERRUPT == 0)
    }
}

/// A word of a ring.
fn word(memory: &GuestMemory, at: u64) -> Result<u16, Broken> {
    let mut bytes = [0; 2];
    memory.copy_out(GuestPhys(at), &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}
