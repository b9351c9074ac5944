//! Other CPUs.

use crate::{CpuId, CpuLocal, CpuSet, Message, VirtAddr};

/// What a CPU starts with.
#[derive(Debug)]
pub struct SecondaryStart {
    /// Its private data; the platform makes it current as [`crate::Cpu::set_local`] does.
    pub local: &'static mut CpuLocal,
    /// Top of its first stack, 16-byte aligned.
    pub stack: VirtAddr,
}

/// Why a CPU did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// There is no such CPU.
    NoSuchCpu,
    /// It did not answer within a second.
    NoAnswer,
    /// The platform refused.
    Refused,
}

/// Other CPUs. After discovery.
#[crate::part(smp)]
pub trait Smp {
    /// Starts `cpu`, which enters [`crate::Kernel::secondary`]; returns when it is about to. Variation of: INIT and
    /// start-up interrupts. Context: CPU 0, interrupts enabled or disabled, one at a time.
    fn start(cpu: CpuId, with: SecondaryStart) -> Result<(), StartError>;

    /// Delivers `message` to `cpus` as [`crate::Interrupt::Message`]; several of one kind may be delivered as one. What
    /// this CPU wrote before is seen by the receiver. Variation of: an interprocessor interrupt
    /// (`smp_send_reschedule` and its like). The caller is not among `cpus`.
    fn send(cpus: CpuSet, message: Message);
}
