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
        self.vcpu.pending.raise(Virq(lguest_abi::VIRQ_CONSOLE));
    }

    /// Whether it can go on.
    pub fn wants_processor(&self) -> bool {
        match self.state {
            State::Running => true,
            State::Waiting => self.vcpu.data.is_some_and(|data| self.vcpu.pending.next(data).is_some()),
            State::Stopped | State::Over(_) => false,
        }
    }

    /// It has broken a rule.
    pub fn kill(&mut self, broken: Broken, rip: VirtAddr) {
        self.state = State::Over(Outcome::Killed(broken, rip));
    }

    fn clock(&self, host: &mut impl Host) -> Nanoseconds {
        host.scale().time(host.counter().saturating_sub(self.started))
    }
}
