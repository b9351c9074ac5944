//! A guest's virtio devices on the lguest bus (`ABI.md`, "Devices").
//!
//! A kick only notes that a queue has work. [`Devices::work`] does some of it each time before the guest would go on, so that however
//! much there is, others get the processor in between.

pub mod block;
pub mod bus;
mod console;
mod network;
pub mod port;
pub mod queue;
pub mod switch;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{
    DeviceDescriptor, DevicePage, MOST_QUEUES, NOTIFY_QUEUE, NOTIFY_STATUS, VIRQ_FIRST_DEVICE, interrupt,
};
use platform::PAGE_SIZE;

use self::block::{Backing, Block};
use self::bus::{Change, Registers};
use self::port::{Failed, Ticket};
use self::switch::MacAddress;
use crate::archive::MOST_DISKS;
use crate::console::InputQueue;
use crate::counters::Counters;
use crate::guest::Host;
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};
use crate::virq::{Pending, Virq};

/// Where guests find the page.
pub const PAGE_AT: GuestPhys = GuestPhys(0x3000);
/// Chains that are worked on before others may have the processor.
const CHAINS_AT_A_TIME: usize = 8;
/// The most devices of a guest: its console, its network, its disks.
const MOST: usize = 2 + MOST_DISKS;
/// The console comes first.
const CONSOLE: usize = 0;
/// The queue of console and network for what comes in.
const RECEIVE: usize = 0;

/// What a device works with.
#[derive(Debug)]
pub struct With<'a, H> {
    /// Number of the guest.
    pub number: usize,
    /// Its memory.
    pub memory: GuestMemory,
    /// Its interrupts.
    pub pending: &'a mut Pending,
    /// Its console input.
    pub input: &'a mut InputQueue,
    /// Its counters.
    pub counters: &'a mut Counters,
    /// The machine.
    pub host: &'a mut H,
}

/// What has become of a queue's next chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// There is none, or nothing can be done with it yet.
    Nothing,
    /// It was given back.
    Used,
    /// It was taken.
    Started,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap, and there are few devices")]
enum Model {
    Console,
    Network,
    Block(Block),
}

#[derive(Debug)]
struct Device {
    registers: Registers,
    model: Model,
}

impl Device {
    /// Works on the next chain of a queue.
    fn serve<H: Host>(
        &mut self,
        number: usize,
        queue: usize,
        with: &mut With<'_, H>,
    ) -> Result<Served, Broken> {
        let Some(entries) = self.registers.queue(queue) else { return Ok(Served::Nothing) };
        match (&mut self.model, queue) {
            (Model::Console, RECEIVE) => console::receive(entries, with),
            (Model::Console, _) => console::transmit(entries, with),
            (Model::Network, RECEIVE) => network::receive(entries, with),
            (Model::Network, _) => network::transmit(entries, with),
            (Model::Block(block), _) => block.serve(number, entries, with),
        }
    }

    /// Tells the guest that buffers were used, if it wants to hear it.
    fn interrupt(
        &mut self,
        queue: usize,
        descriptor: &DeviceDescriptor,
        memory: &GuestMemory,
        pending: &mut Pending,
    ) {
        if self.registers.queue(queue).is_some_and(|queue| queue.wants_interrupt(memory)) {
            descriptor.interrupt_status.fetch_or(interrupt::QUEUE, Relaxed);
            pending.raise(self.registers.virq);
        }
    }
}

/// What a guest has besides its console.
#[derive(Debug, Default)]
pub struct Fittings {
    /// Disks, in order.
    pub disks: [Option<Backing>; MOST_DISKS],
    /// Whether it is on the network.
    pub network: bool,
}

/// A guest's devices.
#[derive(Debug)]
pub struct Devices {
    list: [Option<Device>; MOST],
    page: Option<&'static DevicePage>,
    /// Queues with work: bit [`MOST_QUEUES`] * device + queue.
    work: u64,
    /// A drive still uses memory that a reset has given back to the guest.
    draining: bool,
}

const fn bit(device: usize, queue: usize) -> u64 {
    1 << (MOST_QUEUES * device + queue)
}

impl Devices {
    /// Devices of a guest that has not been started.
    pub fn new(fittings: Fittings) -> Self {
        let disks = fittings.disks.into_iter().flatten().map(|backing| Model::Block(Block::new(backing)));
        let network = fittings.network.then_some(Model::Network);
        let models = [Model::Console].into_iter().chain(network).chain(disks);
        let mut list = [const { None }; MOST];
        for (to, model) in list.iter_mut().zip(models) {
            *to = Some(Device { registers: Registers::default(), model });
        }
        Self { list, page: None, work: 0, draining: false }
    }

    /// Describes them to guest `number`, in its memory, which is zero at [`PAGE_AT`]. Nothing is in flight.
    pub fn start(&mut self, number: usize, memory: &GuestMemory) -> Result<(), Broken> {
        let page = memory.device_page(PAGE_AT)?;
        for (at, device) in self.list.iter_mut().flatten().enumerate() {
            let kind = match &device.model {
                Model::Console => console::KIND,
                Model::Network => network::kind(MacAddress::of_guest(number)),
                Model::Block(block) => block.kind(),
            };
            let virq = Virq(VIRQ_FIRST_DEVICE + at as u32);
            device.registers = Registers::describe(&kind, virq, &page.devices[at]);
        }
        (self.page, self.work) = (Some(page), 0);
        Ok(())
    }

