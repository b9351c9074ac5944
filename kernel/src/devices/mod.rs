//! Virtio devices: finding them, and their drivers.
//!
//! What a device is reached by is the platform's ([`bus`]); queues and buffers are the crate `virtio_drivers`', on memory
//! from [`memory`]; what is done with a queue is each driver's. Where the platform has no devices nothing of this is in
//! the image: every way in asks [`AVAILABLE`] first.

pub mod block;
mod bus;
pub mod console;
#[cfg(test)]
mod console_tests;
mod memory;
pub mod network;
#[cfg(test)]
mod network_tests;
mod slots;

use alloc::sync::Arc;
use alloc::vec::Vec;

use core::sync::atomic::{AtomicBool, Ordering};

use platform::{Device, DeviceBus, DeviceEvents, DeviceId, IrqLine};

use crate::errno::KResult;
use crate::hook::DEVICES;
use crate::irq;
use crate::sync::Once;

/// Whether there can be devices.
pub const AVAILABLE: bool = matches!(DEVICES, DeviceBus::Virtio);

/// What a driver does when its device has raised its line.
trait Driver: Send + Sync {
    /// The line was raised, by this device or another. Context: the interrupt.
    fn on_interrupt(&self);
}

/// The driver of a device that tasks look after: it notes what has happened, and wakes them.
struct Signal {
    device: DeviceId,
    changed: AtomicBool,
    wake: fn(),
}

impl Signal {
    /// Calls `wake` in the interrupt of `device`.
    fn new(device: DeviceId, wake: fn()) -> Self {
        Self { device, changed: AtomicBool::new(false), wake }
    }

    /// Whether the device's configuration or status has changed since the last call.
    fn has_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Acquire)
    }
}

impl Driver for Signal {
    fn on_interrupt(&self) {
        let events = bus::acknowledge(self.device);
        if events.contains(DeviceEvents::CONFIGURATION) {
            self.changed.store(true, Ordering::Release);
        }
        if !events.is_empty() {
            (self.wake)();
        }
    }
}

/// Who is to be asked when a line is raised.
struct Driven {
    line: IrqLine,
    driver: Arc<dyn Driver>,
}

static DRIVEN: Once<Vec<Driven>> = Once::new();

/// Finds the devices and starts their drivers. Once, at boot, when there are files.
pub fn start() {
    if !AVAILABLE {
        return;
    }
    let mut driven = Vec::new();
    for device in bus::devices() {
        match start_driver(device) {
            Ok(Some(driver)) => driven.push(Driven { line: device.line, driver }),
            Ok(None) => {}
            Err(error) => log::error!("device {} of kind {}: {error}", device.id.0, device.kind),
        }
    }
    let driven = DRIVEN.call_once(|| driven);
    let mut lines: Vec<IrqLine> = driven.iter().map(|driven| driven.line).collect();
    lines.sort();
    lines.dedup();
    for line in lines {
        if let Err(error) = irq::register(line, on_interrupt) {
            log::error!("the devices of interrupt line {}: {error}", line.0);
        }
    }
}

fn start_driver(device: Device) -> KResult<Option<Arc<dyn Driver>>> {
    match device.kind {
        bus::kind::NETWORK => network::add(device),
        bus::kind::BLOCK => Ok(Some(block::add(device)?)),
        bus::kind::CONSOLE => console::add(device),
        _ => Ok(None),
    }
}

fn on_interrupt(line: IrqLine) {
    let driven = DRIVEN.get().map_or(&[][..], Vec::as_slice);
    driven.iter().filter(|driven| driven.line == line).for_each(|driven| driven.driver.on_interrupt());
}

/// Frames may have come. Context: the interrupt.
fn wake_network() {
    crate::net::inet::wake();
}

/// Writes through what devices keep for themselves (`sync(2)`).
pub fn sync() {
    if AVAILABLE {
        block::sync();
    }
}
