//! The machine and the guest's side of a queue, on the build machine.

use std::collections::VecDeque;

use lguest_abi::{DeviceDescriptor, NOTIFY_QUEUE, NOTIFY_STATUS, status};
use platform::Nanoseconds;

use super::port::{Busy, Direction, Drive, Failed, MOST_FRAME, SECTOR, Ticket, Transfer};
use super::*;
use crate::clock::Scale;

/// A machine that remembers what it was asked.
#[derive(Default)]
pub struct Fake {
    pub counter: u64,
    pub printed: Vec<u8>,
    pub reported: Vec<u8>,
    pub sent: Vec<(usize, Vec<u8>)>,
    pub frames: VecDeque<Vec<u8>>,
    pub drive: FakeDrive,
}

impl Host for Fake {
    type Drive = FakeDrive;
    fn counter(&mut self) -> u64 {
        self.counter
    }
    fn scale(&self) -> Scale {
        Scale(1 << 32)
    }
    fn wall_clock_base(&self) -> Option<Nanoseconds> {
        Some(Nanoseconds::from_seconds(1000))
    }
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        [leaf, subleaf, 3, 4]
    }
    fn print(&mut self, _: usize, text: &[u8]) {
        self.printed.extend(text);
    }
    fn report(&mut self, _: usize, line: &[u8]) {
        self.reported.extend(line);
    }
    fn drive(&mut self, number: usize) -> &mut FakeDrive {
        assert_eq!(number, 3);
        &mut self.drive
    }
    fn send_frame(&mut self, guest: usize, frame: &[u8]) {
        self.sent.push((guest, frame.to_vec()));
    }
    fn receive_frame(&mut self, _: usize, frame: &mut [u8; MOST_FRAME]) -> Option<usize> {
        let next = self.frames.pop_front()?;
        frame[..next.len()].copy_from_slice(&next);
        Some(next.len())
    }
}

/// A drive with room for three transfers, which the test completes.
#[derive(Default)]
pub struct FakeDrive {
    pub begun: VecDeque<(Ticket, Direction, u64, u64)>,
    pub done: VecDeque<(Ticket, Result<(), Failed>)>,
}

impl Drive for FakeDrive {
    fn sectors(&self) -> u64 {
        100
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn begin(&mut self, transfer: &Transfer<'_>, ticket: Ticket) -> Result<(), Busy> {
        if self.begun.len() == 3 {
            return Err(Busy);
        }
        let memory = MEMORY_AT..MEMORY_AT + PAGES as u64 * PAGE_SIZE;
        for segment in transfer.segments {
            let (start, end) = (segment.start.0, segment.end.0);
            assert!(memory.contains(&start) && start < end && end <= memory.end, "{segment:x?}");
        }
        let bytes = transfer.segments.iter().map(|segment| segment.bytes()).sum::<u64>();
        assert_eq!(bytes == 0, transfer.direction == Direction::Flush);
        assert!(bytes.is_multiple_of(SECTOR) && transfer.sector + bytes / SECTOR <= self.sectors());
        self.begun.push_back((ticket, transfer.direction, transfer.sector, bytes));
        Ok(())
    }
    fn completed(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        self.done.pop_front()
    }
}

/// One descriptor: address, bytes, whether the device writes it.
pub type Piece = (u64, u32, bool);

/// A guest's devices and its side of them.
pub struct Rig {
    pub memory: GuestMemory,
    pub devices: Devices,
    pub pending: Pending,
    pub input: InputQueue,
    pub counters: Counters,
    pub host: Fake,
    /// Available index of each queue.
    available: [u16; 64],
}

/// Entries of a rig's queues.
pub const SIZE: u16 = 16;
/// Pages of its memory.
pub const PAGES: usize = 128;
/// Where they are on the host.
pub const MEMORY_AT: u64 = 0x4000_0000;
const RINGS: u64 = 0x4_0000;

impl Rig {
    /// Devices that have been described.
    pub fn new(fittings: Fittings) -> Self {
        let memory = crate::memory::testing::memory(PAGES, MEMORY_AT);
        let mut devices = Devices::new(fittings);
        devices.start(0, &memory).unwrap();
        Self {
            memory,
            devices,
            pending: Pending::default(),
            input: InputQueue::new(),
            counters: Counters::default(),
            host: Fake::default(),
            available: [0; 64],
        }
    }

