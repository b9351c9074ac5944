//! A device that is driven, with requests of its kind that do no harm.

use alloc::format;
use alloc::string::String;

use platform::{Device, PhysAddr};

use crate::hook::devices;
use crate::memory::Shared;
use crate::report::ensure;
use crate::virtqueue::{Buffer, Queue, Used};
use crate::wait;

/// The feature that each device offers, and all that these drivers take.
pub const VERSION_1: u64 = 1 << 32;

/// Steps of the device status (virtio 1.2, 2.1), each with those before it.
pub const ACKNOWLEDGE: u8 = 1;
/// There is a driver.
pub const DRIVER: u8 = 2 | ACKNOWLEDGE;
/// The features are agreed upon.
pub const FEATURES_OK: u8 = 8 | DRIVER;
/// The device is driven.
pub const DRIVER_OK: u8 = 4 | FEATURES_OK;

const NETWORK: u32 = 1;
const BLOCK: u32 = 2;
const CONSOLE: u32 = 3;

/// Bytes of a disk's sector.
pub const SECTOR: u32 = 512;
/// `VIRTIO_BLK_F_RO`
const READ_ONLY: u64 = 1 << 5;
/// A disk's request and its status lie so far from those of the next descriptor.
const SLOT: usize = 32;
/// Bytes of a request; the status byte lies behind it.
const REQUEST: usize = 16;
/// Header and frame of the network: the header is zero, and so is the frame but for addresses and type.
const FRAME: (usize, usize) = (12, 60);
/// An EtherType for local experiments.
const FRAME_TYPE: [u8; 2] = [0x88, 0xb5];
/// Room for the data of one request.
const DATA: usize = 4096;

/// What is asked of a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// `VIRTIO_BLK_T_IN`
    Read,
    /// `VIRTIO_BLK_T_OUT`
    Write,
}

/// The queue that takes requests, and how many descriptors of it one takes; none of a kind that is not known here.
pub fn requests_of(device: &Device) -> Option<(u16, u16)> {
    match device.kind {
        NETWORK | CONSOLE => Some((1, 1)),
        BLOCK => Some((0, 3)),
        _ => None,
    }
}

/// Whether it is a disk that can be written to.
pub fn is_disk(device: &Device) -> bool {
    device.kind == BLOCK && device.features & READ_ONLY == 0
}

/// Resets a device and offers it these features; the status it has then.
pub fn negotiate(device: &Device, features: u64) -> Result<u8, String> {
    for status in [0, ACKNOWLEDGE, DRIVER] {
        let answer = devices::set_status(device.id, status);
        ensure!(answer == status, "{:?} has status {answer:#x} when it is given {status:#x}", device.id);
    }
    devices::accept(device.id, features);
    Ok(devices::set_status(device.id, FEATURES_OK))
}

/// A device that is driven, with one queue. It is reset when this is dropped.
pub struct Driven {
    /// Which.
    pub device: Device,
    number: u16,
    /// The queue for its requests.
    pub queue: Queue,
    /// Requests and their status, and behind them what a request that does no harm is about.
    buffers: Shared,
}

impl Driven {
    /// Agrees on features, and places a queue of so many descriptors.
    pub fn start(device: Device, size: u16) -> Result<Self, String> {
        let driven = Self::stop_short(device, size)?;
        driven.go()?;
        Ok(driven)
    }

    /// The same, but the device is not driven yet.
    pub fn stop_short(device: Device, size: u16) -> Result<Self, String> {
        let Some((number, _)) = requests_of(&device) else {
            return Err(format!("a device of kind {} is not known", device.kind));
        };
        let status = negotiate(&device, VERSION_1)?;
        ensure!(status == FEATURES_OK, "{:?} does not take the least features: {status:#x}", device.id);
        let queue = Queue::new(size);
        let data = SLOT * usize::from(size);
        let driven = Self { device, number, queue, buffers: Shared::new(data + DATA) };
        devices::set_queue(device.id, &driven.queue.layout(number));
        Ok(driven)
    }

