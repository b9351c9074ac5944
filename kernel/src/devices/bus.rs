//! A device as the platform shows it: the transport below the crate's queues.

use alloc::boxed::Box;
use core::sync::atomic::{Ordering, fence};

use platform::{Device, DeviceEvents, DeviceId, PhysAddr, QueueLayout};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::memory::DeviceMemory;
use crate::errno::{Errno, KResult};
use crate::hook::devices as hooks;

/// What a device is (virtio 1.2, section 5).
pub mod kind {
    /// An Ethernet interface.
    pub const NETWORK: u32 = 1;
    /// A disk.
    pub const BLOCK: u32 = 2;
    /// A console.
    pub const CONSOLE: u32 = 3;
}

/// `VIRTIO_F_VERSION_1`
const VERSION_1: u64 = 1 << 32;

/// A queue; too large for a stack.
pub type Queue<const SIZE: usize> = Box<VirtQueue<DeviceMemory, SIZE>>;

/// Whether the device wants to be told of what `queue` has got.
///
/// A device that is about to wait says so first and then looks for more (virtio 1.2, section 2.7.13.4.1), so that must be
/// where it can be seen before what the device says is looked at: the crate only orders stores with one another.
pub fn should_notify<const SIZE: usize>(queue: &Queue<SIZE>) -> bool {
    fence(Ordering::SeqCst);
    queue.should_notify()
}

/// Sets whether the device shall raise its line for what it has used of `queue`.
///
/// What it has used before it learns of that is found by whoever looks afterwards (section 2.7.7.1).
pub fn set_told<const SIZE: usize>(queue: &mut Queue<SIZE>, told: bool) {
    queue.set_dev_notify(told);
    if told {
        fence(Ordering::SeqCst);
    }
}

/// The devices there are.
pub fn devices() -> impl Iterator<Item = Device> {
    let mut last = None;
    core::iter::from_fn(move || {
        let device = hooks::next(last)?;
        last = Some(device.id);
        Some(device)
    })
}

/// Takes the reasons for which `device` has raised its line. Any context, at any time.
pub fn acknowledge(device: DeviceId) -> DeviceEvents {
    hooks::acknowledge(device)
}

/// A device that is driven. It is reset when this is dropped, and then touches no queue any more.
pub struct Bus {
    device: Device,
    kind: DeviceType,
    status: u8,
    features: u64,
}

impl Bus {
    /// Resets `device` and agrees with it on those of the `wanted` features that it offers.
    ///
    /// # Errors
    /// ENODEV if it is no device for this kernel.
    pub fn new(device: Device, wanted: u64) -> KResult<Self> {
        let kind = DeviceType::try_from(device.kind).map_err(|_| Errno::ENODEV)?;
        let features = device.features & (wanted | VERSION_1);
        if features & VERSION_1 == 0 {
            return Err(Errno::ENODEV);
        }
        let mut bus = Self { device, kind, status: 0, features };
        let mut status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        bus.set_status(DeviceStatus::empty());
        bus.set_status(status);
        bus.write_driver_features(features);
        status |= DeviceStatus::FEATURES_OK;
        bus.set_status(status);
        if bus.get_status().contains(DeviceStatus::FEATURES_OK) { Ok(bus) } else { Err(Errno::ENODEV) }
    }

    /// Which device this is.
    pub fn id(&self) -> DeviceId {
        self.device.id
    }

    /// Whether all of `features` were agreed on.
    pub fn has(&self, features: u64) -> bool {
        self.features & features == features
    }

    /// A queue of `SIZE` descriptors.
    ///
    /// # Errors
    /// ENODEV if the device has none so long, ENOMEM.
    pub fn queue<const SIZE: usize>(&mut self, number: u16) -> KResult<Queue<SIZE>> {
        match VirtQueue::new(self, number, false, false) {
            Ok(queue) => Ok(Box::new(queue)),
            Err(virtio_drivers::Error::DmaError) => Err(Errno::ENOMEM),
            Err(_) => Err(Errno::ENODEV),
        }
    }

    /// Whether the device says that it cannot go on.
    pub fn has_failed(&mut self) -> bool {
        // The device's answer to the status it has.
        self.set_status(self.get_status());
        self.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
    }

    /// Stops the device: it neither knows nor touches any queue.
    pub fn reset(&mut self) {
        self.set_status(DeviceStatus::empty());
    }

    fn place_queue(&self, layout: &QueueLayout) {
        hooks::set_queue(self.device.id, layout);
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.reset();
    }
}

impl Transport for Bus {
    fn device_type(&self) -> DeviceType {
        self.kind
    }

    fn read_device_features(&mut self) -> u64 {
        self.device.features
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        hooks::accept(self.device.id, driver_features);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        hooks::queue_limit(self.device.id, queue).into()
    }

    fn notify(&mut self, queue: u16) {
        hooks::notify(self.device.id, queue);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.status.into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        // The status has eight bits.
        self.status = hooks::set_status(self.device.id, status.bits() as u8);
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, queue: u16, size: u32, descriptors: u64, driver_area: u64, device_area: u64) {
        self.place_queue(&QueueLayout {
            queue,
            size: size as u16,
            descriptors: PhysAddr(descriptors),
            driver: PhysAddr(driver_area),
            device: PhysAddr(device_area),
        });
    }

    fn queue_unset(&mut self, queue: u16) {
        let nowhere = PhysAddr(0);
        self.place_queue(&QueueLayout {
            queue,
            size: 0,
            descriptors: nowhere,
            driver: nowhere,
            device: nowhere,
        });
    }

    fn queue_used(&mut self, _queue: u16) -> bool {
        // It has been reset.
        false
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(acknowledge(self.device.id).bits())
    }

    fn read_config_generation(&self) -> u32 {
        // Each reading is of one moment by itself.
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let mut value = T::new_zeroed();
        hooks::read_config(self.device.id, offset, value.as_mut_bytes());
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> virtio_drivers::Result<()> {
        Err(virtio_drivers::Error::Unsupported)
    }
}
