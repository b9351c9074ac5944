//! Interrupt lines, at the level of Linux's genirq.

use crate::{CpuId, IrqLine};

/// What a device writes to raise a message-signalled interrupt (PCI Local Bus 3.0, 6.8.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageAddress {
    /// Bus address to write to.
    pub address: u64,
    /// What to write.
    pub data: u32,
}

/// Why a line cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterruptError {
    /// There is no such line.
    NoSuchLine,
    /// Every vector or port is taken.
    Exhausted,
    /// The platform has no such thing as messages from devices.
    Unsupported,
}

/// Interrupt lines. All are masked at first. After discovery.
#[crate::part(interrupts)]
pub trait Interrupts {
    /// Prepares `line` to be delivered to `cpu`, masked; again to move it. Variation of: `irq_startup` and
    /// `irq_set_affinity`.
    fn route(line: IrqLine, cpu: CpuId) -> Result<(), InterruptError>;

    /// Stops delivery of `line`; one that came meanwhile is kept if the line is a level. Variation of: `irq_mask`.
    fn mask(line: IrqLine);

    /// Allows delivery of `line`. Variation of: `irq_unmask`.
    fn unmask(line: IrqLine);

    /// The kernel has handled `line`'s interrupt on this CPU: the next may come. Variation of: `irq_eoi`. Context:
    /// interrupts disabled, on the CPU that received it.
    fn end(line: IrqLine);

    /// A new line that a device raises by a message, delivered to `cpu`, masked. Variation of: `pci_alloc_irq_vectors`.
    fn allocate_message(cpu: CpuId) -> Result<(IrqLine, MessageAddress), InterruptError>;

    /// Gives back a line of [`Interrupts::allocate_message`]; its device no longer raises it.
    fn free_message(line: IrqLine);
}
