//! Virtio devices: the host's bus, a page of descriptors and a call that says which of them to look at.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arch_native::layout::direct;
use lguest_abi::{DeviceDescriptor, DevicePage, MOST_DEVICES, NOTIFY_QUEUE, NOTIFY_STATUS};
use platform::{Device, DeviceEvents, DeviceId, IrqLine, Kernel, PhysAddr, QueueLayout};

use crate::host;

/// [`platform::Devices`] of an lguest guest.
#[derive(Debug)]
pub struct LguestDevices<K>(PhantomData<K>);

/// Guest-physical address of the bus's page; 0 if there is none.
static PAGE: AtomicU64 = AtomicU64::new(0);

/// Notes where the page is.
///
/// # Safety
/// The host has put a [`DevicePage`] there, or the address is 0.
pub unsafe fn set_page(address: PhysAddr) {
    PAGE.store(address.0, Relaxed);
}

fn page() -> Option<&'static DevicePage> {
    let address = PAGE.load(Relaxed);
    // SAFETY: `set_page` was promised that the page is there. It is in the direct map, for ever, and all atomic.
    (address != 0).then(|| unsafe { &*direct(PhysAddr(address)).as_ptr() })
}

/// The descriptor of a device that exists, and its guest-physical address.
fn find(device: DeviceId) -> (&'static DeviceDescriptor, PhysAddr) {
    let index = device.0 as usize;
    let Some(descriptor) = page().and_then(|page| page.devices.get(index)) else {
        panic!("there is no device {index}");
    };
    (descriptor, PhysAddr(PAGE.load(Relaxed) + (index * size_of::<DeviceDescriptor>()) as u64))
}

#[platform::backend]
impl<K: Kernel> platform::Devices for LguestDevices<K> {
    fn next(after: Option<DeviceId>) -> Option<Device> {
        let index = after.map_or(0, |device| device.0 as usize + 1);
        let found = page()?.devices.get(index)?;
        let kind = found.kind.load(Relaxed);
        (kind != 0).then(|| Device {
            id: DeviceId(index as u32),
            kind: kind.into(),
            features: found.features.load(Relaxed),
            line: IrqLine(found.irq.load(Relaxed)),
        })
    }

    fn accept(device: DeviceId, features: u64) {
        find(device).0.accepted.store(features, Relaxed);
    }

    fn set_status(device: DeviceId, status: u8) -> u8 {
        let (descriptor, address) = find(device);
        descriptor.status.store(status, Release);
        // SAFETY: the address is a descriptor's.
        unsafe { host::notify_device(address, NOTIFY_STATUS) };
        descriptor.status.load(Acquire)
    }

    fn queue_limit(device: DeviceId, queue: u16) -> u16 {
        find(device).0.queues.get(usize::from(queue)).map_or(0, |queue| queue.num.load(Relaxed))
    }

    fn set_queue(device: DeviceId, layout: &QueueLayout) {
        // Read by the host when the status says that the driver is ready.
        if let Some(queue) = find(device).0.queues.get(usize::from(layout.queue)) {
            queue.size.store(layout.size, Relaxed);
            queue.desc.store(layout.descriptors.0, Relaxed);
            queue.driver.store(layout.driver.0, Relaxed);
            queue.device.store(layout.device.0, Relaxed);
        }
    }

    fn notify(device: DeviceId, queue: u16) {
        let (_, address) = find(device);
        // SAFETY: the address is a descriptor's.
        unsafe { host::notify_device(address, NOTIFY_QUEUE + u64::from(queue)) };
    }

    fn acknowledge(device: DeviceId) -> DeviceEvents {
        DeviceEvents::from_bits_truncate(find(device).0.interrupt_status.swap(0, Acquire))
    }

    fn read_config(device: DeviceId, offset: usize, buffer: &mut [u8]) {
        let (descriptor, _) = find(device);
        let config = &descriptor.config
            [..usize::from(descriptor.config_len.load(Relaxed)).min(descriptor.config.len())];
        let config = config.get(offset..).unwrap_or_default();
        loop {
            let generation = descriptor.generation.load(Acquire);
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = config.get(index).map_or(0, |byte| byte.load(Acquire));
            }
            if descriptor.generation.load(Acquire) == generation {
                return;
            }
        }
    }
}

const _: () = assert!(MOST_DEVICES * size_of::<DeviceDescriptor>() == size_of::<DevicePage>());