    pub fn descriptor(&self, device: usize) -> &'static DeviceDescriptor {
        &self.memory.device_page(PAGE_AT).unwrap().devices[device]
    }

    pub fn notify(&mut self, device: usize, what: u64) -> Result<(), Broken> {
        self.devices.notify(&self.memory, GuestPhys(PAGE_AT.0 + 256 * device as u64), what)
    }

    pub fn set_status(&mut self, device: usize, status: u8) -> Result<u8, Broken> {
        self.descriptor(device).status.store(status, Relaxed);
        self.notify(device, NOTIFY_STATUS)?;
        Ok(self.descriptor(device).status.load(Relaxed))
    }

    /// Where the rings of a queue are: descriptors, driver area, device area.
    pub fn rings(device: usize, queue: usize) -> [u64; 3] {
        let at = RINGS + 0x1000 * (2 * device + queue) as u64;
        [at, at + 0x400, at + 0x800]
    }

    /// Sets a device and its queues up as a driver does.
    pub fn drive(&mut self, device: usize) {
        use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
        let descriptor = self.descriptor(device);
        let all = self.set_status(device, ACKNOWLEDGE | DRIVER).unwrap() | FEATURES_OK;
        descriptor.accepted.store(descriptor.features.load(Relaxed), Relaxed);
        assert_eq!(self.set_status(device, all), Ok(all));
        for queue in 0..usize::from(descriptor.num_vq.load(Relaxed)) {
            let [desc, driver, used] = Self::rings(device, queue);
            let config = &descriptor.queues[queue];
            config.size.store(SIZE, Relaxed);
            config.desc.store(desc, Relaxed);
            config.driver.store(driver, Relaxed);
            config.device.store(used, Relaxed);
            self.available[2 * device + queue] = 0;
        }
        self.set_status(device, all | DRIVER_OK).unwrap();
    }

    /// Makes a chain available, with its descriptors from `head` on.
    pub fn offer(&mut self, device: usize, queue: usize, head: u16, pieces: &[Piece]) {
        let [desc, driver, _] = Self::rings(device, queue);
        for (n, &(address, bytes, writes)) in pieces.iter().enumerate() {
            let next = if n + 1 < pieces.len() { 1 } else { 0 };
            let flags = next | if writes { 2 } else { 0 };
            let index = head + n as u16;
            let rest = u64::from(bytes) | flags << 32 | u64::from(index + 1) << 48;
            self.memory.write(GuestPhys(desc + 16 * u64::from(index)), address).unwrap();
            self.memory.write(GuestPhys(desc + 16 * u64::from(index) + 8), rest).unwrap();
        }
        let available = &mut self.available[2 * device + queue];
        let slot = driver + 4 + 2 * u64::from(*available % SIZE);
        self.memory.copy_in(GuestPhys(slot), &head.to_le_bytes()).unwrap();
        *available = available.wrapping_add(1);
        self.memory.copy_in(GuestPhys(driver + 2), &available.to_le_bytes()).unwrap();
    }

    pub fn kick(&mut self, device: usize, queue: usize) -> Result<(), Broken> {
        self.notify(device, NOTIFY_QUEUE + queue as u64)?;
        self.work()
    }

    /// Works until nothing is left to do.
    pub fn work(&mut self) -> Result<(), Broken> {
        for _ in 0..1000 {
            if !self.devices.have_work() {
                return Ok(());
            }
            self.work_once()?;
        }
        panic!("the work does not end");
    }

    pub fn work_once(&mut self) -> Result<(), Broken> {
        let Self { memory, pending, input, counters, host, .. } = self;
        self.devices.work(&mut With { number: 0, memory: *memory, pending, input, counters, host })
    }

    /// The chains given back so far: head and bytes written.
    pub fn used(&self, device: usize, queue: usize) -> Vec<(u32, u32)> {
        let [_, _, used] = Self::rings(device, queue);
        let mut bytes = [0; 4 + 8 * SIZE as usize];
        self.memory.copy_out(GuestPhys(used), &mut bytes).unwrap();
        let count = u16::from_le_bytes([bytes[2], bytes[3]]);
        assert!(count <= SIZE);
        let entries = bytes[4..].chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        let words: Vec<u32> = entries.take(2 * usize::from(count)).collect();
        words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    }

    pub fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.copy_out(GuestPhys(at), &mut bytes).unwrap();
        bytes
    }
}
