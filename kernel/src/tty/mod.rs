//! Terminals: the console, pseudo-terminals, and job control.
//!
//! [`discipline`] is what typing and printing mean, and knows nothing else; a [`Tty`] adds waiting, an owner and a far
//! end to it; the device files stand on that.

mod console;
mod discipline;
pub mod hvc;
mod input;
mod ioctl;
mod job;
mod output;
mod pty;
mod slave;
mod terminal;
mod termios;

#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod tests;

pub use job::{leave, on_process_exit};
pub use terminal::Tty;

use alloc::sync::Arc;

use crate::errno::{Errno, KResult};
use crate::fs::device::{CharDevice, DeviceNumber, FileOps, register_char};
use crate::process::{Pid, Process, current};

/// Makes the terminals' devices known and lets console input in. At boot, once tasks can be made.
pub fn init() {
    register_char(5, 0..1, Arc::new(Controlling));
    pty::register();
    hvc::register();
    if let Err(error) = console::init() {
        log::error!("the console takes no input: {error}");
    }
}

/// `/dev/tty`: the controlling terminal of whoever opens it.
struct Controlling;

impl CharDevice for Controlling {
    fn open(&self, _number: DeviceNumber, _flags: u32) -> KResult<Arc<dyn FileOps>> {
        let tty = current().process.terminal.lock().clone().ok_or(Errno::ENXIO)?;
        Ok(Arc::new(slave::SlaveFile::open(&tty, false)?))
    }
}

/// What `/proc/PID/stat` tells of a process's controlling terminal: its device, and its foreground group.
pub fn of_process(process: &Process) -> Option<(DeviceNumber, Pid)> {
    let tty = process.terminal.lock().clone()?;
    Some((tty.number, tty.foreground()))
}
