//! A disk (virtio 1.2, section 5.2).

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

/// A request, as its chain has it.
struct Request<'a> {
    kind: u32,
    sector: u64,
    /// What is written to the disk.
    out: &'a [Segment],
    /// What is read from it.
    into: &'a [Segment],
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
        let both = !out.is_empty() && !into.is_empty();
        let most = MOST_SEGMENTS.min(out.len().max(into.len()));
        if both || total(out).max(total(into)) > MOST_BYTES || most < out.len().max(into.len()) {
            return Err(chain.is_bad());
        }
        let kind = u32::from_le_bytes([a, b, c, d]);
        Ok(Self { kind, sector: u64::from_le_bytes(sector), out, into, status: *status })
    }

    /// The bytes that `direction` moves, if they are on the disk.
    fn bytes_on(&self, backing: &Backing, direction: Direction) -> Option<u64> {
        let bytes = total(if direction == Direction::Read { self.into } else { self.out });
        let end = self.sector.checked_add(bytes / SECTOR)?;
        let writes = direction == Direction::Write;
        let good = bytes.is_multiple_of(SECTOR) && end <= backing.sectors();
        (good && !(writes && backing.is_read_only())).then_some(bytes)
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
        config[12..16].copy_from_slice(&(MOST_SEGMENTS as u32).to_le_bytes());
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
        let direction = match request.kind {
            0 => Direction::Read,
            1 => Direction::Write,
            4 => Direction::Flush,
            8 => {
                let mut name = [0; 20];
                name[..6].copy_from_slice(b"disk-0");
                name[5] += number as u8;
                return done(OK, write(&with.memory, request.into, 0, &name)? as u32);
            }
            _ => return done(UNSUPPORTED, 0),
        };
        let bytes =
            if direction == Direction::Flush { Some(0) } else { request.bytes_on(&self.backing, direction) };
        let Some(bytes) = bytes else { return done(IO_ERROR, 0) };
        let start = (request.sector * SECTOR) as usize;
        let written = if direction == Direction::Read { bytes as u32 } else { 0 };
        let stored: &[u8] = match (&mut self.backing, direction) {
            (Backing::Drive { number: drive, .. }, _) => {
                let drive = *drive;
                let in_flight = InFlight { head, status: request.status, written, abandoned: false };
                return self.start(drive, number, request, direction, in_flight, with);
            }
            (_, Direction::Flush) => &[],
            (Backing::Memory(stored), Direction::Write) => {
                read(&with.memory, request.out, 0, &mut stored[start..start + bytes as usize])?;
                &[]
            }
            (Backing::Memory(stored), _) => &stored[start..start + bytes as usize],
            (Backing::ReadOnly(stored), _) => &stored[start..start + bytes as usize],
        };
        write(&with.memory, request.into, 0, stored)?;
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
        let data = match direction {
            Direction::Read => request.into,
            Direction::Write => request.out,
            Direction::Flush => &[],
        };
        for (to, segment) in segments.iter_mut().zip(data) {
            *to = with.memory.host_range(segment.at, u64::from(segment.bytes))?;
        }
        let transfer = Transfer { direction, sector: request.sector, segments: &segments[..data.len()] };
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

    /// The device is reset: what a drive still works on is nobody's.
    pub fn abandon(&mut self) {
        self.in_flight.iter_mut().flatten().for_each(|request| request.abandoned = true);
        self.stalled = false;
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
