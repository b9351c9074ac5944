//! The lguest interface in 64 bits, as both sides of it see it: hypercalls, the page a virtual CPU shares with the host,
//! the devices and the boot. `ABI.md`, beside this crate, has the protocol in full and every difference from the 32-bit original.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod boot;
mod data;
mod device;
mod event;
mod hypercall;
mod layout;

pub use boot::{ABI_VERSION, BOOT_MAGIC, BootInfo, MOST_COMMAND_LINE};
pub use data::{
    FREE, IRQ_ENABLED, LguestData, MOST_INTERRUPTS, PENDING, RING_ENTRIES, RingEntry, VIRQ_CONSOLE,
    VIRQ_TIMER, WallClock,
};
pub use device::{
    DeviceDescriptor, DevicePage, MOST_CONFIG, MOST_DEVICES, MOST_QUEUES, NOTIFY_QUEUE, NOTIFY_STATUS,
    VIRQ_FIRST_DEVICE, VqConfig, interrupt, status,
};
pub use event::{Event, EventFrame, FIRST_INTERRUPT_VECTOR, USER_FLAGS};
pub use hypercall::{Hypercall, MOST_TEXT, ShutdownReason, UnknownHypercall, WaitMode};
pub use layout::{BOOT_IMAGE_BASE, BOOT_IMAGE_LIMIT, KERNEL_HALF, USER_TOP};
