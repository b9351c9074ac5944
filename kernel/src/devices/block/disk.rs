//! The driver of a virtio block device (virtio 1.2, section 5.2).
//!
//! Whoever makes a request hands its data over and sleeps until the device has given them back. A device that fails is
//! reset, and whoever waits for it, or comes later, is told EIO.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::Device;
use virtio_drivers::transport::{InterruptStatus, Transport};
use zerocopy::{FromBytes, IntoBytes};

use super::requests::{Data, Finished, Operation, REQUESTS, Request, Requests};
use crate::devices::Driver;
use crate::devices::bus::Bus;
use crate::devices::memory::Buffer;
use crate::errno::{Errno, KResult};
use crate::sync::{IrqLock, Mutex, WaitQueue};

/// Bytes in virtio's unit of places on a disk, whatever its blocks are.
pub const SECTOR: usize = 512;
/// The most bytes in one request.
pub const MOST_BYTES: usize = 128 * 1024;

/// Feature bits (5.2.3).
mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const BLOCK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
}

/// The start of the configuration (5.2.4).
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
struct Configuration {
    sectors: u64,
    most_segment_bytes: u32,
    most_segments: u32,
    geometry: u32,
    block_bytes: u32,
}

/// A disk.
pub struct Disk {
    sectors: AtomicU64,
    block_bytes: usize,
    most_bytes: usize,
    read_only: bool,
    can_flush: bool,
    requests: IrqLock<Requests>,
    /// Woken when the request of a slot is done.
    done: [WaitQueue; REQUESTS],
    /// Woken when a slot is free.
    room: WaitQueue,
    /// Held while something is written, for a block that changes in part is read before.
    pub writing: Mutex<()>,
}

impl Disk {
    /// Takes a device into use.
    ///
    /// # Errors
    /// ENODEV if it cannot be driven, ENOMEM.
    pub fn start(device: Device) -> KResult<Self> {
        use feature::{BLOCK_SIZE, FLUSH, READ_ONLY, SIZE_MAX};
        let bus = Bus::new(device, SIZE_MAX | READ_ONLY | BLOCK_SIZE | FLUSH)?;
        let configuration: Configuration = bus.read_config_space(0).map_err(|_| Errno::ENODEV)?;
        let block_bytes = if bus.has(BLOCK_SIZE) { configuration.block_bytes as usize } else { SECTOR };
        if !block_bytes.is_power_of_two() || !(SECTOR..=MOST_BYTES).contains(&block_bytes) {
            log::error!("a disk has blocks of {block_bytes} bytes");
            return Err(Errno::ENODEV);
        }
        let most_segment =
            if bus.has(SIZE_MAX) { configuration.most_segment_bytes as usize } else { MOST_BYTES };
        let most_bytes = most_segment.min(MOST_BYTES) / block_bytes * block_bytes;
        if most_bytes == 0 {
            log::error!("a disk takes no more than {most_segment} bytes in one piece");
            return Err(Errno::ENODEV);
        }
        let (read_only, can_flush) = (bus.has(READ_ONLY), bus.has(FLUSH));
        Ok(Self {
            sectors: AtomicU64::new(configuration.sectors),
            block_bytes,
            most_bytes,
            read_only,
            can_flush,
            requests: IrqLock::new(Requests::start(bus)?),
            done: [const { WaitQueue::new() }; REQUESTS],
            room: WaitQueue::new(),
            writing: Mutex::new(()),
        })
    }

    /// Its size, in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }

    /// Its size in whole blocks, in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes = self.sectors().saturating_mul(SECTOR as u64);
        bytes - bytes % self.block_bytes as u64
    }

    /// Bytes of the smallest piece that can be read or written.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// The most bytes in one request: whole blocks.
    pub fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Whether nothing can be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Fills the first `bytes` of `buffer` with what is on the disk from byte `at` on; both are of whole blocks.
    ///
    /// # Errors
    /// EIO. The buffer is lost.
    pub fn read(&self, at: u64, buffer: Buffer, bytes: usize) -> KResult<Buffer> {
        self.transfer(Operation::Read, at, buffer, bytes)
    }

    /// Writes the first `bytes` of `buffer` to the disk from byte `at` on; both are of whole blocks.
    ///
    /// # Errors
    /// EIO. The buffer is lost.
    pub fn write(&self, at: u64, buffer: Buffer, bytes: usize) -> KResult<Buffer> {
        self.transfer(Operation::Write, at, buffer, bytes)
    }

    fn transfer(&self, operation: Operation, at: u64, buffer: Buffer, bytes: usize) -> KResult<Buffer> {
        assert!(bytes > 0 && bytes <= buffer.len().min(self.most_bytes), "a request of {bytes} bytes");
        let request = Request { operation, sector: at / SECTOR as u64 };
        let data = self.carry_out(request, Some(Data { buffer, bytes }))?;
        data.map(|data| data.buffer).ok_or(Errno::EIO)
    }

    /// Waits until what was written would survive.
    ///
    /// # Errors
    /// EIO.
    pub fn flush(&self) -> KResult<()> {
        if !self.can_flush {
            return Ok(());
        }
        self.carry_out(Request { operation: Operation::Flush, sector: 0 }, None).map(drop)
    }

    /// Makes a request and sleeps until it is done.
    fn carry_out(&self, request: Request, data: Option<Data>) -> KResult<Option<Data>> {
        let mut data = Some(data);
        let slot = self.room.wait_uninterruptible(|| self.requests.lock().begin(request, &mut data))?;
        let (data, result) = self.done[slot].wait_uninterruptible(|| self.requests.lock().take(slot));
        self.room.wake_one();
        result.map(|()| data)
    }

    /// Wakes those whose requests are done, and all if the device has failed.
    fn wake(&self, finished: Finished) {
        finished.slots().for_each(|slot| {
            self.done[slot].wake_all();
        });
        if finished.for_good {
            self.room.wake_all();
        }
    }
}

impl Driver for Disk {
    fn on_interrupt(&self) {
        let finished = {
            let mut requests = self.requests.lock();
            let events = requests.bus().ack_interrupt();
            if events.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT) {
                if let Ok(sectors) = requests.bus().read_config_space(0) {
                    self.sectors.store(sectors, Ordering::Relaxed);
                }
                requests.look_for_failure();
            }
            requests.collect()
        };
        self.wake(finished);
    }
}