    /// Whether an address that is notified is one of these devices and not text.
    pub fn contain(address: GuestPhys) -> bool {
        (PAGE_AT.0..PAGE_AT.0 + PAGE_SIZE).contains(&address.0)
    }

    /// NOTIFY of an address in the page.
    pub fn notify(&mut self, memory: &GuestMemory, address: GuestPhys, what: u64) -> Result<(), Broken> {
        let offset = address.0 - PAGE_AT.0;
        let bad = Rule::BadDevice.broken_by(address.0);
        let at = (offset / size_of::<DeviceDescriptor>() as u64) as usize;
        let (Some(Some(device)), Some(page)) = (self.list.get_mut(at), self.page) else { return Err(bad) };
        if !offset.is_multiple_of(size_of::<DeviceDescriptor>() as u64) {
            return Err(bad);
        }
        if what != NOTIFY_STATUS {
            let queue = usize::try_from(what - NOTIFY_QUEUE).unwrap_or(usize::MAX);
            device.registers.queue(queue).ok_or(Rule::BadDevice.broken_by(what))?;
            self.work |= bit(at, queue);
            return Ok(());
        }
        match device.registers.look(memory, &page.devices[at])? {
            Change::None => {}
            Change::Live if matches!(device.model, Model::Block(_)) => {}
            // Something may have come already.
            Change::Live => self.work |= bit(at, RECEIVE),
            Change::Reset => {
                self.work &= !(bit(at + 1, 0).wrapping_sub(bit(at, 0)));
                if let Model::Block(block) = &mut device.model {
                    self.draining |= block.abandon();
                }
            }
        }
        Ok(())
    }

    /// Does some of the work, if there is any.
    pub fn work<H: Host>(&mut self, with: &mut With<'_, H>) -> Result<(), Broken> {
        let mut left = CHAINS_AT_A_TIME;
        while self.work != 0 && left > 0 {
            let first = self.work.trailing_zeros() as usize;
            let (at, queue) = (first / MOST_QUEUES, first % MOST_QUEUES);
            let (Some(device), Some(page)) = (&mut self.list[at], self.page) else { break };
            let mut used = false;
            while left > 0 {
                match device.serve(at, queue, with)? {
                    Served::Used => used = true,
                    Served::Started => {}
                    Served::Nothing => {
                        self.work &= !bit(at, queue);
                        break;
                    }
                }
                left -= 1;
            }
            if used {
                device.interrupt(queue, &page.devices[at], &with.memory, with.pending);
            }
        }
        Ok(())
    }

    /// Whether there is work that can be done now.
    pub fn have_work(&self) -> bool {
        self.work != 0 && !self.are_draining()
    }

    /// Console input has come: whether the device takes it.
    pub fn take_input(&mut self) -> bool {
        let takes = self.list[CONSOLE].as_ref().is_some_and(|console| console.registers.is_live());
        self.work |= if takes { bit(CONSOLE, RECEIVE) } else { 0 };
        takes
    }

    /// Frames have come.
    pub fn take_frames(&mut self) {
        for (at, device) in self.list.iter().flatten().enumerate() {
            if matches!(device.model, Model::Network) && device.registers.is_live() {
                self.work |= bit(at, RECEIVE);
            }
        }
    }

    fn blocks(&mut self) -> impl Iterator<Item = (usize, &mut Block)> {
        self.list.iter_mut().flatten().enumerate().filter_map(|(at, device)| match &mut device.model {
            Model::Block(block) => Some((at, block)),
            _ => None,
        })
    }

    /// A drive has completed something of this guest's.
    pub fn complete(
        &mut self,
        ticket: Ticket,
        result: Result<(), Failed>,
        memory: &GuestMemory,
        pending: &mut Pending,
    ) -> Result<(), Broken> {
        let at = usize::from(ticket.device);
        let (Some(Some(device)), Some(page)) = (self.list.get_mut(at), self.page) else { return Ok(()) };
        let Model::Block(block) = &mut device.model else { return Ok(()) };
        let served = block.complete(ticket.request, result, device.registers.queue(0), memory)?;
        if served == Served::Used {
            device.interrupt(0, &page.devices[at], memory, pending);
        }
        if self.draining {
            let draining = self.blocks().any(|(_, block)| block.is_draining());
            self.draining = draining;
        }
        Ok(())
    }

    /// A drive has room again.
    pub fn retry(&mut self) {
        let mut work = 0;
        for (at, block) in self.blocks() {
            work |= if block.take_stalled() { bit(at, 0) } else { 0 };
        }
        self.work |= work;
    }

    /// All devices are reset, for the guest is over.
    pub fn abandon(&mut self) {
        let in_flight = self.blocks().fold(false, |any, (_, block)| any | block.abandon());
        (self.work, self.draining) = (0, self.draining | in_flight);
    }

    /// Whether drives still use memory that a reset has given back to the guest: it must not go on before.
    pub fn are_draining(&self) -> bool {
        self.draining
    }
}
