//! The machine below the host: one processor, physical memory, COM1, the APICs, and the switch to guests.

mod apic;
mod cpu;
mod entry;
mod frames;
mod options;
mod paging;
mod pci;
mod power;
mod run;
mod start;
mod switch;
mod time;
mod uart;
mod virtio;

use core::fmt::Write;

/// The host has found itself to be wrong.
pub fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = write!(uart::Console, "lguest-host: {info}\r\n");
    power::Channel::line(format_args!("panic"));
    power::end(power::PANIC)
}
