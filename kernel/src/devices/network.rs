//! The driver of a virtio network device (virtio 1.2, section 5.1): whole Ethernet frames, no offloads.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use platform::{Device, DeviceEvents, DeviceId};
use virtio_drivers::transport::Transport;

use super::Driver;
use super::bus::{self, Bus, Queue};
use super::memory::Buffer;
use crate::errno::{Errno, KResult};
use crate::sync::IrqLock;

/// `VIRTIO_NET_F_MAC`
const HAS_ADDRESS: u64 = 1 << 5;
/// Bytes of `struct virtio_net_hdr` before each frame; without offloads they are zero.
const HEADER: usize = 12;
/// The most bytes of a frame, without its checksum.
pub const MOST_FRAME: usize = 1514;
/// Bytes for a header and a frame.
const SLOT_BYTES: usize = 2048;
/// Frames on their way, in each direction.
const SLOTS: usize = 32;
/// Buffers given back for frames to come before the device is told.
const BATCH: usize = 8;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// A network device that nobody has taken yet.
static FOUND: IrqLock<Option<Network>> = IrqLock::new(None);

/// A queue whose chains are of one descriptor each, with memory for as many.
struct Frames {
    queue: Queue<SLOTS>,
    memory: Buffer,
    /// Which part of the memory a token of the queue stands for.
    slots: [Option<u8>; SLOTS],
}

impl Frames {
    fn new(bus: &mut Bus, number: u16) -> KResult<Self> {
        let memory = Buffer::new(SLOTS * SLOT_BYTES).ok_or(Errno::ENOMEM)?;
        Ok(Self { queue: bus.queue(number)?, memory, slots: [None; SLOTS] })
    }

    fn slot(&mut self, slot: u8) -> &mut [u8] {
        &mut self.memory.bytes_mut()[usize::from(slot) * SLOT_BYTES..][..SLOT_BYTES]
    }

    /// Hands a slot to the device, to be filled.
    fn give_empty(&mut self, slot: u8) -> KResult<()> {
        let part = &mut self.memory.bytes_mut()[usize::from(slot) * SLOT_BYTES..][..SLOT_BYTES];
        // SAFETY: the part is left alone until `take` has got it back, or the device is reset.
        let token = unsafe { self.queue.add(&[], &mut [part]) };
        self.note(token, slot)
    }

    /// Hands the first `bytes` of a slot to the device, to be read.
    fn give_filled(&mut self, slot: u8, bytes: usize) -> KResult<()> {
        let part = &self.memory.bytes()[usize::from(slot) * SLOT_BYTES..][..bytes];
        // SAFETY: as above.
        let token = unsafe { self.queue.add(&[part], &mut []) };
        self.note(token, slot)
    }

    fn note(&mut self, token: virtio_drivers::Result<u16>, slot: u8) -> KResult<()> {
        let token = token.map_err(|_| Errno::EIO)?;
        self.slots[usize::from(token)] = Some(slot);
        Ok(())
    }

    /// Takes back what the device has used: which slot, and how many bytes it wrote. `bytes` says how many a slot was
    /// handed over with; none if it was to be filled.
    fn take(&mut self, bytes: impl FnOnce(u8) -> Option<usize>) -> KResult<Option<(u8, usize)>> {
        let Some(token) = self.queue.peek_used() else { return Ok(None) };
        let slot = self.slots.get_mut(usize::from(token)).and_then(Option::take).ok_or(Errno::EIO)?;
        let part = &mut self.memory.bytes_mut()[usize::from(slot) * SLOT_BYTES..][..SLOT_BYTES];
        // SAFETY: this is what was added with the token.
        let written = unsafe {
            match bytes(slot) {
                None => self.queue.pop_used(token, &[], &mut [part]),
                Some(bytes) => self.queue.pop_used(token, &[&part[..bytes]], &mut []),
            }
        };
        let written = written.map_err(|_| Errno::EIO)? as usize;
        Ok(Some((slot, written.min(SLOT_BYTES))))
    }
}

/// What the interrupt does: it notes, and wakes the network's task.
struct Signal {
    device: DeviceId,
    changed: AtomicBool,
}

impl Driver for Signal {
    fn on_interrupt(&self) {
        let events = bus::acknowledge(self.device);
        if events.contains(DeviceEvents::CONFIGURATION) {
            self.changed.store(true, Ordering::Release);
        }
        if !events.is_empty() {
            super::wake_network();
        }
    }
}