    /// Drives it.
    pub fn go(&self) -> Result<(), String> {
        let status = devices::set_status(self.device.id, DRIVER_OK);
        ensure!(status == DRIVER_OK, "{:?} has status {status:#x} when it is driven", self.device.id);
        Ok(())
    }

    /// Its queue is in new memory from now on.
    pub fn move_queue(&mut self, size: u16) -> Queue {
        let before = core::mem::replace(&mut self.queue, Queue::new(size));
        devices::set_queue(self.device.id, &self.queue.layout(self.number));
        before
    }

    /// Takes its queue away.
    pub fn take_queue_away(&self) {
        let nowhere = PhysAddr(0);
        let layout = platform::QueueLayout {
            queue: self.number,
            size: 0,
            descriptors: nowhere,
            driver: nowhere,
            device: nowhere,
        };
        devices::set_queue(self.device.id, &layout);
    }

    /// Tells it that there are requests.
    pub fn notify(&self) {
        devices::notify(self.device.id, self.number);
    }

    /// Makes a request that does no harm.
    pub fn request(&mut self, head: u16) {
        let at = self.buffers.bytes() - DATA;
        let data = |bytes, is_written| Buffer { at: self.buffers.at(at), bytes, is_written };
        match self.device.kind {
            NETWORK => {
                let (header, frame) = FRAME;
                let mut address = [0; 6];
                devices::read_config(self.device.id, 0, &mut address);
                self.buffers.write(at + header, &address);
                self.buffers.write(at + header + 6, &address);
                self.buffers.write(at + header + 12, &FRAME_TYPE);
                let chain = [data((header + frame) as u32, false)];
                self.queue.offer(head, &chain);
            }
            BLOCK => {
                let chain = [data(SECTOR, true)];
                self.transfer(head, Transfer::Read, 0, &chain);
            }
            _ => {
                // Nobody sees it on a console.
                self.buffers.write(at, b"\r");
                let chain = [data(1, false)];
                self.queue.offer(head, &chain);
            }
        }
        self.notify();
    }

    /// Makes a request of a disk available, in the descriptors from `head` on; it is not told.
    pub fn transfer(&mut self, head: u16, transfer: Transfer, sector: u64, data: &[Buffer]) {
        let at = SLOT * usize::from(head);
        let kind: u32 = if transfer == Transfer::Read { 0 } else { 1 };
        self.buffers.write(at, &kind.to_le_bytes());
        self.buffers.write(at + 4, &[0; 4]);
        self.buffers.write(at + 8, &sector.to_le_bytes());
        self.buffers.write(at + REQUEST, &[u8::MAX]);
        let part = |offset, bytes, is_written| Buffer { at: self.buffers.at(offset), bytes, is_written };
        let mut chain = alloc::vec![part(at, REQUEST as u32, false)];
        chain.extend_from_slice(data);
        chain.push(part(at + REQUEST, 1, true));
        self.queue.offer(head, &chain);
    }

    /// Waits for what the device gives back next, which must be the chain of `head`; for a disk it must have succeeded.
    pub fn complete(&mut self, head: u16) -> Result<Used, String> {
        let id = self.device.id;
        ensure!(wait::comes(|| self.queue.has_used()), "{id:?} did not use what it was told of");
        let Some(used) = self.queue.take() else { return Err(format!("{id:?} took something back")) };
        ensure!(used.head == u32::from(head), "{id:?} gave back {} instead of {head}", used.head);
        if self.device.kind == BLOCK {
            let status = self.buffers.byte(SLOT * usize::from(head) + REQUEST);
            let status = status.load(core::sync::atomic::Ordering::Relaxed);
            ensure!(status == 0, "{id:?} ended a request with status {status}");
        }
        Ok(used)
    }

    /// Resets it.
    pub fn reset(&self) -> Result<(), String> {
        let status = devices::set_status(self.device.id, 0);
        ensure!(status == 0, "{:?} has status {status:#x} after a reset", self.device.id);
        Ok(())
    }

    /// What it may write to while it is driven, beside the data of transfers.
    pub fn written(&self) -> [&Shared; 2] {
        [self.queue.device_area(), &self.buffers]
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        devices::set_status(self.device.id, 0);
    }
}
