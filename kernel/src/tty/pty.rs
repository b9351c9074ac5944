//! Pseudo-terminals: a terminal whose far end is a program.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::ioctl::{self, Side};
use super::slave::SlaveFile;
use super::terminal::{Far, Tty};
use super::termios::Termios;
use crate::errno::{Errno, KResult};
use crate::fs::device::{CharDevice, DeviceNumber, FileOps};
use crate::fs::file::OpenFile;
use crate::fs::flags::O_NOCTTY;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::fs::{self, devfs};
use crate::mm::UserAddr;
use crate::process::current;
use crate::sync::{SpinLock, WaitQueue};
use crate::syscall::SysResult;
use crate::util::ring::ByteRing;
use litemap::LiteMap;

/// Major number of slaves.
pub(super) const SLAVE_MAJOR: u32 = 136;
/// Bytes of output kept for the master.
const OUTPUT_CAPACITY: usize = 8192;
/// Most pseudo-terminals at a time.
const MOST: u32 = 4096;
/// Bytes moved in one step.
const STEP: usize = 512;

/// The far end of a pseudo-terminal.
pub(super) struct Pty {
    output: SpinLock<ByteRing>,
    /// Woken when the master may have something to read, or room to write.
    pub master_events: WaitQueue,
    master_open: AtomicBool,
    /// The slave cannot be opened yet (`TIOCSPTLCK`).
    pub locked: AtomicBool,
    slaves: AtomicU32,
    slave_was_open: AtomicBool,
}

impl Pty {
    /// With its master open and its slave locked.
    pub fn new() -> KResult<Self> {
        let output = ByteRing::with_capacity(OUTPUT_CAPACITY).map_err(|_| Errno::ENOMEM)?;
        Ok(Self {
            output: SpinLock::new(output),
            master_events: WaitQueue::new(),
            master_open: AtomicBool::new(true),
            locked: AtomicBool::new(true),
            slaves: AtomicU32::new(0),
            slave_was_open: AtomicBool::new(false),
        })
    }

    /// Bytes of output there is room for.
    pub fn room(&self) -> usize {
        self.output.lock().free()
    }

    /// Keeps output for the master; the caller has the terminal's line locked and has seen to the room.
    pub fn emit(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.output.lock().write(bytes);
        self.master_events.wake_all();
    }

    /// Drops output the master has not read.
    pub fn drop_output(&self) {
        let mut output = self.output.lock();
        let waiting = output.len();
        output.consume(waiting);
    }

    /// Bytes the master could read.
    pub fn waiting(&self) -> usize {
        self.output.lock().len()
    }

    /// Whether every slave that was open has been closed.
    fn is_abandoned(&self) -> bool {
        self.slave_was_open.load(Ordering::Acquire) && self.slaves.load(Ordering::Acquire) == 0
    }

    /// One more file for the slave.
    pub fn slave_opened(&self) {
        self.slaves.fetch_add(1, Ordering::AcqRel);
        self.slave_was_open.store(true, Ordering::Release);
    }

    /// One file for the slave less.
    pub fn slave_closed(&self) {
        if self.slaves.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.master_events.wake_all();
        }
    }
}

static PTYS: SpinLock<LiteMap<u32, Arc<Tty>>> = SpinLock::new(LiteMap::new());

/// `/dev/ptmx`.
pub(super) struct Multiplexer;

impl CharDevice for Multiplexer {
    fn open(&self, _number: DeviceNumber, _flags: u32) -> KResult<Arc<dyn FileOps>> {
        let pty = Pty::new()?;
        let tty = {
            let mut ptys = PTYS.lock();
            let index = (0..MOST).find(|index| !ptys.contains_key(index)).ok_or(Errno::ENOSPC)?;
            let number = DeviceNumber::new(SLAVE_MAJOR, index);
            let tty = Arc::new(Tty::new(number, Far::Pty(pty), Termios::initial()));
            ptys.insert(index, tty.clone());
            tty
        };
        let credentials = current().process.credentials();
        devfs::add_pty(tty.number.minor, credentials.fsuid, TTY_GROUP, SLAVE_MODE);
        Ok(Arc::new(MasterFile(tty)))
    }
}

/// Group of slaves in Linux distributions: `tty`.
const TTY_GROUP: crate::process::credentials::Gid = crate::process::credentials::Gid(5);
/// Permissions of slaves.
const SLAVE_MODE: u32 = 0o620;

/// Slaves.
pub(super) struct Slaves;

