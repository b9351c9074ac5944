//! The machine: memory in all, the log, power.

use platform::{Nanoseconds, PAGE_SIZE};
use zerocopy::{Immutable, IntoBytes};

use crate::boot::end;
use crate::errno::{Errno, KResult};
use crate::mm::{UserAddr, frames, shortage};
use crate::percpu::cpu_id;
use crate::process::{current, tree};
use crate::sync::SpinLock;
use crate::syscall::{Call, SysResult};
use crate::{logger, time};

fn must_be_privileged() -> KResult<()> {
    if current().process.credentials().is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// `struct sysinfo` (include/uapi/linux/sysinfo.h).
#[derive(Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
struct Sysinfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    padding: [u16; 3],
    total_high: u64,
    free_high: u64,
    unit: u32,
    end: u32,
}

const _: () = assert!(size_of::<Sysinfo>() == 112);

/// `sysinfo(2)`. The load is not measured, and zero.
pub(super) fn sysinfo(call: &mut Call<'_>) -> SysResult {
    // What is kept for speed alone is as good as free.
    shortage::reclaim();
    let (total, free) = frames::totals();
    let now = time::now();
    call.user(0).write(&Sysinfo {
        uptime: (now.seconds() + u64::from(now.subsec() > 0)) as i64,
        total_ram: total * PAGE_SIZE,
        free_ram: free * PAGE_SIZE,
        processes: tree::lock().task_count().min(u16::MAX.into()) as u16,
        unit: 1,
        ..Sysinfo::default()
    })?;
    Ok(0)
}

/// `getcpu(2)`: there is one memory node.
pub(super) fn getcpu(call: &mut Call<'_>) -> SysResult {
    if !call.user(0).is_null() {
        call.user(0).write(&cpu_id().0)?;
    }
    if !call.user(1).is_null() {
        call.user(1).write(&0u32)?;
    }
    Ok(0)
}

/// How much of the log programs have read or cleared, in bytes ever written.
struct LogPositions {
    read: u64,
    cleared: u64,
    /// Console level before it was turned off.
    console_level: Option<u64>,
}

static LOG: SpinLock<LogPositions> = SpinLock::new(LogPositions { read: 0, cleared: 0, console_level: None });

/// How often a reader of an empty log looks again: the log is written in contexts that can wake nobody.
const LOG_LOOK: Nanoseconds = Nanoseconds::SECOND;

/// `syslog(2)`
pub(super) fn syslog(call: &mut Call<'_>) -> SysResult {
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CLEAR: i32 = 5;
    const CONSOLE_OFF: i32 = 6;
    const CONSOLE_ON: i32 = 7;
    const CONSOLE_LEVEL: i32 = 8;
    const UNREAD: i32 = 9;
    const SIZE: i32 = 10;
    const QUIET: u64 = 1;

    let (what, to, length) = (call.int(0), call.user(1), call.int(2));
    if !matches!(what, READ_ALL | SIZE) {
        must_be_privileged()?;
    }
    if let READ | READ_ALL | READ_CLEAR = what
        && (to.is_null() || length < 0)
    {
        return Err(Errno::EINVAL);
    }
    let wanted = length.max(0) as usize;
    match what {
        0 | 1 => Ok(0),
        READ if wanted == 0 => Ok(0),
        READ => loop {
            let from = LOG.lock().read;
            let (copied, end) = copy_log(from, logger::history_end(), to, wanted)?;
            LOG.lock().read = end;
            if copied > 0 {
                return Ok(copied);
            }
            time::sleep_until(time::now().saturating_add(LOG_LOOK))?;
        },
        READ_ALL | READ_CLEAR => {
            // The newest that has room.
            let end = logger::history_end();
            let from = LOG.lock().cleared.max(end.saturating_sub(wanted as u64));
            let (copied, _) = copy_log(from, end, to, wanted)?;
            if what == READ_CLEAR {
                LOG.lock().cleared = end;
            }
            Ok(copied)
        }
        CLEAR => {
            LOG.lock().cleared = logger::history_end();
            Ok(0)
        }
        CONSOLE_OFF => {
            LOG.lock().console_level.get_or_insert(logger::console_level());
            logger::set_console_level(QUIET);
            Ok(0)
        }
        CONSOLE_ON => {
            let level = LOG.lock().console_level.take();
            if let Some(level) = level {
                logger::set_console_level(level);
            }
            Ok(0)
        }
        CONSOLE_LEVEL => {
            if !(1..=8).contains(&length) {
                return Err(Errno::EINVAL);
            }
            LOG.lock().console_level = None;
            logger::set_console_level(length as u64);
            Ok(0)
        }
        UNREAD => Ok(logger::history_end().saturating_sub(LOG.lock().read).min(logger::KEPT as u64)),
        SIZE => Ok(logger::KEPT as u64),
        _ => Err(Errno::EINVAL),
    }
}

/// Copies log text to user memory; returns how much, and the position behind it.
fn copy_log(mut from: u64, end: u64, to: UserAddr, wanted: usize) -> KResult<(u64, u64)> {
    let mut buffer = [0; 256];
    let mut copied = 0;
    while copied < wanted && from < end {
        let part = (wanted - copied).min(buffer.len());
        let (length, next) = logger::read_history(from, &mut buffer[..part]);
        if length == 0 {
            break;
        }
        to.offset(copied as u64).write_bytes(&buffer[..length])?;
        copied += length;
        from = next;
    }
    Ok((copied as u64, from))
}

/// `reboot(2)`
pub(super) fn reboot(call: &mut Call<'_>) -> SysResult {
    const MAGIC: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const RESTART: u32 = 0x0123_4567;
    const RESTART_WITH: u32 = 0xa1b2_c3d4;
    const HALT: u32 = 0xcdef_0123;
    const POWER_OFF: u32 = 0x4321_fedc;
    const CAD_ON: u32 = 0x89ab_cdef;
    const CAD_OFF: u32 = 0;

    must_be_privileged()?;
    if call.uint(0) != MAGIC || !MAGIC2.contains(&call.uint(1)) {
        return Err(Errno::EINVAL);
    }
    match call.uint(2) {
        RESTART | RESTART_WITH => end::restart(),
        // A guest that is halted but not off would only keep its host waiting.
        HALT | POWER_OFF => end::power_off(),
        // There is no such key.
        CAD_ON | CAD_OFF => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
