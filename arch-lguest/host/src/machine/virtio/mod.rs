//! QEMU's virtio devices: found on PCI (pc, q35) or, where the command line names them, by their registers (microvm).
//!
//! The crate `virtio-drivers` has the transports and the queues. It knows no interrupts by message: [`Device::queue`] gives
//! each queue the device's only one. Buffers belong to the drivers here; nothing of a guest's memory is ever a device's.

mod card;
mod dma;
mod drive;

use core::fmt::Debug;
use core::ops::BitAnd;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use bitflags::{Flags, bitflags};
use platform::{PAGE_SIZE, PhysAddr, Unusable};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR};
use virtio_drivers::transport::pci::{PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, virtio_device_type};
use virtio_drivers::transport::{DeviceType, SomeTransport, Transport};

use super::apic;
use super::frames::Frames;
use super::options::MmioDevice;
use super::paging::{direct, registers};
use super::pci::{self, Bus, Ports};
use crate::devices::port::QUEUE_PAGES;
pub use card::VirtioCard;
use dma::Pool;
pub use drive::VirtioDrive;

/// Disks that are looked at; those after them are left alone.
pub const MOST_DRIVES: usize = 8;

/// What was found.
#[derive(Default)]
pub struct Hardware {
    /// Disks, in the order in which QEMU was given them.
    pub drives: [Option<VirtioDrive>; MOST_DRIVES],
    /// The network card.
    pub card: Option<VirtioCard>,
}

impl Hardware {
    /// Finds the machine's devices and starts them; `named` are those the command line tells of.
    pub fn find(frames: &mut Frames, named: impl Iterator<Item = MmioDevice>) -> Result<Self, Unusable> {
        let mut found = Self::default();
        let mut bus = Bus::new(Ports);
        for (function, information) in bus.enumerate_bus(0) {
            if virtio_device_type(&information).is_some_and(wanted) {
                found.start(Device::on_pci(&mut bus, function, frames)?, frames)?;
            }
        }
        for named in named {
            if let Some(device) = Device::by_registers(named, frames)? {
                found.start(device, frames)?;
            }
        }
        Ok(found)
    }

    fn start(&mut self, device: Device, frames: &mut Frames) -> Result<(), Unusable> {
        match device.transport.device_type() {
            DeviceType::Block => {
                if let Some(free) = self.drives.iter_mut().find(|drive| drive.is_none()) {
                    *free = Some(VirtioDrive::start(device, frames)?);
                }
            }
            DeviceType::Network if self.card.is_none() => {
                self.card = Some(VirtioCard::start(device, frames)?)
            }
            _ => {}
        }
        Ok(())
    }

    /// The devices' interrupt was taken.
    pub fn acknowledge(&mut self) {
        self.drives.iter_mut().flatten().for_each(|drive| drive.device.acknowledge());
        if let Some(card) = &mut self.card {
            card.device.acknowledge();
        }
    }
}

fn wanted(kind: DeviceType) -> bool {
    matches!(kind, DeviceType::Block | DeviceType::Network)
}

bitflags! {
    /// Features of every device (virtio 1.2, 6).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Common: u64 {
        const VERSION_1 = 1 << 32;
    }
}

/// A device and the way to it.
struct Device {
    transport: SomeTransport<'static>,
    /// On PCI: where the vector of a queue is set.
    vectors: Option<Vectors>,
}

