//! Virtio devices: the bus, and what each device that a test gave to the machine is told.
//!
//! What a device does is a [`Model`]'s; its queues are in [`crate::virtqueue`].

use core::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use platform::{Device, DeviceEvents, DeviceId, Devices, IrqLine, Kernel, Nanoseconds, QueueLayout};

use crate::control;
use crate::state::{discovered, here, violation};
use crate::virtqueue::{Chain, Queue};

/// `VIRTIO_F_VERSION_1`, which every device offers.
pub const VERSION_1: u64 = 1 << 32;
/// The line of the first device; the next has the next.
pub const FIRST_LINE: IrqLine = IrqLine(16);
/// Descriptors that a queue may have.
const QUEUE_LIMIT: u16 = 128;

const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;

/// What a device does.
pub trait Model: Send {
    /// What it is (virtio 1.2, section 5).
    fn kind(&self) -> u32;

    /// What it offers, beside [`VERSION_1`].
    fn features(&self) -> u64;

    /// How many queues it has.
    fn queues(&self) -> u16;

    /// Its configuration.
    fn configuration(&self) -> Vec<u8>;

    /// What it does with a chain of `queue` that has these bytes to be read and room for so many to be written.
    fn take(&mut self, queue: u16, read: &[u8], room: usize) -> Action;
}

/// What a device does with a chain.
pub enum Action {
    /// Writes these bytes and gives it back after this time.
    Use(Nanoseconds, Vec<u8>),
    /// Keeps it until [`supply`] has something for it.
    Keep,
    /// Gives back one that it has not got.
    Forge,
    /// Says that it must be reset, and does nothing more.
    Break,
}

struct State {
    model: Box<dyn Model>,
    status: u8,
    accepted: u64,
    queues: Vec<Queue>,
    events: DeviceEvents,
    /// Counts resets: what was begun before the last one is not ended.
    resets: u64,
}

static DEVICES: Mutex<Vec<State>> = Mutex::new(Vec::new());

fn devices() -> MutexGuard<'static, Vec<State>> {
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(index: usize) -> IrqLine {
    IrqLine(FIRST_LINE.0 + index as u32)
}

/// Gives the machine another device.
pub(crate) fn add(model: Box<dyn Model>) {
    let queues = (0..model.queues()).map(|_| Queue::default()).collect();
    let events = DeviceEvents::empty();
    devices().push(State { model, status: 0, accepted: 0, queues, events, resets: 0 });
}

/// Does `work` with a device, which must exist.
fn with<R>(hook: &str, device: DeviceId, work: impl FnOnce(&mut State) -> Result<R, String>) -> R {
    here(hook);
    drop(discovered(hook));
    let result = match devices().get_mut(device.0 as usize) {
        Some(state) => work(state),
        None => Err("there is no such device".to_owned()),
    };
    result.unwrap_or_else(|message| violation(format!("{hook}, {device:?}: {message}")))
}

/// Gives `bytes` to the driver in the first chain of `queue` that the device keeps; false if it keeps none.
pub fn supply(device: DeviceId, queue: u16, bytes: &[u8]) -> bool {
    let raises = {
        let mut devices = devices();
        let state = &mut devices[device.0 as usize];
        let Some(chain) = state.queues[usize::from(queue)].kept.pop_front() else { return false };
        state.give_back(queue, &chain, bytes)
    };
    if raises {
        control::raise(line(device.0 as usize));
    }
    true
}

/// The device's configuration has changed.
pub fn configuration_changed(device: DeviceId) {
    devices()[device.0 as usize].events |= DeviceEvents::CONFIGURATION;
    control::raise(line(device.0 as usize));
}

impl State {
    /// Returns whether the line is to be raised.
    fn give_back(&mut self, queue: u16, chain: &Chain, bytes: &[u8]) -> bool {
        let wanted = self.queues[usize::from(queue)].give_back(chain, bytes);
        if wanted {
            self.events |= DeviceEvents::QUEUE;
        }
        wanted
    }

    /// Works off what is new in a queue. Returns what is left to be done outside of the lock.
    fn work_off(&mut self, device: DeviceId, number: u16) -> Result<Vec<Deferred>, String> {
        let mut deferred = Vec::new();
        while self.status & NEEDS_RESET == 0
            && let Some(chain) = self.queues[usize::from(number)].take()?
        {
            let read = chain.read_bytes();
            match self.model.take(number, &read, chain.room()) {
                Action::Use(after, bytes) => {
                    deferred.push(Deferred {
                        device,
                        queue: number,
                        chain,
                        bytes,
                        after,
                        resets: self.resets,
                    });
                }
                Action::Keep => self.queues[usize::from(number)].kept.push_back(chain),
                Action::Forge => {
                    let forged = chain.with_another_head();
                    deferred.push(Deferred {
                        device,
                        queue: number,
                        chain: forged,
                        bytes: Vec::new(),
                        after: Nanoseconds::ZERO,
                        resets: self.resets,
                    });
                }
                Action::Break => {
                    self.status |= NEEDS_RESET;
                    self.resets += 1;
                    self.events |= DeviceEvents::CONFIGURATION;
                    control::raise(line(device.0 as usize));
                }
            }
        }
        Ok(deferred)
    }
}

