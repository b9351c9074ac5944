//! Device files: what a driver provides, and which driver the number of a character device leads to.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::OpenFile;
use super::io::{IoDst, IoSrc};
use super::poll::PollEvents;
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::sync::{SpinRwLock, WaitQueue};
use crate::syscall::SysResult;

/// A device number: which driver, and which of its devices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// Its device.
    pub minor: u32,
}

impl DeviceNumber {
    /// A device number.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// As `st_rdev` and `st_dev` carry it (Linux's `new_encode_dev`).
    pub const fn encode(self) -> u64 {
        ((self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)) as u64
    }

    /// From `mknod(2)`'s argument.
    pub const fn decode(device: u32) -> Self {
        Self { major: (device & 0xf_ff00) >> 8, minor: (device & 0xff) | ((device >> 12) & 0xf_ff00) }
    }
}

/// What can be done with an open file that is not kept by the file system itself: a device, a timer, a queue of
/// signals. One is made for each `open(2)`; those that share state share it behind this.
///
/// Reading and writing may sleep, unless [`OpenFile::is_nonblocking`] says that they must return EAGAIN instead.
pub trait FileOps: Send + Sync {
    /// Moves bytes to `to`; 0 means the end of the file.
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        let _ = (file, to);
        Err(Errno::EINVAL)
    }

    /// Takes bytes from `from`.
    fn write(&self, file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        let _ = (file, from);
        Err(Errno::EINVAL)
    }

    /// As [`Self::read`] at a place of the caller's choice (`pread(2)`). Files without places say ESPIPE.
    fn read_at(&self, file: &OpenFile, offset: u64, to: &mut IoDst<'_>) -> KResult<usize> {
        let _ = (file, offset, to);
        Err(Errno::ESPIPE)
    }

    /// As [`Self::write`] at a place of the caller's choice (`pwrite(2)`).
    fn write_at(&self, file: &OpenFile, offset: u64, from: &mut IoSrc<'_>) -> KResult<usize> {
        let _ = (file, offset, from);
        Err(Errno::ESPIPE)
    }

    /// What could be done now without waiting. Files that never wait are always ready.
    fn poll(&self) -> PollEvents {
        PollEvents::IN | PollEvents::RDNORM | PollEvents::OUT | PollEvents::WRNORM
    }

    /// Whoever calls is about to watch the [`Self::queues`].
    ///
    /// # Errors
    /// ENOMEM.
    fn prepare_to_watch(&self) -> KResult<()> {
        Ok(())
    }

    /// Calls `visit` for each queue that is woken when the result of [`Self::poll`] may have changed. The same queues
    /// each time.
    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        let _ = visit;
    }

    /// Calls `visit` for those of the [`Self::queues`] that are woken when one of `events` may have come. Errors and
    /// hang-ups, which are reported in any case, wake them all.
    fn queues_for(&self, events: PollEvents, visit: &mut dyn FnMut(&WaitQueue)) {
        let _ = events;
        self.queues(visit);
    }

    /// Device control (`ioctl(2)`).
    fn ioctl(&self, file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        let _ = (file, request, argument);
        Err(Errno::ENOTTY)
    }

    /// The result of `lseek(2)` where the file has no places.
    fn seek(&self) -> Seek {
        Seek::Refused
    }

    /// Where `SEEK_END` leads, past which `lseek(2)` does not go. Files without an end say none.
    fn end(&self) -> Option<u64> {
        None
    }

    /// Waits until what was written would survive (`fsync(2)`).
    ///
    /// # Errors
    /// EIO.
    fn sync(&self) -> KResult<()> {
        Ok(())
    }

    /// The last descriptor for `file` is gone.
    fn released(&self, file: &OpenFile) {
        let _ = file;
    }

    /// Memory to be mapped by `mmap(2)`.
    fn mapping(&self) -> DeviceMapping {
        DeviceMapping::None
    }

    /// Itself, for those who know what it is beside an open file (sockets, sets of files to wait for).
    fn as_any(&self) -> Option<&dyn core::any::Any> {
        None
    }

    /// The lines that `/proc/PID/fdinfo` shows beside the usual ones.
    fn describe(&self, out: &mut dyn core::fmt::Write) {
        let _ = out;
    }
}

/// How a file takes `lseek(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// ESPIPE.
    Refused,
    /// Any place will do, and none makes a difference (`/dev/null`).
    Ignored,
    /// The place is kept, and [`FileOps::read_at`] and [`FileOps::write_at`] use it.
    Kept,
}

/// What mapping a device gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceMapping {
    /// ENODEV.
    None,
    /// Memory of zeros, as without a file (`/dev/zero`).
    Zeros,
}

/// A driver of character devices.
pub trait CharDevice: Send + Sync {
    /// Opens the device. `flags` are those of `open(2)`.
    fn open(&self, number: DeviceNumber, flags: u32) -> KResult<Arc<dyn FileOps>>;
}

struct Registered {
    major: u32,
    minors: core::ops::Range<u32>,
    driver: Arc<dyn CharDevice>,
}

static DRIVERS: SpinRwLock<Vec<Registered>> = SpinRwLock::new(Vec::new());

/// Makes `driver` responsible for the minor numbers `minors` of `major`. Later registrations win.
pub fn register_char(major: u32, minors: core::ops::Range<u32>, driver: Arc<dyn CharDevice>) {
    DRIVERS.write().push(Registered { major, minors, driver });
}

/// The driver for `number`.
///
/// # Errors
/// ENXIO if there is none.
pub fn char_driver(number: DeviceNumber) -> KResult<Arc<dyn CharDevice>> {
    let drivers = DRIVERS.read();
    let found = drivers
        .iter()
        .rev()
        .find(|entry| entry.major == number.major && entry.minors.contains(&number.minor));
    found.map(|entry| entry.driver.clone()).ok_or(Errno::ENXIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_keep_twenty_bits_of_minor() {
        for (major, minor) in [(0, 0), (1, 3), (4, 64), (136, 255), (136, 256), (4095, 0xf_ffff)] {
            let number = DeviceNumber::new(major, minor);
            assert_eq!(DeviceNumber::decode(number.encode() as u32), number);
        }
        assert_eq!(DeviceNumber::new(5, 1).encode(), 0x501);
        assert_eq!(DeviceNumber::new(136, 256).encode(), 0x10_8800);
    }
}
