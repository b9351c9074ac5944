//! The devices of major number 1: null, zero, full, random, urandom, kmsg.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::device::{CharDevice, DeviceMapping, DeviceNumber, FileOps, Seek, register_char};
use super::file::OpenFile;
use super::io::{IoDst, IoSrc};
use super::kernel_log::LogReader;
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::current;
use crate::sync::Once;
use crate::syscall::SysResult;

/// Makes them known.
pub fn register() {
    register_char(1, 0..16, Arc::new(Driver));
}

struct Driver;

struct Opened {
    null: Arc<Null>,
    zero: Arc<Zero>,
    full: Arc<Full>,
    random: Arc<Random>,
}

impl CharDevice for Driver {
    fn open(&self, number: DeviceNumber, _flags: u32) -> KResult<Arc<dyn FileOps>> {
        // None of them keeps anything, so one of each serves all.
        static OPENED: Once<Opened> = Once::new();
        let opened = OPENED.call_once(|| Opened {
            null: Arc::new(Null),
            zero: Arc::new(Zero),
            full: Arc::new(Full),
            random: Arc::new(Random),
        });
        Ok(match number.minor {
            3 => opened.null.clone(),
            5 => opened.zero.clone(),
            7 => opened.full.clone(),
            8 | 9 => opened.random.clone(),
            11 => Arc::new(LogReader::new()),
            _ => return Err(Errno::ENXIO),
        })
    }
}

/// Takes all and is empty.
struct Null;

impl FileOps for Null {
    fn read(&self, _file: &OpenFile, _to: &mut IoDst<'_>) -> KResult<usize> {
        Ok(0)
    }

    fn write(&self, _file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        Ok(from.remaining())
    }

    fn seek(&self) -> Seek {
        Seek::Ignored
    }
}

/// Takes all and gives zeros.
struct Zero;

impl FileOps for Zero {
    fn read(&self, _file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        to.write_zeros(to.remaining())
    }

    fn write(&self, _file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        Ok(from.remaining())
    }

    fn seek(&self) -> Seek {
        Seek::Ignored
    }

    fn mapping(&self) -> DeviceMapping {
        DeviceMapping::Zeros
    }
}

/// Gives zeros and has no room.
struct Full;

impl FileOps for Full {
    fn read(&self, _file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        to.write_zeros(to.remaining())
    }

    fn write(&self, _file: &OpenFile, _from: &mut IoSrc<'_>) -> KResult<usize> {
        Err(Errno::ENOSPC)
    }

    fn seek(&self) -> Seek {
        Seek::Ignored
    }
}

/// Gives random bytes. What is written to it changes nothing: the generator does not need it.
struct Random;

/// `RNDGETENTCNT`.
const GET_ENTROPY_COUNT: u32 = 0x8004_5200;

impl FileOps for Random {
    fn read(&self, _file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        let mut chunk = [0; 256];
        let before = to.moved();
        while to.remaining() > 0 {
            let part = to.remaining().min(chunk.len());
            crate::random::fill(&mut chunk[..part]);
            if to.write(&chunk[..part])? < part || current().has_signal_work() {
                break;
            }
        }
        Ok(to.moved() - before)
    }

    fn write(&self, _file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        Ok(from.remaining())
    }

    fn ioctl(&self, _file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        match request {
            GET_ENTROPY_COUNT => argument.write(&256i32).map(|()| 0),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn seek(&self) -> Seek {
        Seek::Ignored
    }
}

/// Copies what `from` has, at most `limit` bytes: for the small files whose writes are commands.
///
/// # Errors
/// EINVAL for more than `limit`, EFAULT.
pub fn take_all(from: &mut IoSrc<'_>, limit: usize) -> KResult<Vec<u8>> {
    if from.remaining() > limit {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(from.remaining()).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(from.remaining(), 0);
    let moved = from.read(&mut bytes)?;
    bytes.truncate(moved);
    Ok(bytes)
}
