//! A disk (virtio 1.2, section 5.2).

use core::ops::Range;

use lguest_abi::MOST_CONFIG;
use platform::PhysRange;

use super::bus::Kind;
use super::port::{Busy, Direction, Drive, Failed, MOST_BYTES, MOST_SEGMENTS, SECTOR, Ticket, Transfer};
use super::queue::{Chain, Queue, Segment, read, total, write};
use super::{Served, With};
use crate::guest::Host;
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::Broken;

/// VIRTIO_BLK_F_…: bits of the features.
const SIZE_MAX: u64 = 1 << 1;
const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const BLOCK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;

/// VIRTIO_BLK_S_…
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// Transfers of one disk that a drive may have at a time.
const MOST_IN_FLIGHT: usize = 16;
/// Type, four bytes, sector.
const HEADER: u32 = 16;

/// Where the sectors are.
#[derive(Debug)]
pub enum Backing {
    /// In memory that never changes.
    ReadOnly(&'static [u8]),
    /// In memory of this disk alone.
    Memory(&'static mut [u8]),
    /// On a drive of the machine.
    Drive {
        /// Which.
        number: usize,
        /// Its size in sectors.
        sectors: u64,
        /// Whether it can only be read, or only should.
        read_only: bool,
    },
}

impl Backing {
    fn sectors(&self) -> u64 {
        match self {
            Self::ReadOnly(bytes) => bytes.len() as u64 / SECTOR,
            Self::Memory(bytes) => bytes.len() as u64 / SECTOR,
            Self::Drive { sectors, .. } => *sectors,
        }
    }

    fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly(_) | Self::Drive { read_only: true, .. })
    }
}

/// A request that a drive works on.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    head: u16,
    status: GuestPhys,
    written: u32,
    /// The guest has reset the device since.
    abandoned: bool,
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    backing: Backing,
    in_flight: [Option<InFlight>; MOST_IN_FLIGHT],
    /// A request waits until the drive or this disk has room.
    stalled: bool,
}

/// What a request wants (VIRTIO_BLK_T_…).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Transfer(Direction),
    Identify,
    Unknown,
}

/// A request, as its chain has it.
struct Request<'a> {
    operation: Operation,
    sector: u64,
    data: &'a [Segment],
    status: GuestPhys,
}

impl<'a> Request<'a> {
    fn of(memory: &GuestMemory, chain: &'a Chain) -> Result<Self, Broken> {
        let ([Segment { bytes: HEADER, .. }, out @ ..], [into @ .., Segment { at: status, bytes: 1 }]) =
            (chain.readable(), chain.writable())
        else {
            return Err(chain.is_bad());
        };
        let mut header = [0; HEADER as usize];
        read(memory, chain.readable(), 0, &mut header)?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let (operation, data) = match (u32::from_le_bytes([a, b, c, d]), out, into) {
            (0, [], into) => (Operation::Transfer(Direction::Read), into),
            (1, out, []) => (Operation::Transfer(Direction::Write), out),
            (4, [], []) => (Operation::Transfer(Direction::Flush), into),
            (8, [], into) => (Operation::Identify, into),
            (0 | 1 | 4 | 8, ..) => return Err(chain.is_bad()),
            _ => (Operation::Unknown, into),
        };
        if total(data) > MOST_BYTES {
            return Err(chain.is_bad());
        }
        Ok(Self { operation, sector: u64::from_le_bytes(sector), data, status: *status })
    }

    /// The bytes of a disk in memory that are asked for; nothing if they are not whole sectors, one or more, or not on the disk.
    fn range(&self, sectors: u64) -> Option<Range<usize>> {
        let bytes = total(self.data);
        let end = self.sector.checked_add(bytes / SECTOR).filter(|end| *end <= sectors)?;
        let whole = bytes > 0 && bytes.is_multiple_of(SECTOR);
        whole.then_some((self.sector * SECTOR) as usize..(end * SECTOR) as usize)
    }
}

/// What has become of a request.
enum Fate {
    Done { status: u8, written: u32 },
    Started,
    Waits,
}

impl Block {
    /// A disk.
    pub const fn new(backing: Backing) -> Self {
        Self { backing, in_flight: [None; MOST_IN_FLIGHT], stalled: false }
    }

    /// What the guest sees.
    pub fn kind(&self) -> Kind {
        let mut config = [0; MOST_CONFIG];
        config[..8].copy_from_slice(&self.backing.sectors().to_le_bytes());
        config[8..12].copy_from_slice(&(MOST_BYTES as u32).to_le_bytes());
        // The two limits multiplied must not be more than a request may have.
        config[12..16].copy_from_slice(&1u32.to_le_bytes());
        config[20..24].copy_from_slice(&(SECTOR as u32).to_le_bytes());
        let read_only = if self.backing.is_read_only() { READ_ONLY } else { 0 };
        let features = SIZE_MAX | SEG_MAX | BLOCK_SIZE | FLUSH | read_only;
        Kind { id: 2, queues: 1, features, config, config_bytes: 24 }
    }

