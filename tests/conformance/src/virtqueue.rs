//! A driver's side of a split virtqueue (virtio 1.2, 2.7), as little of it as the cases need.

use core::sync::atomic::{AtomicU16, Ordering};

use platform::{PhysAddr, QueueLayout};

use crate::memory::Shared;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;
/// Bytes of an entry of the device area.
const USED: usize = 8;

/// A piece of a chain.
#[derive(Clone, Copy)]
pub struct Buffer {
    /// Where it is.
    pub at: PhysAddr,
    /// How long it is.
    pub bytes: u32,
    /// The device writes it.
    pub is_written: bool,
}

/// What a device has given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// The chain's first descriptor.
    pub head: u32,
    /// How many bytes the device has written.
    pub written: u32,
}

/// A queue in memory of its own.
pub struct Queue {
    /// Descriptor table, driver area and device area, a page or more each.
    areas: [Shared; 3],
    size: u16,
    next_available: u16,
    next_used: u16,
}

impl Queue {
    /// An empty one.
    pub fn new(size: u16) -> Self {
        let entries = usize::from(size);
        let areas = [DESCRIPTOR * entries, 4 + 2 * entries, 4 + USED * entries].map(Shared::new);
        Self { areas, size, next_available: 0, next_used: 0 }
    }

    /// Where it is, as queue `number` of a device.
    pub fn layout(&self, number: u16) -> QueueLayout {
        let [descriptors, driver, device] = self.areas.each_ref().map(|area| area.at(0));
        QueueLayout { queue: number, size: self.size, descriptors, driver, device }
    }

    /// How many descriptors it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Makes a chain available, in the descriptors from `head` on.
    pub fn offer(&mut self, head: u16, chain: &[Buffer]) {
        let [table, driver, _] = &self.areas;
        for (index, buffer) in (head..).zip(chain) {
            let at = DESCRIPTOR * usize::from(index);
            let more = usize::from(index - head) + 1 < chain.len();
            let flags = if buffer.is_written { WRITE } else { 0 } | if more { NEXT } else { 0 };
            table.long(at).store(buffer.at.0, Ordering::Relaxed);
            table.word(at + 8).store(buffer.bytes, Ordering::Relaxed);
            table.half(at + 12).store(flags, Ordering::Relaxed);
            table.half(at + 14).store(if more { index + 1 } else { 0 }, Ordering::Relaxed);
        }
        let slot = usize::from(self.next_available % self.size);
        driver.half(4 + 2 * slot).store(head, Ordering::Relaxed);
        self.next_available = self.next_available.wrapping_add(1);
        driver.half(2).store(self.next_available, Ordering::Release);
    }

    fn used(&self) -> &AtomicU16 {
        self.areas[2].half(2)
    }

    /// Whether the device has given something back that was not taken.
    pub fn has_used(&self) -> bool {
        self.used().load(Ordering::Acquire) != self.next_used
    }

    /// The next chain that the device has given back.
    pub fn take(&mut self) -> Option<Used> {
        if !self.has_used() {
            return None;
        }
        let at = 4 + USED * usize::from(self.next_used % self.size);
        let [head, written] = [at, at + 4].map(|at| self.areas[2].word(at).load(Ordering::Relaxed));
        self.next_used = self.next_used.wrapping_add(1);
        Some(Used { head, written })
    }

    /// The part of it that the device writes.
    pub fn device_area(&self) -> &Shared {
        &self.areas[2]
    }
}
