//! The hostile guest's devices: driven as they should be, and now and then not.

use lguest_abi::{DeviceDescriptor, Hypercall, LguestData, NOTIFY_QUEUE, NOTIFY_STATUS, VqConfig, status};

use crate::call::{DATA, call, physical};
use crate::random::Random;
use crate::space::{MEMORY_AT, SCRATCH};

/// Console, network, disk: as the host lists them.
const DEVICES: usize = 3;
const CONSOLE: usize = 0;
const NETWORK: usize = 1;
/// Entries of each queue.
const SIZE: u16 = 16;
/// Rings, headers and buffers: memory that nothing else depends on.
const RINGS: u64 = SCRATCH + 0x2_0000;
const HEADERS: u64 = SCRATCH + 0x3_0000;
const BUFFERS: u64 = SCRATCH + 0x4_0000;
const BUFFER_BYTES: u64 = 0x8_0000;

/// The bus as this guest knows it.
pub struct Bus {
    page: u64,
    memory: u64,
    live: [bool; DEVICES],
    available: [u16; 2 * DEVICES],
}

fn put(at: u64, bytes: &[u8]) {
    for (n, byte) in bytes.iter().enumerate() {
        // SAFETY: scratch memory or the devices' page, which the good roots show there.
        unsafe { ((MEMORY_AT + at + n as u64) as *mut u8).write_volatile(*byte) };
    }
}

fn get(at: u64) -> u64 {
    // SAFETY: as above; the address is a multiple of 8.
    unsafe { ((MEMORY_AT + at) as *const u64).read_volatile() }
}

impl Bus {
    /// The devices of the page at `page`, none of them driven.
    pub const fn new(page: u64, memory: u64) -> Self {
        Self { page, memory, live: [false; DEVICES], available: [0; 2 * DEVICES] }
    }

    fn descriptor(&self, device: usize) -> u64 {
        self.page + (size_of::<DeviceDescriptor>() * device) as u64
    }

    fn set_status(&self, device: usize, status: u8) {
        put(self.descriptor(device) + 3, &[status]);
        call(Hypercall::Notify, [self.descriptor(device), NOTIFY_STATUS, 0]);
    }

    fn ring(device: usize, queue: usize) -> u64 {
        RINGS + 0x1000 * (2 * device + queue) as u64
    }

    /// Resets a device, and mostly drives it again.
    fn set_up(&mut self, random: &mut Random, device: usize) {
        self.set_status(device, 0);
        self.live[device] = !random.once_in(8);
        if self.live[device] {
            self.drive(device);
        }
    }

    /// Brings a device that was reset to work, its queues where they should be.
    fn drive(&mut self, device: usize) {
        self.drive_at(device, |ring, area, _| ring + area);
    }

    /// Brings a device to work whose queues overlap each other or other buffers, and kicks it; now and then one is beyond memory.
    fn misplace(&mut self, random: &mut Random, device: usize) {
        self.set_status(device, 0);
        let memory = self.memory;
        self.drive_at(device, |ring, area, alignment| {
            let place = match random.below(256) {
                0 => random.one_of(&[memory - 64, memory, u64::MAX, 1 << 47, 1 << 63]),
                1..96 => ring + random.below(0x800),
                96..128 => BUFFERS + random.below(BUFFER_BYTES - 0x1000),
                _ => ring + area,
            };
            place & !(alignment - 1)
        });
        self.live[device] = true;
        let queue = self.request(random, device);
        self.kick(device, queue as u64);
    }

