//! The driver of a virtio network device (virtio 1.2, section 5.1): whole Ethernet frames, no offloads.

use alloc::sync::Arc;

use platform::Device;
use virtio_drivers::transport::Transport;

use super::bus::Bus;
use super::slots::{Slot, Slots};
use super::{Driver, Signal};
use crate::errno::{Errno, KResult};
use crate::net::inet::wire::Wire;
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

type Frames = Slots<SLOTS, SLOT_BYTES>;

/// A network device that nobody has taken yet.
static FOUND: IrqLock<Option<Network>> = IrqLock::new(None);

/// A network device. One that has failed takes no frame, and gives none.
pub struct Network {
    bus: Bus,
    address: [u8; 6],
    receive: Frames,
    /// Buffers given back that the device was not told of.
    untold: usize,
    transmit: Frames,
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
        while let Some(slot) = receive.free() {
            receive.give_empty(slot)?;
        }
        // Whoever sends looks for himself what has been sent.
        transmit.set_told(false);
        bus.finish_init();
        bus.notify(RECEIVE);
        let signal = Arc::new(Signal::new(device.id, super::wake_network));
        Ok(Self { bus, address, receive, untold: 0, transmit, signal, dead: false })
    }

    fn try_transmit(&mut self, frame: &[u8]) -> KResult<bool> {
        while self.transmit.take()?.is_some() {}
        let Some(slot) = self.transmit.free() else { return Ok(false) };
        let length = HEADER + frame.len();
        let memory = self.transmit.bytes_mut(slot);
        memory[..HEADER].fill(0);
        memory[HEADER..length].copy_from_slice(frame);
        self.transmit.give_filled(slot, length)?;
        if self.transmit.wants_to_know() {
            self.bus.notify(TRANSMIT);
        }
        Ok(true)
    }

    fn try_receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> R) -> KResult<Option<R>> {
        while let Some((slot, written)) = self.receive.take()? {
            let frame =
                self.receive.bytes_mut(slot).get_mut(HEADER..written).filter(|frame| !frame.is_empty());
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

    fn give_back(&mut self, slot: Slot) -> KResult<()> {
        self.receive.give_empty(slot)?;
        self.untold += 1;
        if self.untold >= BATCH {
            self.tell();
        }
        Ok(())
    }

    /// Tells the device of buffers that were given back.
    fn tell(&mut self) {
        if self.untold > 0 && self.receive.wants_to_know() {
            self.bus.notify(RECEIVE);
        }
        self.untold = 0;
    }

    fn look_for_failure(&mut self) {
        if self.signal.has_changed() && !self.dead && self.bus.has_failed() {
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

impl Wire for Network {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
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

    fn receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        self.look_for_failure();
        if self.dead {
            return None;
        }
        self.try_receive(take).unwrap_or_else(|_| {
            self.fail();
            None
        })
    }
}
