//! Virtio devices, at the level of a virtio transport (virtio 1.2, section 4).
//!
//! Drivers, queues and buffers are above the cut; what PCI, MMIO, channel I/O and a hypervisor's own bus do each in their
//! way is below. Addresses that a device gets are physical addresses as the kernel knows them. Queues are split virtqueues
//! (2.7 there), little-endian, and `VIRTIO_F_VERSION_1` is always offered.

use crate::{IrqLine, PhysAddr};

/// Whether a platform has devices, known when an image is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceBus {
    /// There are none: no hook of [`Devices`] is ever called, and an image has no driver.
    None,
    /// There may be virtio devices; which, [`Devices::next`] says.
    Virtio,
}

/// A device, as the platform counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub u32);

/// What is known of a device before anything is done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Which one.
    pub id: DeviceId,
    /// What it is: a device ID of virtio 1.2, section 5 (1 network, 2 block, 3 console, …).
    pub kind: u32,
    /// The features it offers (2.2 there).
    pub features: u64,
    /// What it raises; [`Devices::acknowledge`] says why. Several devices may share a line.
    pub line: IrqLine,
}

/// Where the driver put a virtqueue (virtio 1.2, 2.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueLayout {
    /// Which queue of the device.
    pub queue: u16,
    /// Descriptors, a power of two and at most [`Devices::queue_limit`]; 0 takes the queue away.
    pub size: u16,
    /// The descriptor table, 16-byte aligned.
    pub descriptors: PhysAddr,
    /// The driver area (the available ring), 2-byte aligned.
    pub driver: PhysAddr,
    /// The device area (the used ring), 4-byte aligned.
    pub device: PhysAddr,
}

bitflags::bitflags! {
    /// Why a device raised its line (virtio 1.2, 4.2.2, `InterruptStatus`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct DeviceEvents: u32 {
        /// It has used a buffer of one of its queues.
        const QUEUE = 1 << 0;
        /// Its configuration or its status has changed.
        const CONFIGURATION = 1 << 1;
    }
}

/// Virtio transports. After discovery; only where [`crate::Platform::DEVICES`] says so, and only with a device that
/// [`Devices::next`] has named. The kernel serializes the calls for one device but for [`Devices::notify`] and
/// [`Devices::acknowledge`].
#[crate::part(devices)]
pub trait Devices {
    /// The device that follows `after` in the platform's own order; with none, the first. A device does not go away, and
    /// none comes after discovery. Variation of: the scan of a bus.
    fn next(after: Option<DeviceId>) -> Option<Device>;

    /// Accepts `features`, some of those offered, `VIRTIO_F_VERSION_1` among them. Context: before `FEATURES_OK` is set.
    /// Variation of: `virtio_config_ops.finalize_features`.
    fn accept(device: DeviceId, features: u64);

    /// Sets the device status (virtio 1.2, 2.1) and returns what the device says it is then: without `FEATURES_OK` if it
    /// does not take the features, with `DEVICE_NEEDS_RESET` if it has failed. A status of 0 resets: when the hook
    /// returns, the device neither knows nor touches any queue. Variation of: `virtio_config_ops.set_status`, `reset`.
    fn set_status(device: DeviceId, status: u8) -> u8;

    /// The most descriptors that `queue` may have; 0 if there is no such queue. Variation of: `QueueNumMax`.
    fn queue_limit(device: DeviceId, queue: u16) -> u16;

    /// Places a queue, or takes it away. Its memory is zero, and stays the device's until the queue is taken away or the
    /// device reset. Context: between `FEATURES_OK` and `DRIVER_OK`, or after a reset to take it away. Variation of:
    /// `virtio_config_ops.find_vqs`.
    fn set_queue(device: DeviceId, layout: &QueueLayout);

    /// Tells the device that `queue` has new buffers. What was written before the call is seen by the device. Variation
    /// of: `virtqueue_notify`.
    fn notify(device: DeviceId, queue: u16);

    /// Takes the reasons for which the device raised its line since the last call; none if it was another's. Variation
    /// of: reading `InterruptStatus` and writing `InterruptACK`.
    fn acknowledge(device: DeviceId) -> DeviceEvents;

    /// Copies the configuration from `offset` on into `buffer`, as it was at one moment (virtio 1.2, 2.5); bytes past
    /// its end are 0. Variation of: `virtio_config_ops.get` between two reads of the same generation.
    fn read_config(device: DeviceId, offset: usize, buffer: &mut [u8]);
}