impl CharDevice for Slaves {
    fn open(&self, number: DeviceNumber, flags: u32) -> KResult<Arc<dyn FileOps>> {
        let tty = PTYS.lock().get(&number.minor).cloned().ok_or(Errno::EIO)?;
        let Far::Pty(pty) = &tty.far else { return Err(Errno::EIO) };
        if pty.locked.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        let file = SlaveFile::open(&tty, false)?;
        // Asked afterwards: a master that is closed from now on hangs up this file too.
        if !pty.master_open.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        if flags & O_NOCTTY == 0 {
            tty.offer();
        }
        Ok(Arc::new(file))
    }
}

/// The master's side of a pseudo-terminal.
pub(super) struct MasterFile(pub(super) Arc<Tty>);

impl MasterFile {
    fn pty(&self) -> KResult<&Pty> {
        match &self.0.far {
            Far::Pty(pty) => Ok(pty),
            Far::Console | Far::Device => Err(Errno::EIO),
        }
    }

    /// Reads what the terminal's programs have written.
    pub(super) fn read_from(&self, nonblocking: bool, to: &mut IoDst<'_>) -> KResult<usize> {
        let pty = self.pty()?;
        let mut bytes = [0; STEP];
        while to.remaining() > 0 {
            let length = to.remaining().min(STEP);
            let mut look = || {
                // Asked before: what was written before the end is not missed.
                let ended = pty.is_abandoned();
                let count = pty.output.lock().read(&mut bytes[..length]);
                match count {
                    0 if ended => Some(Err(Errno::EIO)),
                    0 => None,
                    count => Some(Ok(count)),
                }
            };
            let count = if to.moved() > 0 {
                match look() {
                    Some(Ok(count)) => count,
                    _ => break,
                }
            } else if nonblocking {
                look().unwrap_or(Err(Errno::EAGAIN))?
            } else {
                pty.master_events.wait(look)??
            };
            // There is room again, for echo that waited and for writers.
            self.0.send_echo();
            self.0.writers.wake_all();
            if to.write(&bytes[..count])? < count {
                break;
            }
        }
        Ok(to.moved())
    }

    /// Types into the terminal.
    pub(super) fn write_to(&self, nonblocking: bool, from: &mut IoSrc<'_>) -> KResult<usize> {
        let mut bytes = [0; STEP];
        while from.remaining() > 0 {
            let count = from.remaining().min(STEP);
            let count = from.read(&mut bytes[..count])?;
            if count == 0 {
                break;
            }
            let mut done = 0;
            while done < count {
                done += self.0.receive(&bytes[done..count]);
                if done < count
                    && let Err(error) = self.wait_for_input_room(nonblocking)
                {
                    // What was read and not passed on does not count.
                    let done = from.moved() - (count - done);
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
            }
        }
        Ok(from.moved())
    }

    fn wait_for_input_room(&self, nonblocking: bool) -> KResult<()> {
        let look = || (self.0.line.lock().room() > 0).then_some(());
        if nonblocking { look().ok_or(Errno::EAGAIN) } else { Ok(self.0.input_room.wait(look)?) }
    }
}

impl FileOps for MasterFile {
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        self.read_from(file.is_nonblocking(), to)
    }

    fn write(&self, file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        self.write_to(file.is_nonblocking(), from)
    }

    fn poll(&self) -> PollEvents {
        let Ok(pty) = self.pty() else { return PollEvents::ERR };
        let mut events = PollEvents::empty();
        // In this order, so that nobody hears of the end and not of what came before.
        if pty.is_abandoned() {
            events |= PollEvents::HUP;
        }
        if pty.waiting() > 0 {
            events |= PollEvents::READABLE;
        }
        if self.0.line.lock().room() > 0 {
            events |= PollEvents::WRITABLE;
        }
        events
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        if let Ok(pty) = self.pty() {
            visit(&pty.master_events);
        }
        visit(&self.0.input_room);
    }

    fn ioctl(&self, _file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        ioctl::ioctl(&self.0, Side::Master, request, argument)
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        // Before its number may be another's.
        devfs::remove_pty(self.0.number.minor);
        let removed = PTYS.lock().remove(&self.0.number.minor);
        if let Ok(pty) = self.pty() {
            pty.master_open.store(false, Ordering::Release);
        }
        self.0.hang_up();
        drop(removed);
    }
}

/// Makes the devices known.
pub(super) fn register() {
    fs::device::register_char(5, 2..3, Arc::new(Multiplexer));
    fs::device::register_char(SLAVE_MAJOR, 0..MOST, Arc::new(Slaves));
}
