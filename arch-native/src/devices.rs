//! Virtio devices: a PC's would be on PCI, which nobody scans yet, so there are none.

use core::marker::PhantomData;

use platform::{Device, DeviceEvents, DeviceId, Kernel, QueueLayout};

use crate::machine::Machine;

/// [`platform::Devices`] of a PC.
#[derive(Debug)]
pub struct PcDevices<K, M>(PhantomData<(K, M)>);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Devices for PcDevices<K, M> {
    fn next(_after: Option<DeviceId>) -> Option<Device> {
        None
    }

    fn accept(_device: DeviceId, _features: u64) {}

    fn set_status(_device: DeviceId, _status: u8) -> u8 {
        0
    }

    fn queue_limit(_device: DeviceId, _queue: u16) -> u16 {
        0
    }

    fn set_queue(_device: DeviceId, _layout: &QueueLayout) {}

    fn notify(_device: DeviceId, _queue: u16) {}

    fn acknowledge(_device: DeviceId) -> DeviceEvents {
        DeviceEvents::empty()
    }

    fn read_config(_device: DeviceId, _offset: usize, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}
