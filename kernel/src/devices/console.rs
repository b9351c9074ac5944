//! The driver of a virtio console (virtio 1.2, section 5.3): one port, bytes both ways.
//!
//! The device is left alone while nobody has its terminal open: one that is driven may take the input away from the
//! platform's own console.

use alloc::sync::Arc;

use platform::Device;
use virtio_drivers::transport::Transport;

use super::bus::Bus;
use super::slots::{Slot, Slots};
use super::{AVAILABLE, Driver, Signal};
use crate::errno::{Errno, KResult};
use crate::fs::tree;
use crate::sync::{IrqLock, Once};
use crate::tty::hvc;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes moved at a time.
const SLOT_BYTES: usize = 512;
/// Pieces on their way, in each direction.
const SLOTS: usize = 8;

struct Found {
    device: Device,
    signal: Arc<Signal>,
}

/// The console device, driven or not.
static FOUND: Once<Found> = Once::new();
/// The same, once it is driven.
static CONSOLE: IrqLock<Option<Console>> = IrqLock::new(None);

struct Console {
    bus: Bus,
    receive: Slots<SLOTS, SLOT_BYTES>,
    transmit: Slots<SLOTS, SLOT_BYTES>,
    /// Input that was not taken yet: where, from which byte on, and up to which.
    input: Option<(Slot, usize, usize)>,
    /// It was reset, and is not told of anything any more.
    dead: bool,
}

/// Takes note of a device.
pub(super) fn add(device: Device) -> KResult<Option<Arc<dyn Driver>>> {
    if FOUND.get().is_some() {
        log::warn!("console device {} is one too many", device.id.0);
        return Ok(None);
    }
    let found = FOUND.call_once(|| Found { device, signal: Arc::new(Signal::new(device.id, hvc::on_event)) });
    tree::add_terminal(hvc::NAME, hvc::NUMBER)?;
    Ok(Some(found.signal.clone()))
}

/// Whether there is a console device.
pub fn exists() -> bool {
    AVAILABLE && FOUND.get().is_some()
}

/// Whether it is between [`start`] and [`stop`].
pub fn is_driven() -> bool {
    CONSOLE.lock().is_some()
}

/// Lets the device begin; it is not driven yet.
///
/// # Errors
/// ENXIO if there is none, ENODEV if it cannot be driven, ENOMEM.
pub fn start() -> KResult<()> {
    let device = FOUND.get().filter(|_| AVAILABLE).ok_or(Errno::ENXIO)?.device;
    let console = Console::start(device)?;
    *CONSOLE.lock() = Some(console);
    Ok(())
}

/// Whether the device has taken all output, or will not take any more.
pub fn has_printed_all() -> bool {
    if AVAILABLE { with(true, Console::has_printed_all) } else { true }
}

/// Leaves the device alone again. What input it has given up to then goes to `receive`.
pub fn stop(mut receive: impl FnMut(&[u8])) {
    let Some(mut console) = CONSOLE.lock().take() else { return };
    console.bus.reset();
    console.dead = true;
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = console.read(&mut bytes) {
        receive(&bytes[..count]);
    }
}

/// Does `work` with a console that works, or says what holds for one that does not.
fn with<R>(otherwise: R, work: impl FnOnce(&mut Console) -> KResult<R>) -> R {
    let mut console = CONSOLE.lock();
    let Some(console) = console.as_mut() else { return otherwise };
    if FOUND.get().is_some_and(|found| found.signal.has_changed()) && console.bus.has_failed() {
        console.fail();
    }
    if console.dead {
        return otherwise;
    }
    work(console).unwrap_or_else(|_| {
        console.fail();
        otherwise
    })
}

/// Bytes of output there is room for. One that has failed takes all, and it is lost.
pub fn room() -> usize {
    if AVAILABLE { with(usize::MAX, Console::room) } else { usize::MAX }
}

/// Sends output; the caller has seen to the room.
pub fn emit(bytes: &[u8]) {
    if AVAILABLE {
        with((), |console| console.emit(bytes));
    }
}

/// Takes what input there is, at most as much as `to` has room for; returns how much.
pub fn read(to: &mut [u8]) -> usize {
    if AVAILABLE { with(0, |console| console.read(to)) } else { 0 }
}

impl Console {
    fn start(device: Device) -> KResult<Self> {
        let mut bus = Bus::new(device, 0)?;
        let mut receive = Slots::new(&mut bus, RECEIVE)?;
        let transmit = Slots::new(&mut bus, TRANSMIT)?;
        while let Some(slot) = receive.free() {
            receive.give_empty(slot)?;
        }
        bus.finish_init();
        bus.notify(RECEIVE);
        Ok(Self { bus, receive, transmit, input: None, dead: false })
    }

    fn reclaim(&mut self) -> KResult<()> {
        while self.transmit.take()?.is_some() {}
        Ok(())
    }

    fn room(&mut self) -> KResult<usize> {
        self.reclaim()?;
        if self.transmit.free_slots() == 0 {
            // Somebody will wait; and it may have become free just before.
            self.transmit.set_told(true);
            self.reclaim()?;
        }
        let free = self.transmit.free_slots();
        if free > 0 {
            self.transmit.set_told(false);
        }
        Ok(free * SLOT_BYTES)
    }

    fn has_printed_all(&mut self) -> KResult<bool> {
        self.reclaim()?;
        if self.transmit.free_slots() < SLOTS {
            // The last of it is waited for.
            self.transmit.set_told(true);
            self.reclaim()?;
        }
        Ok(self.transmit.free_slots() == SLOTS)
    }

    fn emit(&mut self, bytes: &[u8]) -> KResult<()> {
        self.reclaim()?;
        for part in bytes.chunks(SLOT_BYTES) {
            let Some(slot) = self.transmit.free() else { break };
            self.transmit.bytes_mut(slot)[..part.len()].copy_from_slice(part);
            self.transmit.give_filled(slot, part.len())?;
        }
        if !bytes.is_empty() && self.transmit.wants_to_know() {
            self.bus.notify(TRANSMIT);
        }
        Ok(())
    }

    fn read(&mut self, to: &mut [u8]) -> KResult<usize> {
        let mut moved = 0;
        while moved < to.len() {
            let (slot, from, end) = match self.input.take() {
                Some(input) => input,
                None => match self.receive.take()? {
                    Some((slot, bytes)) => (slot, 0, bytes),
                    None => break,
                },
            };
            let part = (end - from).min(to.len() - moved);
            to[moved..moved + part].copy_from_slice(&self.receive.bytes_mut(slot)[from..from + part]);
            moved += part;
            if from + part < end {
                self.input = Some((slot, from + part, end));
            } else {
                self.receive.give_empty(slot)?;
                if !self.dead && self.receive.wants_to_know() {
                    self.bus.notify(RECEIVE);
                }
            }
        }
        Ok(moved)
    }

    #[cold]
    fn fail(&mut self) {
        self.dead = true;
        self.bus.reset();
        log::error!("hvc0 has failed");
    }
}
