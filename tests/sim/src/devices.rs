//! Virtio devices: the machine has none.

use core::marker::PhantomData;

use platform::{Device, DeviceEvents, DeviceId, Devices, Kernel, QueueLayout};

use crate::state::{discovered, here, violation};

/// A bus without a device.
#[derive(Debug)]
pub struct SimDevices<K>(PhantomData<fn() -> K>);

fn no_such_device(hook: &str, device: DeviceId) -> ! {
    violation(format!("{hook}: there is no {device:?}"))
}

#[platform::backend]
impl<K: Kernel> Devices for SimDevices<K> {
    fn next(after: Option<DeviceId>) -> Option<Device> {
        here("Devices::next");
        drop(discovered("Devices::next"));
        match after {
            None => None,
            Some(device) => no_such_device("Devices::next", device),
        }
    }

    fn accept(device: DeviceId, _features: u64) {
        no_such_device("Devices::accept", device)
    }

    fn set_status(device: DeviceId, _status: u8) -> u8 {
        no_such_device("Devices::set_status", device)
    }

    fn queue_limit(device: DeviceId, _queue: u16) -> u16 {
        no_such_device("Devices::queue_limit", device)
    }

    fn set_queue(device: DeviceId, _layout: &QueueLayout) {
        no_such_device("Devices::set_queue", device)
    }

    fn notify(device: DeviceId, _queue: u16) {
        no_such_device("Devices::notify", device)
    }

    fn acknowledge(device: DeviceId) -> DeviceEvents {
        no_such_device("Devices::acknowledge", device)
    }

    fn read_config(device: DeviceId, _offset: usize, _buffer: &mut [u8]) {
        no_such_device("Devices::read_config", device)
    }
}
