//! A device's side of a split virtqueue (virtio 1.2, 2.7).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, Ordering};

use platform::{PhysAddr, QueueLayout};

use crate::memory::memory;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;

#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

/// Buffers that the driver has made available together.
pub struct Chain {
    head: u16,
    read: Vec<(PhysAddr, usize)>,
    written: Vec<(PhysAddr, usize)>,
}

impl Chain {
    /// The bytes that the device reads.
    pub fn read_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(address, length) in &self.read {
            // SAFETY: `Queue::take` has seen that this is RAM; the driver leaves it alone until it gets it back.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(memory().host(address).as_ptr(), length)
            });
        }
        bytes
    }

    /// How many bytes the device may write.
    pub fn room(&self) -> usize {
        self.written.iter().map(|(_, length)| length).sum()
    }

    /// The same under a number that the driver has not used for it.
    pub fn with_another_head(self) -> Self {
        Self { head: self.head ^ 0x40, ..self }
    }

    fn write(&self, bytes: &[u8]) {
        let mut left = bytes;
        for &(address, length) in &self.written {
            let (part, rest) = left.split_at(left.len().min(length));
            // SAFETY: as in `read_bytes`.
            unsafe { memory().host(address).as_mut_ptr::<u8>().copy_from(part.as_ptr(), part.len()) };
            left = rest;
        }
        assert!(left.is_empty(), "a device writes more than there is room for");
    }
}

/// One queue of a device.
#[derive(Default)]
pub struct Queue {
    layout: Option<QueueLayout>,
    next_available: u16,
    used: u16,
    /// Chains that wait for something to be written to them.
    pub kept: VecDeque<Chain>,
}

impl Queue {
    /// The driver has placed it.
    pub fn place(&mut self, layout: QueueLayout) -> Result<(), String> {
        let aligned = layout.descriptors.0.is_multiple_of(16)
            && layout.driver.0.is_multiple_of(2)
            && layout.device.0.is_multiple_of(4);
        if !layout.size.is_power_of_two() || !aligned {
            return Err(format!("{layout:?}"));
        }
        *self = Self { layout: Some(layout), ..Self::default() };
        Ok(())
    }

    /// The device was reset.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The next chain that the driver has made available.
    pub fn take(&mut self) -> Result<Option<Chain>, String> {
        let Some(layout) = self.layout else { return Err("the queue is nowhere".to_owned()) };
        if index_at(layout.driver + 2).load(Ordering::Acquire) == self.next_available {
            return Ok(None);
        }
        let slot = u64::from(self.next_available % layout.size);
        let head = index_at(layout.driver + 4 + 2 * slot).load(Ordering::Relaxed);
        self.next_available = self.next_available.wrapping_add(1);
        let mut chain = Chain { head, read: Vec::new(), written: Vec::new() };
        let mut next = Some(head);
        while let Some(index) = next {
            if index >= layout.size || chain.read.len() + chain.written.len() >= usize::from(layout.size) {
                return Err(format!("descriptor {index} of {}, or a loop", layout.size));
            }
            let at = memory().host(layout.descriptors + u64::from(index) * size_of::<Descriptor>() as u64);
            // SAFETY: the driver's table, which it does not change as long as the chain is available.
            let descriptor = unsafe { at.as_ptr::<Descriptor>().read_volatile() };
            let buffer = (PhysAddr(descriptor.address), descriptor.length as usize);
            if descriptor.length == 0 || descriptor.flags & INDIRECT != 0 || !is_ram(buffer) {
                return Err(format!("a buffer at {:?} of {} bytes", buffer.0, buffer.1));
            }
            match (descriptor.flags & WRITE != 0, chain.written.is_empty()) {
                (true, _) => chain.written.push(buffer),
                (false, true) => chain.read.push(buffer),
                (false, false) => return Err("a buffer to be read behind one to be written".to_owned()),
            }
            next = (descriptor.flags & NEXT != 0).then_some(descriptor.next);
        }
        Ok(Some(chain))
    }

    /// Writes `bytes` and gives the chain back; returns whether the driver wants to be told.
    pub fn give_back(&mut self, chain: &Chain, bytes: &[u8]) -> bool {
        let Some(layout) = self.layout else { return false };
        chain.write(bytes);
        let slot = u64::from(self.used % layout.size);
        let entry = memory().host(layout.device + 4 + 8 * slot).as_mut_ptr::<[u32; 2]>();
        // SAFETY: the driver's ring; the entry is the device's until the index has passed it.
        unsafe { entry.write_volatile([chain.head.into(), bytes.len() as u32]) };
        self.used = self.used.wrapping_add(1);
        index_at(layout.device + 2).store(self.used, Ordering::Release);
        index_at(layout.driver).load(Ordering::Acquire) & NO_INTERRUPT == 0
    }
}

fn is_ram((address, length): (PhysAddr, usize)) -> bool {
    let last = address + (length as u64 - 1);
    memory().is_ram(address.frame()) && memory().is_ram(last.frame())
}

fn index_at(address: PhysAddr) -> &'static AtomicU16 {
    // SAFETY: part of a ring, which is RAM, aligned, and accessed by both sides as such a word only.
    unsafe { &*memory().host(address).as_ptr() }
}