    /// Brings a device that was reset to work: `place` says where the areas of a queue are, from the page for it, where in that
    /// they should be, and their alignment.
    fn drive_at(&mut self, device: usize, mut place: impl FnMut(u64, u64, u64) -> u64) {
        use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
        let at = self.descriptor(device);
        self.set_status(device, ACKNOWLEDGE | DRIVER);
        put(at + 0x10, &get(at + 8).to_le_bytes());
        self.set_status(device, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        for queue in 0..2 {
            let (ring, config) =
                (Self::ring(device, queue), at + 0x20 + (size_of::<VqConfig>() * queue) as u64);
            put(ring, &[0; 0x1000]);
            put(config + 2, &SIZE.to_le_bytes());
            for (area, offset, alignment) in [(0, 8, 16), (0x400, 16, 2), (0x800, 24, 4)] {
                put(config + offset, &place(ring, area, alignment).to_le_bytes());
            }
            self.available[2 * device + queue] = 0;
        }
        self.set_status(device, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// A buffer of `bytes`; now and then at a border, which is beyond memory or harmless.
    fn buffer(&self, random: &mut Random, bytes: u64) -> u64 {
        if random.once_in(4096) {
            let ends =
                [self.memory, self.memory - bytes, self.memory - bytes + 1, u64::MAX, 1 << 47, 1 << 63];
            return random.one_of(&ends);
        }
        // Over the ring of calls, up to the end of the shared page.
        let ring = physical(&raw const DATA.hcall_status);
        let room = physical(&raw const DATA) + size_of::<LguestData>() as u64 - ring;
        if random.once_in(2048) && bytes <= room {
            return ring + random.below(room - bytes + 1);
        }
        BUFFERS + random.below(BUFFER_BYTES - bytes)
    }

    /// Makes a chain of `pieces` (address, bytes, whether the device writes it) available.
    fn offer(&mut self, device: usize, queue: usize, head: u16, pieces: &[(u64, u64, bool)]) {
        let ring = Self::ring(device, queue);
        for (n, &(address, bytes, writes)) in pieces.iter().enumerate() {
            let index = head + n as u16;
            let flags = u16::from(n + 1 < pieces.len()) | u16::from(writes) << 1;
            let at = ring + 16 * u64::from(index);
            put(at, &address.to_le_bytes());
            put(at + 8, &(bytes as u32).to_le_bytes());
            put(at + 12, &flags.to_le_bytes());
            put(at + 14, &(index + 1).to_le_bytes());
        }
        let available = &mut self.available[2 * device + queue];
        put(ring + 0x404 + 2 * u64::from(*available % SIZE), &head.to_le_bytes());
        *available = available.wrapping_add(1);
        put(ring + 0x402, &available.to_le_bytes());
    }

    /// A request that its device takes, or must take to be a breach.
    fn request(&mut self, random: &mut Random, device: usize) -> usize {
        let length = random.below(2000) + 1;
        let queue = if device <= NETWORK { random.below(2) as usize } else { 0 };
        match (device, queue) {
            (CONSOLE, 0) => {
                let buffer = self.buffer(random, length);
                self.offer(device, queue, 0, &[(buffer, length, true)]);
            }
            (CONSOLE, _) => {
                put(HEADERS, b".");
                self.offer(device, queue, 0, &[(HEADERS, 1, false)]);
            }
            (NETWORK, 0) => {
                let buffer = self.buffer(random, 1526 + length);
                self.offer(device, queue, 2, &[(buffer, 1526 + length, true)]);
            }
            (NETWORK, _) => {
                // A header, a neighbour or everybody, this guest or another.
                put(HEADERS, &[0; 12]);
                let [to, from] = [random.one_of(&[1, 1, 1, 9]), random.one_of(&[0, 0, 0, 1])];
                let group = if random.once_in(4) { 0xff } else { 0x52 };
                put(HEADERS + 12, &[group, 0x54, 0, 0x6c, 0x67, to, 0x52, 0x54, 0, 0x6c, 0x67, from, 8, 0]);
                let (length, rest) = (length.min(1500), HEADERS + 26);
                self.offer(device, queue, 3, &[(HEADERS, 26, false), (rest, length, false)]);
            }
            _ => {
                let kind: u32 = random.one_of(&[0, 0, 1, 1, 4, 8, 13]);
                let any = random.below(64);
                let sector = random.one_of(&[any, any, any, 63, 64, u64::MAX]);
                put(HEADERS, &kind.to_le_bytes());
                put(HEADERS + 8, &sector.to_le_bytes());
                let bytes = 512 * (1 + random.below(8));
                let data = (self.buffer(random, bytes), bytes, kind != 1);
                let (header, end) = ((HEADERS, 16, false), (HEADERS + 64, 1, true));
                if kind == 4 || random.once_in(64) {
                    self.offer(device, queue, 4, &[header, end]);
                } else {
                    self.offer(device, queue, 4, &[header, data, end]);
                }
            }
        }
        queue
    }

    fn kick(&self, device: usize, queue: u64) {
        call(Hypercall::Notify, [self.descriptor(device), NOTIFY_QUEUE + queue, 0]);
    }

    /// Offers the console a chain that begins with a descriptor beyond the queue.
    pub fn break_queue(mut self) {
        self.drive(CONSOLE);
        self.offer(CONSOLE, 1, SIZE, &[]);
        self.kick(CONSOLE, 1);
    }

    /// Does something with a device.
    pub fn step(&mut self, random: &mut Random) {
        let device = random.below(DEVICES as u64) as usize;
        let value = random.next();
        match random.below(6400) {
            // Anything anywhere, but for the lower halves of addresses: a device must not write to what this guest needs.
            0 => {
                let field = random.below(128) * 2;
                let is_address = (0x20..0xa0).contains(&field) && field & 7 < 4 && field & 0x18 != 0;
                put(
                    self.descriptor(device) + if is_address { 2 } else { field },
                    &(value as u16).to_le_bytes(),
                );
            }
            1 => {
                let field = random.below(0x480) * 2;
                let is_address = field < 0x100 && field & 15 < 4;
                put(
                    Self::ring(device, 0) + if is_address { 8 } else { field },
                    &(value as u16).to_le_bytes(),
                );
            }
            2 => {
                call(Hypercall::Notify, [self.page + random.below(4096), value >> (value & 63), 0]);
            }
            3..10 => self.misplace(random, device),
            10..600 => self.set_up(random, device),
            _ if !self.live[device] => {}
            600 => self.kick(device, random.below(4)),
            // Printing is slow.
            601..5000 if device == CONSOLE => {}
            _ => {
                let queue = self.request(random, device);
                if !random.once_in(8) {
                    self.kick(device, queue as u64);
                }
            }
        }
    }
}
