//! One device on the bus: its descriptor, and the host's own copy of what the guest has agreed to.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{DeviceDescriptor, MOST_CONFIG, MOST_QUEUES, status};

use super::queue::{MOST_ENTRIES, Place, Queue};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};
use crate::virq::Virq;

/// VIRTIO_F_VERSION_1 (virtio 1.2, section 6).
const VERSION_1: u64 = 1 << 32;

/// What a device is, to the guest.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// virtio's device ID.
    pub id: u8,
    /// Queues.
    pub queues: u8,
    /// Features besides those of any device.
    pub features: u64,
    /// Its configuration.
    pub config: [u8; MOST_CONFIG],
    /// Bytes of it.
    pub config_bytes: u8,
}

/// What a guest's word about the status has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing that the device would notice.
    None,
    /// It is driven from now on.
    Live,
    /// It is no longer driven.
    Reset,
}

/// The host's side of a descriptor.
#[derive(Debug, Default)]
pub struct Registers {
    /// Its interrupt.
    pub virq: Virq,
    offered: u64,
    queue_count: usize,
    status: u8,
    queues: [Option<Queue>; MOST_QUEUES],
}

impl Registers {
    /// Describes a device in `descriptor`, which is zero.
    pub fn describe(kind: &Kind, virq: Virq, descriptor: &DeviceDescriptor) -> Self {
        let offered = VERSION_1 | kind.features;
        descriptor.kind.store(kind.id, Relaxed);
        descriptor.num_vq.store(kind.queues, Relaxed);
        descriptor.config_len.store(kind.config_bytes, Relaxed);
        descriptor.irq.store(virq.0, Relaxed);
        descriptor.features.store(offered, Relaxed);
        let queue_count = usize::from(kind.queues);
        descriptor.queues[..queue_count].iter().for_each(|queue| queue.num.store(MOST_ENTRIES, Relaxed));
        descriptor.config.iter().zip(kind.config).for_each(|(to, byte)| to.store(byte, Relaxed));
        Self { virq, offered, queue_count, status: 0, queues: [None; MOST_QUEUES] }
    }

    /// Whether it is driven.
    pub fn is_live(&self) -> bool {
        self.status & (status::DRIVER_OK | status::FAILED) == status::DRIVER_OK
    }

    /// Queue `number`, if it is in use.
    pub fn queue(&mut self, number: usize) -> Option<&mut Queue> {
        if self.is_live() { self.queues.get_mut(number)?.as_mut() } else { None }
    }

    /// The guest says that the status in `descriptor` has changed.
    pub fn look(&mut self, memory: &GuestMemory, descriptor: &DeviceDescriptor) -> Result<Change, Broken> {
        use status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK};
        let was_live = self.is_live();
        let mut new = descriptor.status.load(Relaxed);
        if new == 0 {
            self.status = 0;
            self.queues = [None; MOST_QUEUES];
            return Ok(Change::Reset);
        }
        let added = new & !self.status;
        let unknown = new & !(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED);
        let order = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK].map(|bit| new & bit != 0);
        let in_order = order.is_sorted_by(|earlier, later| earlier >= later);
        let failed = self.status & FAILED != 0 && added != 0;
        if unknown != 0 || self.status & !new != 0 || !in_order || failed {
            return Err(Rule::BadDevice.broken_by(u64::from(new)));
        }
        if added & FEATURES_OK != 0 {
            let accepted = descriptor.accepted.load(Relaxed);
            if accepted & !self.offered != 0 {
                return Err(Rule::BadDevice.broken_by(accepted));
            }
            if accepted & VERSION_1 == 0 {
                if new & DRIVER_OK != 0 {
                    return Err(Rule::BadDevice.broken_by(accepted));
                }
                new &= !FEATURES_OK;
                descriptor.status.store(new, Relaxed);
            }
        }
        if added & DRIVER_OK != 0 {
            for (to, from) in self.queues.iter_mut().zip(&descriptor.queues).take(self.queue_count) {
                let at = |word: &core::sync::atomic::AtomicU64| GuestPhys(word.load(Relaxed));
                let size = from.size.load(Relaxed);
                let (table, driver, device) = (at(&from.desc), at(&from.driver), at(&from.device));
                if size != 0 {
                    *to = Some(Queue::new(memory, Place { size, table, driver, device })?);
                }
            }
        }
        self.status = new;
        Ok(match (was_live, self.is_live()) {
            (false, true) => Change::Live,
            (true, false) => Change::Reset,
            _ => Change::None,
        })
    }
}
