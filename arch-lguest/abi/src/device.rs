//! The lguest bus: a page that describes virtio devices, each with its queues (virtio 1.2, "Virtqueues" and "Device
//! Types"). `ABI.md`, "Devices", has the protocol.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Descriptors of the page.
pub const MOST_DEVICES: usize = 16;
/// Queues of a device.
pub const MOST_QUEUES: usize = 4;
/// Bytes of a device's configuration.
pub const MOST_CONFIG: usize = 96;
/// The virtual interrupt of the first device; those below have other uses.
pub const VIRQ_FIRST_DEVICE: u32 = 2;
/// The second argument of [`crate::Hypercall::Notify`] for a device whose status has changed.
pub const NOTIFY_STATUS: u64 = 0;
/// And, with the queue's number added, for a queue that has new buffers.
pub const NOTIFY_QUEUE: u64 = 1;

/// Bits of [`DeviceDescriptor::status`] (virtio 1.2, section 2.1).
pub mod status {
    /// The guest has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// It has a driver for it.
    pub const DRIVER: u8 = 2;
    /// The driver drives it.
    pub const DRIVER_OK: u8 = 4;
    /// The features are agreed upon.
    pub const FEATURES_OK: u8 = 8;
    /// The guest has given the device up.
    pub const FAILED: u8 = 128;
}

/// Bits of [`DeviceDescriptor::interrupt_status`] (as in virtio 1.2, section 4.2.2).
pub mod interrupt {
    /// Buffers have been used.
    pub const QUEUE: u32 = 1;
    /// The configuration has changed.
    pub const CONFIGURATION: u32 = 2;
}

/// The place of one queue.
#[derive(Debug, Default)]
#[repr(C)]
pub struct VqConfig {
    /// Host: the most entries; 0 if the device has no such queue.
    pub num: AtomicU16,
    /// Guest: its entries, a power of two up to `num`; 0 if it does not use the queue.
    pub size: AtomicU16,
    /// Zero.
    pub reserved: AtomicU32,
    /// Guest: guest-physical address of the descriptor table, a multiple of 16.
    pub desc: AtomicU64,
    /// Guest: of the driver area (available ring), a multiple of 2.
    pub driver: AtomicU64,
    /// Guest: of the device area (used ring), a multiple of 4.
    pub device: AtomicU64,
}

/// One device. Each field says who writes it and when; the host keeps a copy of all that it relies on.
#[derive(Debug)]
#[repr(C)]
pub struct DeviceDescriptor {
    /// Host: what it is (virtio 1.2, section 5: 1 network, 2 block, 3 console); 0 ends the list.
    pub kind: AtomicU8,
    /// Host: how many queues it has.
    pub num_vq: AtomicU8,
    /// Host: how many bytes of `config` it has.
    pub config_len: AtomicU8,
    /// Guest: see [`status`]. Host: clears [`status::FEATURES_OK`] if it cannot do with `accepted`.
    pub status: AtomicU8,
    /// Host: its virtual interrupt.
    pub irq: AtomicU32,
    /// Host: features offered, VIRTIO_F_VERSION_1 among them.
    pub features: AtomicU64,
    /// Guest, before FEATURES_OK: those it takes.
    pub accepted: AtomicU64,
    /// Host: adds bits of [`interrupt`] before it raises `irq`. Guest: takes them, leaving 0.
    pub interrupt_status: AtomicU32,
    /// Host: another number whenever `config` has changed.
    pub generation: AtomicU32,
    /// Both: the queues.
    pub queues: [VqConfig; MOST_QUEUES],
    /// Host: the configuration, as virtio lays it out for this kind of device.
    pub config: [AtomicU8; MOST_CONFIG],
}

/// The page [`crate::BootInfo::devices`] leads to.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct DevicePage {
    /// The devices; the first with `kind` 0 and all behind it are none.
    pub devices: [DeviceDescriptor; MOST_DEVICES],
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn the_page_is_laid_out_as_documented() {
        assert_eq!(size_of::<DevicePage>(), 4096);
        for (offset, documented) in [
            (offset_of!(DeviceDescriptor, kind), 0x00),
            (offset_of!(DeviceDescriptor, num_vq), 0x01),
            (offset_of!(DeviceDescriptor, config_len), 0x02),
            (offset_of!(DeviceDescriptor, status), 0x03),
            (offset_of!(DeviceDescriptor, irq), 0x04),
            (offset_of!(DeviceDescriptor, features), 0x08),
            (offset_of!(DeviceDescriptor, accepted), 0x10),
            (offset_of!(DeviceDescriptor, interrupt_status), 0x18),
            (offset_of!(DeviceDescriptor, generation), 0x1c),
            (offset_of!(DeviceDescriptor, queues), 0x20),
            (offset_of!(DeviceDescriptor, config), 0xa0),
            (size_of::<DeviceDescriptor>(), 0x100),
            (offset_of!(VqConfig, num), 0x00),
            (offset_of!(VqConfig, size), 0x02),
            (offset_of!(VqConfig, desc), 0x08),
            (offset_of!(VqConfig, driver), 0x10),
            (offset_of!(VqConfig, device), 0x18),
            (size_of::<VqConfig>(), 0x20),
        ] {
            assert_eq!(offset, documented);
        }
    }
}
