//! A virtio console as a terminal: `/dev/hvc0`, and `/dev/console` if the command line says `console=hvc0`.
//!
//! The device is driven while the terminal is open, for it may take the input away from the platform's console: a program
//! that prints something on it must not leave the shell on the other deaf. What comes while the terminal is not open is for
//! that console. A device that is the console itself stays driven.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::console::{self as platform_console, pass_on};
use super::slave::SlaveFile;
use super::terminal::{Far, Tty};
use super::termios::Termios;
use crate::boot::parameters;
use crate::boot::start::kernel_process;
use crate::devices::{self, console};
use crate::errno::{Errno, KResult};
use crate::fs::device::{CharDevice, DeviceNumber, FileOps, register_char};
use crate::fs::flags::O_NOCTTY;
use crate::process::{Pid, Task};
use crate::sched;
use crate::sync::{Mutex, Once, WaitQueue, interrupts};

/// `/dev/hvc0`
pub const NUMBER: DeviceNumber = DeviceNumber::new(229, 0);
/// Its name, below `/dev` and behind `console=`.
pub const NAME: &[u8] = b"hvc0";

static TTY: Once<Arc<Tty>> = Once::new();
/// Held while the device is started or stopped.
static STARTING: Mutex<()> = Mutex::new(());
/// How often the terminal is open.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Something has happened that [`serve`] has not looked at.
static CAME: AtomicBool = AtomicBool::new(false);
static EVENTS: WaitQueue = WaitQueue::new();

/// Makes the device known. At boot.
pub(super) fn register() {
    if devices::AVAILABLE {
        register_char(NUMBER.major, NUMBER.minor..NUMBER.minor + 1, Arc::new(HvcDevice));
    }
}

/// Whether `/dev/console` is this terminal.
pub(super) fn is_console() -> bool {
    let named = || {
        let value = parameters::command_line().value("console")?;
        value.split(|byte| *byte == b',').next()
    };
    console::exists() && named() == Some(NAME)
}

/// The terminal.
///
/// # Errors
/// ENXIO if there is no device, ENOMEM.
pub(super) fn tty() -> KResult<&'static Arc<Tty>> {
    if !console::exists() {
        return Err(Errno::ENXIO);
    }
    let _turn = STARTING.lock();
    if let Some(tty) = TTY.get() {
        return Ok(tty);
    }
    let task = Task::kernel(Pid(0), kernel_process(), "hvc0", serve, 0)?;
    let tty = TTY.call_once(|| Arc::new(Tty::new(NUMBER, Far::Device, Termios::initial())));
    sched::enqueue_new(&task);
    Ok(tty)
}

/// The terminal is opened: once more, or first, and then the device is started.
///
/// # Errors
/// ENODEV if it cannot be driven, ENOMEM.
pub(super) fn opened() -> KResult<()> {
    if !devices::AVAILABLE {
        return Err(Errno::ENXIO);
    }
    let _turn = STARTING.lock();
    if !console::is_driven() {
        console::start()?;
    }
    OPEN.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// What [`opened`] has counted is closed. Context: any task's, it need not be able to sleep.
pub(super) fn closed() {
    if devices::AVAILABLE && OPEN.fetch_sub(1, Ordering::Relaxed) == 1 {
        on_event();
    }
}

/// Whether the device only has the input for now.
fn is_closed() -> bool {
    OPEN.load(Ordering::Relaxed) == 0 && !is_console()
}

/// Stops the device if nobody has the terminal open, once it has printed everything.
fn stop_if_closed() {
    if is_closed() && console::has_printed_all() {
        let _turn = STARTING.lock();
        if is_closed() {
            console::stop(|input| {
                // As with any serial line, what nobody reads in time is lost.
                let _ = platform_console::tty().map(|tty| tty.receive(input));
            });
        }
    }
}

struct HvcDevice;

impl CharDevice for HvcDevice {
    fn open(&self, _number: DeviceNumber, flags: u32) -> KResult<Arc<dyn FileOps>> {
        let tty = tty()?;
        let file = SlaveFile::open(tty, false)?;
        if flags & O_NOCTTY == 0 {
            tty.offer();
        }
        Ok(Arc::new(file))
    }
}

/// Input has come, or room for output, or the device has failed. Context: the interrupt.
pub fn on_event() {
    CAME.store(true, Ordering::Release);
    EVENTS.wake_all();
    if let Some(tty) = TTY.get() {
        tty.writers.wake_all();
    }
}

extern "C" fn serve(_argument: usize) -> ! {
    interrupts::enable();
    let mut bytes = [0; 64];
    loop {
        if let Some(tty) = TTY.get() {
            tty.send_echo();
            loop {
                let count = console::read(&mut bytes);
                if count == 0 {
                    break;
                }
                let tty = if is_closed() { platform_console::tty().unwrap_or(tty) } else { tty };
                pass_on(tty, &bytes[..count]);
            }
            stop_if_closed();
        }
        EVENTS.wait_uninterruptible(|| CAME.swap(false, Ordering::Acquire).then_some(()));
    }
}
