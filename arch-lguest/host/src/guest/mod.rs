//! One guest: its memory, its shadows, its virtual CPU.

mod event;
mod fault;
mod hypercall;
mod load;

#[cfg(test)]
mod tests;

use core::fmt;

use lguest_abi::{LguestData, ShutdownReason};
use platform::{Nanoseconds, VirtAddr};

use crate::archive::Description;
use crate::clock::Scale;
use crate::console::InputQueue;
use crate::counters::Counters;
use crate::devices::Devices;
use crate::devices::port::{Drive, Failed, MOST_FRAME, Ticket};
use crate::image::Image;
use crate::memory::GuestMemory;
use crate::rule::Broken;
use crate::tables::shadow::Shadow;
use crate::virq::{Pending, Virq};

/// What a guest needs of the machine.
pub trait Host {
    /// The processor's counter.
    fn counter(&mut self) -> u64;
    /// Its rate.
    fn scale(&self) -> Scale;
    /// Time since 1970-01-01 00:00 UTC when the counter was zero, or none if the machine does not know.
    fn wall_clock_base(&self) -> Option<Nanoseconds>;
    /// What CPUID says.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];
    /// Prints for `guest`.
    fn print(&mut self, guest: usize, text: &[u8]);
    /// Tells whoever started the host a line of `guest`'s.
    fn report(&mut self, guest: usize, line: &[u8]);
    /// A disk of the machine.
    type Drive: Drive;
    /// Drive `number`, which exists.
    fn drive(&mut self, number: usize) -> &mut Self::Drive;
    /// Sends a frame of `guest`'s to whom it is for.
    fn send_frame(&mut self, guest: usize, frame: &[u8]);
    /// The next frame for `guest`, and its length.
    fn receive_frame(&mut self, guest: usize, frame: &mut [u8; MOST_FRAME]) -> Option<usize>;
}

/// How a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It shut itself down.
    ShutDown {
        /// Why.
        reason: ShutdownReason,
        /// Process 1's status.
        status: u8,
    },
    /// It broke a rule, at this RIP.
    Killed(Broken, VirtAddr),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown { reason: ShutdownReason::PowerOff, .. } => f.write_str("power-off"),
            Self::ShutDown { reason: ShutdownReason::Restart, .. } => f.write_str("restart"),
            Self::ShutDown { reason: ShutdownReason::Exit, status } => write!(f, "exit {status}"),
            Self::ShutDown { reason: ShutdownReason::Panic, .. } => f.write_str("panic"),
            Self::ShutDown { reason: ShutdownReason::Unusable, .. } => f.write_str("unusable"),
            Self::Killed(broken, rip) => write!(f, "killed: {broken} at {:#x}", rip.0),
        }
    }
}

/// Whether a guest wants the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It runs.
    Running,
    /// It waits for an interrupt.
    Waiting,
    /// It will never run again, but has not ended.
    Stopped,
    /// It has ended.
    Over(Outcome),
}

/// Addresses that LGUEST_INIT took, checked.
#[derive(Clone, Copy, Debug, Default)]
struct EntryPoints {
    from_user: VirtAddr,
    from_kernel: VirtAddr,
    system_call: VirtAddr,
    noirq_start: VirtAddr,
    noirq_end: VirtAddr,
}

/// The virtual CPU, without its registers.
#[derive(Debug, Default)]
struct Vcpu {
    data: Option<&'static LguestData>,
    entries: EntryPoints,
    pending: Pending,
    /// Counter at which the timer fires.
    deadline: Option<u64>,
    /// The ring entry that comes next.
    ring_next: usize,
    /// The address of a page fault that the guest is handling.
    fault: Option<VirtAddr>,
}

/// One guest.
#[derive(Debug)]
pub struct Guest {
    /// Its number.
    pub number: usize,
    /// Whether it runs.
    pub state: State,
    /// What it has cost.
    pub counters: Counters,
    description: Description<'static>,
    image: Image<'static>,
    memory: GuestMemory,
    shadow: Option<Shadow>,
    vcpu: Vcpu,
    input: InputQueue,
    devices: Devices,
    /// Counter when its clock was zero.
    started: u64,
}

impl Guest {
    /// Its shadows.
    pub fn shadow(&mut self) -> &mut Shadow {
        self.shadow.as_mut().expect("a guest has shadows but while it is started again")
    }

    /// Its shared page, once it has one.
    pub fn data(&self) -> Option<&'static LguestData> {
        self.vcpu.data
    }

    /// Where its system calls go.
    pub fn system_call_entry(&self) -> VirtAddr {
        self.vcpu.entries.system_call
    }

    /// Interrupts that wait.
    pub fn pending(&self) -> Pending {
        self.vcpu.pending
    }

    /// Counter at which its timer fires, if it is set.
    pub fn deadline(&self) -> Option<u64> {
        self.vcpu.deadline
    }

    /// Raises the timer's interrupt if its time has come.
    pub fn expire(&mut self, counter: u64) {
        if self.vcpu.deadline.is_some_and(|deadline| counter >= deadline) {
            self.vcpu.deadline = None;
            self.vcpu.pending.raise(Virq(lguest_abi::VIRQ_TIMER));
        }
    }

    /// A byte of console input.
    pub fn input(&mut self, byte: u8) {
        self.input.push(byte);
        self.offer_input();
    }

    /// Lets the console's device have what input there is, or the hypercall.
    fn offer_input(&mut self) {
        if !self.input.is_empty() && !self.devices.take_input() {
            self.vcpu.pending.raise(Virq(lguest_abi::VIRQ_CONSOLE));
        }
    }

    /// Frames have come for it.
    pub fn frames_have_come(&mut self) {
        self.devices.take_frames();
    }

    /// A drive of the machine has completed something of its.
    pub fn transfer_completed(&mut self, ticket: Ticket, result: Result<(), Failed>) -> Result<(), Broken> {
        self.devices.complete(ticket, result, &self.memory, &mut self.vcpu.pending)
    }

    /// A drive of the machine has room.
    pub fn retry_transfers(&mut self) {
        self.devices.retry();
    }

    /// Whether it can go on, or its devices can.
    pub fn wants_processor(&self) -> bool {
        if self.devices.are_draining() {
            return false;
        }
        let interrupted = || self.vcpu.data.is_some_and(|data| self.vcpu.pending.next(data).is_some());
        match self.state {
            State::Running => true,
            State::Waiting => interrupted() || self.devices.have_work(),
            State::Stopped | State::Over(_) => false,
        }
    }

    /// Whether it can go on now: nothing is left that comes first.
    pub fn is_ready(&self) -> bool {
        self.state == State::Running && !self.devices.have_work() && !self.devices.are_draining()
    }

    /// Whether a drive still uses its memory, though it is over or has reset the disk.
    pub fn is_draining(&self) -> bool {
        self.devices.are_draining()
    }

    /// It is over: its devices do nothing more.
    pub fn stop_devices(&mut self) {
        self.devices.abandon();
    }

    fn clock(&self, host: &mut impl Host) -> Nanoseconds {
        host.scale().time(host.counter().saturating_sub(self.started))
    }
}
