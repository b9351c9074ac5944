//! The platform's console as a terminal: `/dev/ttyS0`, and `/dev/console` unless a device is that.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use platform::{IrqLine, Nanoseconds};
use spin::Once;

use super::hvc;
use super::slave::SlaveFile;
use super::terminal::{Far, Tty};
use super::termios::Termios;
use crate::errno::{Errno, KResult};
use crate::fs::device::{CharDevice, DeviceNumber, FileOps, register_char};
use crate::fs::flags::O_NOCTTY;
use crate::hook;
use crate::process::{Pid, Task, current};
use crate::sync::interrupts;
use crate::sync::{IrqLock, WaitQueue};
use crate::{irq, logger, sched, time};

/// `/dev/ttyS0`
const SERIAL: DeviceNumber = DeviceNumber::new(4, 64);
/// Minor number of `/dev/console`; its major is 5.
const CONSOLE_MINOR: u32 = 1;
/// Bytes of output passed to the platform at a time, with interrupts disabled.
const CHUNK: usize = 128;
/// Bytes of input kept until the line discipline has room.
const INPUT_CAPACITY: usize = 4096;
/// How often input is looked for where nothing says that it has come.
const POLL_INTERVAL: Nanoseconds = Nanoseconds::from_millis(50);

static CONSOLE: Once<Arc<Tty>> = Once::new();
static INPUT: IrqLock<VecDeque<u8>> = IrqLock::new(VecDeque::new());
static INPUT_CAME: WaitQueue = WaitQueue::new();

/// The console.
pub(super) fn tty() -> KResult<&'static Arc<Tty>> {
    CONSOLE.get().ok_or(Errno::ENXIO)
}

/// Writes processed output.
pub(super) fn write(bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK) {
        logger::write_console_raw(chunk);
    }
}

struct Device;

impl CharDevice for Device {
    fn open(&self, number: DeviceNumber, flags: u32) -> KResult<Arc<dyn FileOps>> {
        let as_console = number != SERIAL;
        let tty = if as_console && hvc::is_console() { hvc::tty()? } else { tty()? };
        let file = SlaveFile::open(tty, as_console)?;
        if !as_console && flags & O_NOCTTY == 0 {
            tty.offer();
        }
        Ok(Arc::new(file))
    }
}

/// Makes the devices known and lets input in. At boot, after discovery, by a task of the kernel's own.
pub(super) fn init() -> KResult<()> {
    CONSOLE.call_once(|| Arc::new(Tty::new(SERIAL, Far::Console, Termios::serial())));
    let device = Arc::new(Device);
    register_char(SERIAL.major, SERIAL.minor..SERIAL.minor + 1, device.clone());
    register_char(5, CONSOLE_MINOR..CONSOLE_MINOR + 1, device);
    INPUT.lock().try_reserve(INPUT_CAPACITY).map_err(|_| Errno::ENOMEM)?;

    let line = hook::console::input_line();
    if let Some(line) = line {
        irq::register(line, on_interrupt)?;
    }
    let entry = if line.is_some() { serve_interrupts } else { serve_by_polling };
    // It has no number: nobody looks for it, and process 1 is to be the first that has one.
    let task = Task::kernel(Pid(0), current().process.clone(), "console", entry, 0)?;
    sched::enqueue_new(&task);
    Ok(())
}

/// Takes what has come from the platform. Returns whether that was anything.
fn collect() -> bool {
    let mut came = false;
    let mut buffer = [0; 64];
    // Held throughout, since the platform wants its calls one at a time.
    let mut input = INPUT.lock();
    loop {
        let count = hook::console::read(&mut buffer);
        if count == 0 {
            return came;
        }
        came = true;
        // As with any serial line, what nobody reads in time is lost.
        let room = INPUT_CAPACITY - input.len();
        input.extend(&buffer[..count.min(room)]);
    }
}

/// The console's line was raised. Context: the interrupt.
fn on_interrupt(_line: IrqLine) {
    if collect() {
        INPUT_CAME.wake_all();
    }
}

extern "C" fn serve_interrupts(_argument: usize) -> ! {
    interrupts::enable();
    // What came before the line was enabled does not raise it again.
    collect();
    loop {
        INPUT_CAME.wait_uninterruptible(|| (!INPUT.lock().is_empty()).then_some(()));
        empty();
    }
}

extern "C" fn serve_by_polling(_argument: usize) -> ! {
    interrupts::enable();
    loop {
        let wake = time::now().saturating_add(POLL_INTERVAL);
        // Nothing interrupts a task of the kernel's own.
        let _ = INPUT_CAME.wait_until(Some(wake), || None::<()>);
        if collect() {
            empty();
        }
    }
}

/// Passes all that has come to the line discipline, waiting until it has room.
fn empty() {
    let Ok(tty) = tty() else { return };
    loop {
        tty.input_room.wait_uninterruptible(|| (tty.line.lock().room() > 0).then_some(()));
        let mut bytes = [0; 64];
        let count = {
            let mut input = INPUT.lock();
            let count = input.len().min(bytes.len());
            for (slot, byte) in bytes.iter_mut().zip(input.drain(..count)) {
                *slot = byte;
            }
            count
        };
        if count == 0 {
            return;
        }
        pass_on(tty, &bytes[..count]);
    }
}

/// Passes input to a line discipline, waiting until it has room.
pub(super) fn pass_on(tty: &Tty, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[tty.receive(rest)..];
        if !rest.is_empty() {
            tty.input_room.wait_uninterruptible(|| (tty.line.lock().room() > 0).then_some(()));
        }
    }
}