impl Device {
    fn on_pci(bus: &mut Bus, function: DeviceFunction, frames: &mut Frames) -> Result<Self, Unusable> {
        let out_of_reach = Unusable("a virtio device's registers are out of reach: they are not below 4 GiB");
        bus.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE);
        let vectors = Vectors::find(bus, function)?;
        pci::region(bus, function, vectors.bar).ok_or(out_of_reach)?;
        let transport = PciTransport::new::<Pool, _>(bus, function);
        let transport = transport.map_err(|_| Unusable("a virtio device on PCI is none of version 1"))?;
        pci::enable_message(bus, function, apic::id(), apic::DEVICE)?;
        Pool::fill(frames)?;
        Ok(Self { transport: transport.into(), vectors: Some(vectors) })
    }

    /// None if nothing is attached there.
    fn by_registers(named: MmioDevice, frames: &mut Frames) -> Result<Option<Self>, Unusable> {
        let bad = Unusable("the command line names registers of a virtio device where there are none");
        let base = registers(named.base, named.bytes).ok_or(bad)?;
        let header = NonNull::new(direct(base).as_mut_ptr::<VirtIOHeader>()).ok_or(bad)?;
        let device_id = direct(base + 8).as_ptr::<u32>();
        // SAFETY: in the mapped range of registers; reading a device's number changes nothing.
        if unsafe { device_id.read_volatile() } == 0 {
            return Ok(None);
        }
        // SAFETY: mapped for ever, and nobody else uses them.
        let transport = unsafe { MmioTransport::new(header, named.bytes as usize) }.map_err(|_| bad)?;
        apic::route(named.line, apic::DEVICE);
        Pool::fill(frames)?;
        Ok(Some(Self { transport: transport.into(), vectors: None }))
    }

    /// Starts negotiation: takes those of `wanted` that are offered.
    fn begin<F: Flags<Bits = u64> + BitAnd<Output = F> + Debug>(&mut self, wanted: F) -> Result<F, Unusable> {
        let taken = self.transport.begin_init(wanted);
        if taken.bits() & Common::VERSION_1.bits() == 0 {
            return Err(Unusable("a virtio device of the machine is none of version 1"));
        }
        Ok(taken)
    }

    /// Makes queue `index`, and lets it interrupt.
    fn queue<const SIZE: usize>(&mut self, index: u16) -> Result<VirtQueue<Pool, SIZE>, Unusable> {
        // A queue has everything before it is enabled (virtio 1.2, 4.1.4.3.2).
        if let Some(vectors) = &self.vectors {
            vectors.set(index)?;
        }
        let queue = VirtQueue::new(&mut self.transport, index, false, false);
        queue.map_err(|_| Unusable("a virtio device's queue is too short"))
    }

    /// Tells the device of new buffers in `queue`, unless it looks anyway.
    fn notify<const SIZE: usize>(&mut self, queue: &VirtQueue<Pool, SIZE>, index: u16) {
        // It must see the buffers before this sees whether it looks.
        fence(Ordering::SeqCst);
        if queue.should_notify() {
            self.transport.notify(index);
        }
    }

    /// Takes the device's line back, where it has one. A queue is looked at after that, never before.
    fn acknowledge(&mut self) {
        if self.vectors.is_none() {
            self.transport.ack_interrupt();
        }
    }
}

/// Access to the registers that give queues their vectors, by way of configuration space (virtio 1.2, 4.1.4.9): the registers
/// themselves are the transport's.
#[derive(Clone, Copy, Debug)]
struct Vectors {
    function: DeviceFunction,
    /// The capability with the window.
    window: u8,
    /// Where the registers are.
    bar: u8,
    offset: u32,
}

impl Vectors {
    /// `VIRTIO_PCI_CAP_PCI_CFG`.
    const WINDOW: u8 = 5;
    const QUEUE_SELECT: u32 = 22;
    const QUEUE_VECTOR: u32 = 26;

    fn find(bus: &Bus, function: DeviceFunction) -> Result<Self, Unusable> {
        let of_kind = |kind| {
            let mut all = bus.capabilities(function).filter(|one| one.id == PCI_CAP_ID_VNDR);
            all.find(|one| (one.private_header >> 8) as u8 == kind).map(|one| one.offset)
        };
        match (of_kind(Self::WINDOW), of_kind(VIRTIO_PCI_CAP_COMMON_CFG)) {
            (Some(window), Some(common)) => Ok(Self {
                function,
                window,
                bar: Ports.read_word(function, common + 4) as u8,
                offset: Ports.read_word(function, common + 8),
            }),
            _ => Err(Unusable("a virtio device on PCI lacks a capability")),
        }
    }

    fn point_at(&self, register: u32) {
        Ports.write_word(self.function, self.window + 4, u32::from(self.bar));
        Ports.write_word(self.function, self.window + 8, self.offset + register);
        Ports.write_word(self.function, self.window + 12, 2);
    }

    /// Gives `queue` the first vector.
    fn set(&self, queue: u16) -> Result<(), Unusable> {
        self.point_at(Self::QUEUE_SELECT);
        Ports.write_word(self.function, self.window + 16, queue.into());
        self.point_at(Self::QUEUE_VECTOR);
        Ports.write_word(self.function, self.window + 16, 0);
        // 0xffff says that the device could not.
        if Ports.read_word(self.function, self.window + 16) as u16 == 0 {
            return Ok(());
        }
        Err(Unusable("a virtio device cannot interrupt"))
    }
}

/// Memory that a device takes whose buffers are a `T`.
const fn taken<T>() -> u64 {
    QUEUE_PAGES * PAGE_SIZE + (size_of::<T>() as u64).next_multiple_of(PAGE_SIZE)
}

/// Where the drivers' own buffers are, as one value of `T` in pages of their own. Any bytes must be a `T`.
fn buffers<T: zerocopy::FromBytes>(frames: &mut Frames) -> Result<&'static mut T, Unusable> {
    let bytes = (size_of::<T>() as u64).next_multiple_of(PAGE_SIZE);
    let taken = frames.take(bytes, PAGE_SIZE);
    let start: PhysAddr = taken.ok_or(Unusable("too little memory for the hypervisor's drivers"))?.start;
    // SAFETY: mapped, large enough, aligned to a page, taken for this and never given back; any bytes are a `T`.
    Ok(unsafe { &mut *direct(start).as_mut_ptr::<T>() })
}
