//! System calls: Linux's numbers, one table.

mod args;
pub mod numbers;

pub use args::Call;

use core::sync::atomic::{AtomicU32, Ordering};

use crate::errno::{Errno, KResult};
use crate::mm::{frames, shortage};

/// What a system call returns in RAX when it succeeds.
pub type SysResult = KResult<u64>;

/// A system call's function.
pub type Handler = fn(&mut Call<'_>) -> SysResult;

/// Numbers above this are not in the table.
const TABLE_SIZE: usize = 512;

/// Every subsystem's system calls.
const GROUPS: &[&[(usize, Handler)]] = &[
    crate::exec::SYSTEM_CALLS,
    crate::fs::SYSTEM_CALLS,
    crate::fs::event::SYSTEM_CALLS,
    crate::mm::SYSTEM_CALLS,
    crate::net::SYSTEM_CALLS,
    crate::process::group::SYSTEM_CALLS,
    crate::process::syscalls::SYSTEM_CALLS,
    crate::process::system::SYSTEM_CALLS,
    crate::signal::SYSTEM_CALLS,
    crate::time::SYSTEM_CALLS,
];

static TABLE: [Handler; TABLE_SIZE] = {
    let mut table: [Handler; TABLE_SIZE] = [not_implemented; TABLE_SIZE];
    let mut group = 0;
    while group < GROUPS.len() {
        let mut entry = 0;
        while entry < GROUPS[group].len() {
            let (number, handler) = GROUPS[group][entry];
            table[number] = handler;
            entry += 1;
        }
        group += 1;
    }
    table
};

/// Runs the system call that `call` asks for.
#[inline]
pub fn dispatch(call: &mut Call<'_>) -> SysResult {
    if frames::may_be_short() { dispatch_short(call) } else { run(call) }
}

/// As [`dispatch`], when memory may be short.
#[cold]
#[inline(never)]
fn dispatch_short(call: &mut Call<'_>) -> SysResult {
    shortage::admit(call.number())?;
    run(call)
}

#[inline(always)]
fn run(call: &mut Call<'_>) -> SysResult {
    match TABLE.get(call.number()) {
        Some(handler) => handler(call),
        None => not_implemented(call),
    }
}

/// Unknown calls that are still logged, so that a program that asks for ever does not fill the console.
static UNKNOWN_TO_LOG: AtomicU32 = AtomicU32::new(20);

#[cold]
#[inline(never)]
fn not_implemented(call: &mut Call<'_>) -> SysResult {
    let left = UNKNOWN_TO_LOG.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if left.is_ok() {
        let task = crate::process::current();
        log::debug!(
            "{}[{}]: system call {} is not implemented",
            task.name(),
            task.process.pid.0,
            call.number()
        );
    }
    Err(Errno::ENOSYS)
}
