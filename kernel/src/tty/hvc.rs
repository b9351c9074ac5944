//! A virtio console as a terminal: `/dev/hvc0`, and `/dev/console` if the command line says `console=hvc0`.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use super::console::pass_on;
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
/// Held while the device is started.
static STARTING: Mutex<()> = Mutex::new(());
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

/// The terminal. The first time it is wanted the device is started.
///
/// # Errors
/// ENXIO if there is no device, ENODEV if it cannot be driven, ENOMEM.
pub(super) fn tty() -> KResult<&'static Arc<Tty>> {
    if !devices::AVAILABLE {
        return Err(Errno::ENXIO);
    }
    let _turn = STARTING.lock();
    if let Some(tty) = TTY.get() {
        return Ok(tty);
    }
    let task = Task::kernel(Pid(0), kernel_process(), "hvc0", serve, 0)?;
    console::start()?;
    let tty = TTY.call_once(|| Arc::new(Tty::new(NUMBER, Far::Device, Termios::initial())));
    sched::enqueue_new(&task);
    Ok(tty)
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
                pass_on(tty, &bytes[..count]);
            }
        }
        EVENTS.wait_uninterruptible(|| CAME.swap(false, Ordering::Acquire).then_some(()));
    }
}