/// A chain that is given back later.
struct Deferred {
    device: DeviceId,
    queue: u16,
    chain: Chain,
    bytes: Vec<u8>,
    after: Nanoseconds,
    resets: u64,
}

impl Deferred {
    fn schedule(self) {
        if self.after == Nanoseconds::ZERO {
            self.end();
        } else {
            control::at(control::now().saturating_add(self.after), move || self.end());
        }
    }

    fn end(self) {
        let raises = {
            let mut devices = devices();
            let state = &mut devices[self.device.0 as usize];
            state.resets == self.resets && state.give_back(self.queue, &self.chain, &self.bytes)
        };
        if raises {
            control::raise(line(self.device.0 as usize));
        }
    }
}

/// A bus with the devices that [`crate::Machine::device`] was given.
#[derive(Debug)]
pub struct SimDevices<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Devices for SimDevices<K> {
    fn next(after: Option<DeviceId>) -> Option<Device> {
        here("Devices::next");
        drop(discovered("Devices::next"));
        let index = after.map_or(0, |device| device.0 as usize + 1);
        let devices = devices();
        let state = devices.get(index)?;
        Some(Device {
            id: DeviceId(index as u32),
            kind: state.model.kind(),
            features: state.model.features() | VERSION_1,
            line: line(index),
        })
    }

    fn accept(device: DeviceId, features: u64) {
        with("Devices::accept", device, |state| {
            let offered = state.model.features() | VERSION_1;
            if features & !offered != 0 || features & VERSION_1 == 0 || state.status & FEATURES_OK != 0 {
                return Err(format!("features {features:#x} of {offered:#x}, status {:#x}", state.status));
            }
            state.accepted = features;
            Ok(())
        });
    }

    fn set_status(device: DeviceId, status: u8) -> u8 {
        with("Devices::set_status", device, |state| {
            if status == 0 {
                state.resets += 1;
                state.status = 0;
                state.queues.iter_mut().for_each(Queue::reset);
            } else if state.status & !NEEDS_RESET & !status != 0 {
                return Err(format!("status {status:#x} takes away from {:#x}", state.status));
            } else if status & FEATURES_OK != 0 && state.accepted & VERSION_1 == 0 {
                return Err("no features were accepted".to_owned());
            } else {
                state.status |= status;
            }
            Ok(state.status)
        })
    }

    fn queue_limit(device: DeviceId, queue: u16) -> u16 {
        with("Devices::queue_limit", device, |state| {
            Ok(if usize::from(queue) < state.queues.len() { QUEUE_LIMIT } else { 0 })
        })
    }

    fn set_queue(device: DeviceId, layout: &QueueLayout) {
        with("Devices::set_queue", device, |state| {
            let early = state.status & (FEATURES_OK | DRIVER_OK) == FEATURES_OK;
            match state.queues.get_mut(usize::from(layout.queue)) {
                Some(queue) if layout.size == 0 => {
                    queue.reset();
                    Ok(())
                }
                Some(queue) if early && layout.size <= QUEUE_LIMIT => queue.place(*layout),
                _ => Err(format!("{layout:?} with status {:#x}", state.status)),
            }
        });
    }

    fn notify(device: DeviceId, queue: u16) {
        let deferred = with("Devices::notify", device, |state| {
            if state.status & DRIVER_OK == 0 || usize::from(queue) >= state.queues.len() {
                return Err(format!("queue {queue} with status {:#x}", state.status));
            }
            state.work_off(device, queue)
        });
        deferred.into_iter().for_each(Deferred::schedule);
    }

    fn acknowledge(device: DeviceId) -> DeviceEvents {
        with("Devices::acknowledge", device, |state| {
            Ok(core::mem::replace(&mut state.events, DeviceEvents::empty()))
        })
    }

    fn read_config(device: DeviceId, offset: usize, buffer: &mut [u8]) {
        with("Devices::read_config", device, |state| {
            let bytes = state.model.configuration();
            let bytes = bytes.get(offset..).unwrap_or_default();
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = bytes.get(index).copied().unwrap_or(0);
            }
            Ok(())
        });
    }
}