    /// Works on the next request.
    pub fn serve<H: Host>(
        &mut self,
        number: usize,
        queue: &mut Queue,
        with: &mut With<'_, H>,
    ) -> Result<Served, Broken> {
        let Some(chain) = queue.pop(&with.memory)? else { return Ok(Served::Nothing) };
        let request = Request::of(&with.memory, &chain)?;
        match self.begin(number, &request, chain.head, with)? {
            Fate::Done { status, written } => {
                with.memory.copy_in(request.status, &[status])?;
                queue.push(&with.memory, chain.head, written + 1)?;
                with.counters.disk_requests += 1;
                Ok(Served::Used)
            }
            Fate::Started => {
                with.counters.disk_requests += 1;
                Ok(Served::Started)
            }
            Fate::Waits => {
                queue.put_back();
                self.stalled = true;
                Ok(Served::Nothing)
            }
        }
    }

    fn begin<H: Host>(
        &mut self,
        number: usize,
        request: &Request<'_>,
        head: u16,
        with: &mut With<'_, H>,
    ) -> Result<Fate, Broken> {
        let done = |status, written| Ok(Fate::Done { status, written });
        let direction = match request.operation {
            Operation::Transfer(direction) => direction,
            Operation::Identify => {
                let mut name = *b"disk-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
                name[5] += number as u8;
                return done(OK, write(&with.memory, request.data, 0, &name)? as u32);
            }
            Operation::Unknown => return done(UNSUPPORTED, 0),
        };
        let range = match direction {
            Direction::Flush => Some(0..0),
            Direction::Write if self.backing.is_read_only() => None,
            _ => request.range(self.backing.sectors()),
        };
        let Some(range) = range else { return done(IO_ERROR, 0) };
        let written = if direction == Direction::Read { range.len() as u32 } else { 0 };
        match (&mut self.backing, direction) {
            (&mut Backing::Drive { number: drive, .. }, _) => {
                let in_flight = InFlight { head, status: request.status, written, abandoned: false };
                return self.start(drive, number, request, direction, in_flight, with);
            }
            (Backing::Memory(stored), Direction::Read) => {
                write(&with.memory, request.data, 0, &stored[range])?;
            }
            (Backing::Memory(stored), _) => {
                read(&with.memory, request.data, 0, &mut stored[range])?;
            }
            (Backing::ReadOnly(stored), _) => {
                write(&with.memory, request.data, 0, &stored[range])?;
            }
        }
        done(OK, written)
    }

    /// Hands a request to a drive.
    fn start<H: Host>(
        &mut self,
        drive: usize,
        number: usize,
        request: &Request<'_>,
        direction: Direction,
        in_flight: InFlight,
        with: &mut With<'_, H>,
    ) -> Result<Fate, Broken> {
        let Some(at) = self.in_flight.iter().position(Option::is_none) else { return Ok(Fate::Waits) };
        let mut segments = [PhysRange::default(); MOST_SEGMENTS];
        for (to, segment) in segments.iter_mut().zip(request.data) {
            *to = with.memory.host_range(segment.at, u64::from(segment.bytes))?;
        }
        let segments = &segments[..request.data.len()];
        let transfer = Transfer { direction, sector: request.sector, segments };
        let ticket = Ticket { guest: with.number as u8, device: number as u8, request: at as u8 };
        match with.host.drive(drive).begin(&transfer, ticket) {
            Ok(()) => {
                self.in_flight[at] = Some(in_flight);
                Ok(Fate::Started)
            }
            Err(Busy) => Ok(Fate::Waits),
        }
    }

    /// A drive has completed `request`.
    pub fn complete(
        &mut self,
        request: u8,
        result: Result<(), Failed>,
        queue: Option<&mut Queue>,
        memory: &GuestMemory,
    ) -> Result<Served, Broken> {
        let taken = self.in_flight.get_mut(usize::from(request)).and_then(Option::take);
        let (Some(done), Some(queue)) = (taken.filter(|done| !done.abandoned), queue) else {
            return Ok(Served::Nothing);
        };
        let (status, written) = if result.is_ok() { (OK, done.written) } else { (IO_ERROR, 0) };
        memory.copy_in(done.status, &[status])?;
        queue.push(memory, done.head, written + 1)?;
        Ok(Served::Used)
    }

    /// The device is reset: what a drive still works on, if anything, is nobody's.
    pub fn abandon(&mut self) -> bool {
        self.in_flight.iter_mut().flatten().for_each(|request| request.abandoned = true);
        self.stalled = false;
        self.is_draining()
    }

    /// Whether a drive still works on something that a reset has left behind.
    pub fn is_draining(&self) -> bool {
        self.in_flight.iter().flatten().any(|request| request.abandoned)
    }

    /// Whether a request has waited for room; it is tried again now.
    pub fn take_stalled(&mut self) -> bool {
        core::mem::take(&mut self.stalled)
    }
}
