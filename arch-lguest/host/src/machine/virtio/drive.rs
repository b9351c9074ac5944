//! A disk of QEMU's: virtio 1.2, 5.2.
//!
//! Requests go through the driver's own memory: a guest that writes to its buffers meanwhile, or starts again, disturbs
//! nobody.

use bitflags::bitflags;
use platform::{PhysAddr, PhysRange, Unusable};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::frames::Frames;
use super::super::paging::direct;
use super::dma::Pool;
use super::{Device, buffers, taken};
use crate::devices::port::{
    Busy, DRIVE_BYTES, DRIVE_REQUESTS as SLOTS, Direction, Drive, Failed, MOST_BYTES, MOST_SEGMENTS, Ticket,
    Transfer, free_slot,
};

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const READ_ONLY = 1 << 5;
        const FLUSH = 1 << 9;
        const VERSION_1 = 1 << 32;
    }
}

const QUEUE: u16 = 0;
/// A request takes three descriptors at the most.
const QUEUE_SIZE: usize = 32;

/// `struct virtio_blk_req` up to the data.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const DONE: u8 = 0;

/// A request's memory: what the device works on, and where read data goes then.
#[derive(FromBytes)]
#[repr(C)]
struct Buffer {
    header: Header,
    data: [u8; MOST_BYTES as usize],
    status: u8,
    padding: [u8; 7],
    /// Start and end of each.
    segments: [[u64; 2]; MOST_SEGMENTS],
}

const _: () = assert!(taken::<[Buffer; SLOTS]>() == DRIVE_BYTES);

/// Whose a buffer is.
#[derive(Clone, Copy, Debug)]
struct Request {
    ticket: Ticket,
    direction: Direction,
    segments: usize,
    bytes: usize,
    /// By this number the device gives it back. None: there was nothing for it to do.
    token: Option<u16>,
}

/// A disk.
pub struct VirtioDrive {
    pub(super) device: Device,
    queue: VirtQueue<Pool, QUEUE_SIZE>,
    features: Features,
    sectors: u64,
    requests: [Option<Request>; SLOTS],
    buffers: &'static mut [Buffer; SLOTS],
}

impl VirtioDrive {
    pub(super) fn start(mut device: Device, frames: &mut Frames) -> Result<Self, Unusable> {
        let features = device.begin(Features::all())?;
        let capacity = device.transport.read_consistent(|| device.transport.read_config_space::<[u32; 2]>(0));
        let [low, high] = capacity.map_err(|_| Unusable("a disk does not tell its size"))?;
        let queue = device.queue(QUEUE)?;
        device.transport.finish_init();
        Ok(Self {
            device,
            queue,
            features,
            sectors: u64::from(high) << 32 | u64::from(low),
            requests: [None; SLOTS],
            buffers: buffers(frames)?,
        })
    }

    /// Takes back what the device has done first, and says in which buffer and whether it went well.
    fn take_back(&mut self) -> Option<(usize, bool)> {
        let token = self.queue.peek_used()?;
        let of_token =
            |request: &Option<Request>| request.is_some_and(|request| request.token == Some(token));
        let slot = self.requests.iter().position(of_token).expect("a disk gives back what it was given");
        let request = self.requests[slot].expect("it was just found");
        let Buffer { header, data, status, .. } = &mut self.buffers[slot];
        let (header, status) = (header.as_bytes(), core::slice::from_mut(status));
        let data = &mut data[..request.bytes];
        // SAFETY: the buffers are those of `begin` for the same direction.
        let popped = unsafe {
            match request.direction {
                Direction::Read => self.queue.pop_used(token, &[header], &mut [data, status]),
                Direction::Write => self.queue.pop_used(token, &[header, data], &mut [status]),
                Direction::Flush => self.queue.pop_used(token, &[header], &mut [status]),
            }
        };
        popped.expect("the token is that of the next used buffer");
        Some((slot, self.buffers[slot].status == DONE))
    }
}

impl Drive for VirtioDrive {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        self.features.contains(Features::READ_ONLY)
    }

    fn begin(&mut self, transfer: &Transfer<'_>, ticket: Ticket) -> Result<(), Busy> {
        let slot = free_slot(&self.requests, ticket.guest, |request| request.ticket.guest)?;
        let bytes = transfer.segments.iter().map(|segment| segment.bytes() as usize).sum();
        let direction = transfer.direction;
        let mut request =
            Request { ticket, direction, segments: transfer.segments.len(), bytes, token: None };
        let has_work = direction != Direction::Flush || self.features.contains(Features::FLUSH);
        if has_work {
            let buffer = &mut self.buffers[slot];
            let kind = match direction {
                Direction::Read => READ,
                Direction::Write => WRITE,
                Direction::Flush => FLUSH,
            };
            buffer.header = Header { kind, reserved: 0, sector: transfer.sector };
            let mut at = 0;
            for (to, segment) in buffer.segments.iter_mut().zip(transfer.segments) {
                *to = [segment.start.0, segment.end.0];
                if direction == Direction::Write {
                    let to = &mut buffer.data[at..][..segment.bytes() as usize];
                    // SAFETY: a segment is in a guest's memory, which the host shows; no guest runs now.
                    unsafe {
                        to.as_mut_ptr().copy_from_nonoverlapping(direct(segment.start).as_ptr(), to.len())
                    };
                    at += to.len();
                }
            }
            let Buffer { header, data, status, .. } = buffer;
            let (header, status) = (header.as_bytes(), core::slice::from_mut(status));
            let data = &mut data[..bytes];
            // SAFETY: nobody touches the buffers before `take_back`.
            let token = unsafe {
                match direction {
                    Direction::Read => self.queue.add(&[header], &mut [data, status]),
                    Direction::Write => self.queue.add(&[header, data], &mut [status]),
                    Direction::Flush => self.queue.add(&[header], &mut [status]),
                }
            };
            request.token = Some(token.expect("the queue has room for every slot"));
            self.device.notify(&self.queue, QUEUE);
        }
        self.requests[slot] = Some(request);
        Ok(())
    }

    fn completed(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        let idle = |request: &Option<Request>| request.is_some_and(|request| request.token.is_none());
        let of_itself = self.requests.iter().position(idle).map(|slot| (slot, true));
        let (slot, done) = of_itself.or_else(|| self.take_back())?;
        let request = self.requests[slot].take()?;
        let buffer = &self.buffers[slot];
        if done && request.direction == Direction::Read {
            let mut at = 0;
            for &[start, end] in &buffer.segments[..request.segments] {
                let segment = PhysRange { start: PhysAddr(start), end: PhysAddr(end) };
                let from = &buffer.data[at..][..segment.bytes() as usize];
                // SAFETY: as in `begin`; a guest that began a request has its memory until it is completed.
                unsafe {
                    direct(segment.start)
                        .as_mut_ptr::<u8>()
                        .copy_from_nonoverlapping(from.as_ptr(), from.len())
                };
                at += from.len();
            }
        }
        Some((request.ticket, if done { Ok(()) } else { Err(Failed) }))
    }
}
