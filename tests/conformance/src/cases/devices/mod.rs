//! Virtio devices. Where the platform may have some, the machine must have a disk that can be written to, which is
//! overwritten.

mod interrupt;
mod list;
mod queue;
mod reset;

use alloc::vec::Vec;

use platform::{Device, DeviceBus, Platform};

use super::{Case, case};
use crate::driven::{is_disk, requests_of};
use crate::hook::{Backend, devices};
use crate::report::{Outcome, ensure};

const BUS: DeviceBus = <Backend as Platform>::DEVICES;

/// Of a platform without devices no hook is called, and so no case that calls one is in the image.
pub const CASES: &[Case] = match BUS {
    DeviceBus::None => &[case("devices are none, and known to be none when the image is built", none)],
    DeviceBus::Virtio => &[
        case("devices are the same whenever they are asked for", list::same),
        case("devices have a kind, a version and a line", list::facts),
        case("device configuration is the same in any pieces, and zero past its end", list::configuration),
        case("device status is what was set, and nothing after a reset", list::status),
        case("device takes all that it offers, or the least", list::features),
        case("device queues have a limit, and where there is none there is no queue", queue::limits),
        case("device queue of each size is worked off", queue::sizes),
        case("device queue is where it was placed last", queue::placed),
        case("device sees what was written before it was told, and shows what it wrote", queue::both_ways),
        case("device interrupt comes for each request, and is never lost before a wait", interrupt::each),
        case("device interrupt stays away while its line is masked", interrupt::masked),
        case("device tells once why it raised its line", interrupt::reasons),
        case("device touches no memory after a reset", reset::memory),
        case("device writes nothing of what is changed after a reset", reset::disk),
    ],
};

fn none() -> Outcome {
    ensure!(BUS == DeviceBus::None, "there may be devices");
    Ok(())
}

/// More devices than any machine has.
const ENDLESS: usize = 4096;

/// Every device.
fn all() -> Result<Vec<Device>, alloc::string::String> {
    let mut found: Vec<Device> = Vec::new();
    while let Some(device) = devices::next(found.last().map(|device| device.id)) {
        ensure!(found.len() < ENDLESS, "the devices never end");
        found.push(device);
    }
    Ok(found)
}

/// Those of a kind that is known here.
fn known() -> Result<Vec<Device>, alloc::string::String> {
    let mut found = all()?;
    found.retain(|device| requests_of(device).is_some());
    ensure!(!found.is_empty(), "there is no network, disk or console among the devices");
    Ok(found)
}

/// Disks that can be written to.
fn disks() -> Result<Vec<Device>, alloc::string::String> {
    let mut found = all()?;
    found.retain(is_disk);
    ensure!(!found.is_empty(), "there is no disk that can be written to");
    Ok(found)
}
