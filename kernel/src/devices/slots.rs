//! A queue whose chains are of one descriptor each, and the memory that they lead to.

use super::bus::{self, Bus, Queue};
use super::memory::Buffer;
use crate::errno::{Errno, KResult};

/// What a device has of a part of the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Nothing.
    No,
    /// All of it, to be filled.
    Empty,
    /// So many bytes, to be read.
    Filled(usize),
}

/// A part of the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u8);

/// A queue of `COUNT` descriptors, and as many slots of memory of `BYTES` bytes. An error of any function means that the
/// device has done what it must not: it is to be reset.
pub struct Slots<const COUNT: usize, const BYTES: usize> {
    queue: Queue<COUNT>,
    memory: Buffer,
    held: [Held; COUNT],
    /// Which slot a token of the queue stands for, while the device has it.
    of_token: [Option<Slot>; COUNT],
}

impl<const COUNT: usize, const BYTES: usize> Slots<COUNT, BYTES> {
    /// Queue `number` of the device.
    ///
    /// # Errors
    /// ENODEV if the device has none so long, ENOMEM.
    pub fn new(bus: &mut Bus, number: u16) -> KResult<Self> {
        const { assert!(COUNT <= u8::MAX as usize) };
        let memory = Buffer::new(COUNT * BYTES).ok_or(Errno::ENOMEM)?;
        let queue = bus.queue(number)?;
        Ok(Self { queue, memory, held: [Held::No; COUNT], of_token: [None; COUNT] })
    }

    /// A slot that the device has not.
    pub fn free(&self) -> Option<Slot> {
        self.held.iter().position(|held| *held == Held::No).map(|index| Slot(index as u8))
    }

    /// How many slots the device has not.
    pub fn free_slots(&self) -> usize {
        self.held.iter().filter(|held| **held == Held::No).count()
    }

    /// A slot's bytes; the device has it not.
    pub fn bytes_mut(&mut self, slot: Slot) -> &mut [u8] {
        part_mut::<BYTES>(&mut self.memory, slot)
    }

    /// Hands a slot to the device, to be filled.
    pub fn give_empty(&mut self, slot: Slot) -> KResult<()> {
        let part = part_mut::<BYTES>(&mut self.memory, slot);
        // SAFETY: the part is left alone until `take` has got it back, or the device is reset.
        let token = unsafe { self.queue.add(&[], &mut [part]) };
        self.note(token, slot, Held::Empty)
    }

    /// Hands the first `bytes` of a slot to the device, to be read.
    pub fn give_filled(&mut self, slot: Slot, bytes: usize) -> KResult<()> {
        let part = &part_mut::<BYTES>(&mut self.memory, slot)[..bytes];
        // SAFETY: as above.
        let token = unsafe { self.queue.add(&[part], &mut []) };
        self.note(token, slot, Held::Filled(bytes))
    }

    fn note(&mut self, token: virtio_drivers::Result<u16>, slot: Slot, held: Held) -> KResult<()> {
        let token = token.map_err(|_| Errno::EIO)?;
        self.of_token[usize::from(token)] = Some(slot);
        self.held[usize::from(slot.0)] = held;
        Ok(())
    }

    /// Takes back a slot that the device has used, with the number of bytes it has filled.
    pub fn take(&mut self) -> KResult<Option<(Slot, usize)>> {
        let Some(token) = self.queue.peek_used() else { return Ok(None) };
        let slot = self.of_token.get_mut(usize::from(token)).and_then(Option::take).ok_or(Errno::EIO)?;
        let part = part_mut::<BYTES>(&mut self.memory, slot);
        let held = core::mem::replace(&mut self.held[usize::from(slot.0)], Held::No);
        // SAFETY: this is what was added with the token, whose slot the device has.
        let written = unsafe {
            match held {
                Held::No => return Err(Errno::EIO),
                Held::Empty => self.queue.pop_used(token, &[], &mut [part]),
                Held::Filled(bytes) => self.queue.pop_used(token, &[&part[..bytes]], &mut []),
            }
        };
        let written = written.map_err(|_| Errno::EIO)? as usize;
        Ok(Some((slot, written.min(BYTES))))
    }

    /// Whether the device wants to be told of what it was handed.
    pub fn wants_to_know(&self) -> bool {
        bus::should_notify(&self.queue)
    }

    /// Whether the device shall raise its line for what it has used.
    pub fn set_told(&mut self, told: bool) {
        bus::set_told(&mut self.queue, told);
    }
}

fn part_mut<const BYTES: usize>(memory: &mut Buffer, slot: Slot) -> &mut [u8] {
    &mut memory.bytes_mut()[usize::from(slot.0) * BYTES..][..BYTES]
}