/// A network device. One that has failed takes no frame, and gives none.
pub struct Network {
    bus: Bus,
    address: [u8; 6],
    receive: Frames,
    /// Buffers given back that the device was not told of.
    untold: usize,
    transmit: Frames,
    /// What each slot is handed over with while the device has it, header and frame; 0 if it is free.
    lengths: [u16; SLOTS],
    signal: Arc<Signal>,
    dead: bool,
}

/// Takes a device into use.
pub(super) fn add(device: Device) -> KResult<Option<Arc<dyn Driver>>> {
    if FOUND.lock().is_some() {
        log::warn!("network device {} is one too many", device.id.0);
        return Ok(None);
    }
    let network = Network::start(device)?;
    let signal = network.signal.clone();
    let [a, b, c, d, e, f] = network.address;
    log::info!("eth0: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    *FOUND.lock() = Some(network);
    Ok(Some(signal))
}

/// The network device, for whoever asks first.
pub fn take() -> Option<Network> {
    if super::AVAILABLE { FOUND.lock().take() } else { None }
}

impl Network {
    fn start(device: Device) -> KResult<Self> {
        let mut bus = Bus::new(device, HAS_ADDRESS)?;
        if !bus.has(HAS_ADDRESS) {
            log::error!("a network device has no address");
            return Err(Errno::ENODEV);
        }
        let address = bus.read_config_space(0).map_err(|_| Errno::ENODEV)?;
        let mut receive = Frames::new(&mut bus, RECEIVE)?;
        let mut transmit = Frames::new(&mut bus, TRANSMIT)?;
        for slot in 0..SLOTS as u8 {
            receive.give_empty(slot)?;
        }
        // Whoever sends looks for himself what has been sent.
        transmit.queue.set_dev_notify(false);
        bus.finish_init();
        bus.notify(RECEIVE);
        let signal = Arc::new(Signal { device: device.id, changed: AtomicBool::new(false) });
        Ok(Self { bus, address, receive, untold: 0, transmit, lengths: [0; SLOTS], signal, dead: false })
    }

    /// Its Ethernet address.
    pub fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Sends a frame; false if there is no room for it now, or ever.
    pub fn transmit(&mut self, frame: &[u8]) -> bool {
        self.look_for_failure();
        if self.dead || frame.is_empty() || frame.len() > MOST_FRAME {
            return false;
        }
        let sent = self.try_transmit(frame);
        sent.unwrap_or_else(|_| {
            self.fail();
            false
        })
    }

    fn try_transmit(&mut self, frame: &[u8]) -> KResult<bool> {
        let lengths = &mut self.lengths;
        while let Some((slot, _)) = self.transmit.take(|slot| Some(lengths[usize::from(slot)].into()))? {
            lengths[usize::from(slot)] = 0;
        }
        let Some(free) = lengths.iter().position(|length| *length == 0) else { return Ok(false) };
        let (slot, length) = (free as u8, HEADER + frame.len());
        let memory = self.transmit.slot(slot);
        memory[..HEADER].fill(0);
        memory[HEADER..length].copy_from_slice(frame);
        self.transmit.give_filled(slot, length)?;
        lengths[free] = length as u16;
        if self.transmit.queue.should_notify() {
            self.bus.notify(TRANSMIT);
        }
        Ok(true)
    }

    /// Calls `take` with the next frame that has come; none if there is none.
    pub fn receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        self.look_for_failure();
        if self.dead {
            return None;
        }
        self.try_receive(take).unwrap_or_else(|_| {
            self.fail();
            None
        })
    }

    fn try_receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> R) -> KResult<Option<R>> {
        while let Some((slot, written)) = self.receive.take(|_| None)? {
            let frame = self.receive.slot(slot).get_mut(HEADER..written).filter(|frame| !frame.is_empty());
            let Some(frame) = frame else {
                self.give_back(slot)?;
                continue;
            };
            let result = take(frame);
            self.give_back(slot)?;
            return Ok(Some(result));
        }
        self.tell();
        Ok(None)
    }

    fn give_back(&mut self, slot: u8) -> KResult<()> {
        self.receive.give_empty(slot)?;
        self.untold += 1;
        if self.untold >= BATCH {
            self.tell();
        }
        Ok(())
    }

    /// Tells the device of buffers that were given back.
    fn tell(&mut self) {
        if self.untold > 0 && self.receive.queue.should_notify() {
            self.bus.notify(RECEIVE);
        }
        self.untold = 0;
    }

    fn look_for_failure(&mut self) {
        if self.signal.changed.swap(false, Ordering::Acquire) && !self.dead && self.bus.has_failed() {
            self.fail();
        }
    }

    #[cold]
    fn fail(&mut self) {
        log::error!("eth0 has failed");
        self.dead = true;
        self.bus.reset();
    }
}
