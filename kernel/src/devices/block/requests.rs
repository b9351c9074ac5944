//! Requests under way at a disk.
//!
//! A request is a header, data in one piece, and a byte for the outcome, each in a descriptor of its own. Header and
//! outcome are in memory that the disk keeps for that, and the data belong to the request until it is done.

use virtio_drivers::transport::Transport;
use zerocopy::{Immutable, IntoBytes};

use crate::devices::bus::{Bus, Queue, should_notify};
use crate::devices::memory::Buffer;
use crate::errno::{Errno, KResult};

/// Requests under way at a time.
pub const REQUESTS: usize = 16;
/// The queue's descriptors; no request needs more than three.
const DESCRIPTORS: usize = 64;
/// The queue.
const QUEUE: u16 = 0;
/// Control memory of each request: the header, the outcome behind it, and room up to the next.
const CONTROL_BYTES: usize = 32;
/// An outcome that no device gives.
const NO_OUTCOME: u8 = 0xff;

/// The header of a request (virtio 1.2, 5.2.6).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// From the disk to the data.
    Read,
    /// From the data to the disk.
    Write,
    /// What was written shall survive; without data.
    Flush,
}

/// A request, but for its data.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What it asks for.
    pub operation: Operation,
    /// From which sector of 512 bytes on.
    pub sector: u64,
}

/// Data of a request.
pub struct Data {
    /// Where they are.
    pub buffer: Buffer,
    /// How many bytes of it.
    pub bytes: usize,
}

enum Slot {
    Free,
    /// The device has it; the queue knows it by the token.
    Busy {
        token: u16,
        operation: Operation,
        data: Option<Data>,
    },
    /// For whoever made it.
    Done {
        data: Option<Data>,
        result: KResult<()>,
    },
}

/// Requests that have become done, by slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    mask: u32,
    /// The device has failed: there will be no others.
    pub for_good: bool,
}

impl Finished {
    /// Their slots.
    pub fn slots(self) -> impl Iterator<Item = usize> {
        (0..REQUESTS).filter(move |slot| self.mask & 1 << slot != 0)
    }
}

/// The requests under way at one disk.
pub struct Requests {
    bus: Bus,
    queue: Queue<DESCRIPTORS>,
    control: Buffer,
    slots: [Slot; REQUESTS],
    /// Done, and not yet told by [`Self::collect`].
    finished: u32,
    /// The device has failed and was reset.
    dead: bool,
}

impl Requests {
    /// Lets the device begin.
    ///
    /// # Errors
    /// ENODEV if its queue is too short, ENOMEM.
    pub fn start(mut bus: Bus) -> KResult<Self> {
        let control = Buffer::new(REQUESTS * CONTROL_BYTES).ok_or(Errno::ENOMEM)?;
        let queue = bus.queue(QUEUE)?;
        bus.finish_init();
        let slots = [const { Slot::Free }; REQUESTS];
        Ok(Self { bus, queue, control, slots, finished: 0, dead: false })
    }

    /// The device.
    pub fn bus(&mut self) -> &mut Bus {
        &mut self.bus
    }

    /// Hands a request to the device and takes the data; none if there is no room for it now. Returns its slot.
    ///
    /// # Errors
    /// EIO if the device has failed.
    pub fn begin(&mut self, request: Request, data: &mut Option<Option<Data>>) -> Option<KResult<usize>> {
        if self.dead {
            return Some(Err(Errno::EIO));
        }
        let slot = self.slots.iter().position(|slot| matches!(slot, Slot::Free))?;
        let mut data = data.take()?;
        let Request { operation, sector } = request;
        let kind = match operation {
            Operation::Read => 0,
            Operation::Write => 1,
            Operation::Flush => 4,
        };
        let header = Header { kind, reserved: 0, sector };
        let control = &mut self.control.bytes_mut()[slot * CONTROL_BYTES..];
        control[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        control[size_of::<Header>()] = NO_OUTCOME;
        let added = with_parts(&mut self.control, slot, operation, &mut data, |read, written| {
            // SAFETY: the parts are frames that the slot keeps until the queue has given them back, or the device is reset.
            unsafe { self.queue.add(read, written) }
        });
        let Ok(token) = added else { return Some(Err(Errno::EIO)) };
        self.slots[slot] = Slot::Busy { token, operation, data };
        if should_notify(&self.queue) {
            self.bus.notify(QUEUE);
        }
        Some(Ok(slot))
    }

    /// Takes the outcome of the request in `slot`, which is then free; none while it is under way.
    pub fn take(&mut self, slot: usize) -> Option<(Option<Data>, KResult<()>)> {
        match core::mem::replace(&mut self.slots[slot], Slot::Free) {
            Slot::Done { data, result } => Some((data, result)),
            other => {
                self.slots[slot] = other;
                None
            }
        }
    }

    /// Takes from the queue what the device has given back.
    pub fn collect(&mut self) -> Finished {
        while !self.dead
            && let Some(token) = self.queue.peek_used()
        {
            if !self.finish(token) {
                self.fail("it gave back what it had not got");
            }
        }
        Finished { mask: core::mem::take(&mut self.finished), for_good: self.dead }
    }

    /// Fails if the device says that it has.
    pub fn look_for_failure(&mut self) {
        if !self.dead && self.bus.has_failed() {
            self.fail("it says so");
        }
    }

    /// Takes the request with this token from the queue; false if there is none.
    fn finish(&mut self, token: u16) -> bool {
        let busy = |slot: &Slot| matches!(slot, Slot::Busy { token: other, .. } if *other == token);
        let Some(slot) = self.slots.iter().position(busy) else { return false };
        let Slot::Busy { operation, mut data, .. } = core::mem::replace(&mut self.slots[slot], Slot::Free)
        else {
            return false;
        };
        let written = with_parts(&mut self.control, slot, operation, &mut data, |read, written| {
            // SAFETY: these are the parts that were added with this token.
            unsafe { self.queue.pop_used(token, read, written) }
        });
        let filled = match (operation, &data) {
            (Operation::Read, Some(data)) => written.is_ok_and(|written| written as usize > data.bytes),
            _ => written.is_ok(),
        };
        let result = match self.control.bytes()[slot * CONTROL_BYTES + size_of::<Header>()] {
            0 if filled => Ok(()),
            2 => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EIO),
        };
        self.slots[slot] = Slot::Done { data, result };
        self.finished |= 1 << slot;
        true
    }

    /// Resets the device; what it had is lost.
    #[cold]
    fn fail(&mut self, why: &str) {
        log::error!("disk {} has failed: {why}", self.bus.id().0);
        self.dead = true;
        self.bus.reset();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Slot::Busy { data, .. } = slot {
                let data = data.take();
                *slot = Slot::Done { data, result: Err(Errno::EIO) };
                self.finished |= 1 << index;
            }
        }
    }
}

/// Calls `work` with the parts of a request: those that the device reads, and those that it writes.
fn with_parts<R>(
    control: &mut Buffer,
    slot: usize,
    operation: Operation,
    data: &mut Option<Data>,
    work: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
) -> R {
    let control = &mut control.bytes_mut()[slot * CONTROL_BYTES..][..size_of::<Header>() + 1];
    let (header, outcome) = control.split_at_mut(size_of::<Header>());
    match (operation, data) {
        (Operation::Read, Some(Data { buffer, bytes })) => {
            work(&[header], &mut [&mut buffer.bytes_mut()[..*bytes], outcome])
        }
        (Operation::Write, Some(Data { buffer, bytes })) => {
            work(&[header, &buffer.bytes()[..*bytes]], &mut [outcome])
        }
        _ => work(&[header], &mut [outcome]),
    }
}
