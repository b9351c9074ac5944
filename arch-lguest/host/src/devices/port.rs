//! What the devices need of the machine: its disks, and its network.

use platform::{PAGE_SIZE, PhysRange};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// The most pieces of memory in one transfer.
pub const MOST_SEGMENTS: usize = 32;
/// The most bytes in one transfer.
pub const MOST_BYTES: u64 = 128 << 10;
/// The longest Ethernet frame, without its checksum.
pub const MOST_FRAME: usize = 1514;

/// Requests that the driver of a drive has under way.
pub const DRIVE_REQUESTS: usize = 8;
/// Frames each way for which the network card's driver has a buffer, and its bytes.
pub const CARD_FRAMES: usize = 32;
/// Bytes of such a buffer.
pub const CARD_BUFFER: usize = 2048;
/// Pages that one device's queues take at the most: two for each of two queues.
pub const QUEUE_PAGES: u64 = 4;

/// Memory of the machine that a drive's driver takes: its queue, and for each request the data, where it goes, a header and a
/// status, which have 24 bytes.
pub const DRIVE_BYTES: u64 =
    QUEUE_PAGES * PAGE_SIZE + pages(DRIVE_REQUESTS as u64 * (MOST_BYTES + 16 * MOST_SEGMENTS as u64 + 24));
/// And the network card's.
pub const CARD_BYTES: u64 = QUEUE_PAGES * PAGE_SIZE + pages((2 * CARD_FRAMES * CARD_BUFFER) as u64);

/// Whole pages.
const fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_SIZE)
}

/// No room now: try again after something has been completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

/// The drive could not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed;

/// Whose request a transfer is; given back with its completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// Number of the guest.
    pub guest: u8,
    /// Of its device.
    pub device: u8,
    /// Of the device's request.
    pub request: u8,
}

/// A free one of a drive's `slots`, each of which knows the guest whose request it has. A guest may have as many as it leaves
/// free: however many requests others make, the next one finds a slot.
pub fn free_slot<T>(slots: &[Option<T>], guest: u8, guest_of: impl Fn(&T) -> u8) -> Result<usize, Busy> {
    let free = slots.iter().filter(|slot| slot.is_none()).count();
    let theirs = slots.iter().flatten().filter(|&request| guest_of(request) == guest).count();
    let first = slots.iter().position(Option::is_none).ok_or(Busy)?;
    if theirs < free { Ok(first) } else { Err(Busy) }
}

/// What a transfer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the drive to memory.
    Read,
    /// From memory to the drive.
    Write,
    /// Makes what was written durable; no sector, no memory.
    Flush,
}

/// One transfer of a drive. It was checked: whole sectors in all, one or more, within the drive, no write to a read-only one.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// What it does.
    pub direction: Direction,
    /// Where it starts on the drive.
    pub sector: u64,
    /// The memory, at most [`MOST_SEGMENTS`] pieces and [`MOST_BYTES`] bytes. It stays the transfer's until it is completed.
    pub segments: &'a [PhysRange],
}

/// A disk of the machine. Nothing here waits.
pub trait Drive {
    /// Its size.
    fn sectors(&self) -> u64;
    /// Whether it can only be read.
    fn is_read_only(&self) -> bool;
    /// Begins a transfer; who has many under way must wait before others do.
    fn begin(&mut self, transfer: &Transfer<'_>, ticket: Ticket) -> Result<(), Busy>;
    /// The next transfer that has ended, each once.
    fn completed(&mut self) -> Option<(Ticket, Result<(), Failed>)>;
}

/// The way out of the machine for frames. Nothing here waits.
pub trait Uplink {
    /// Sends a frame; where there is no room it is lost.
    fn send(&mut self, frame: &[u8]) -> Result<(), Busy>;
    /// The next frame that came in, and its length.
    fn receive(&mut self, frame: &mut [u8; MOST_FRAME]) -> Option<usize>;
}
