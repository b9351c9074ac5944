//! `membarrier(2)`: a memory barrier on every CPU that runs the caller's program.

use core::sync::atomic::{Ordering, fence};

use crate::errno::Errno;
use crate::percpu;
use crate::process::current;
use crate::syscall::{Call, SysResult};

const QUERY: u32 = 0;
const GLOBAL: u32 = 1 << 0;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
const SYNC_CORE: u32 = 1 << 5;
const REGISTER_SYNC_CORE: u32 = 1 << 6;

const SUPPORTED: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | SYNC_CORE
    | REGISTER_SYNC_CORE;

/// Interrupts every other CPU: that it takes an interrupt and returns from it is barrier enough, for its pipeline too.
fn everywhere() {
    fence(Ordering::SeqCst);
    let others = percpu::online().without(percpu::cpu_id());
    if !others.is_empty() {
        percpu::calls::run_on(others, |_| fence(Ordering::SeqCst), 0);
    }
}

/// `membarrier(2)`
pub(super) fn membarrier(call: &mut Call<'_>) -> SysResult {
    let (command, flags) = (call.uint(0), call.uint(1));
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let registered = &current().process.attributes.barriers;
    let is_registered = |bit| registered.load(Ordering::Relaxed) & bit != 0;
    match command {
        QUERY => return Ok(SUPPORTED.into()),
        GLOBAL | GLOBAL_EXPEDITED => everywhere(),
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED | REGISTER_SYNC_CORE => {
            registered.fetch_or(command, Ordering::Relaxed);
        }
        PRIVATE_EXPEDITED if is_registered(REGISTER_PRIVATE_EXPEDITED) => everywhere(),
        SYNC_CORE if is_registered(REGISTER_SYNC_CORE) => everywhere(),
        PRIVATE_EXPEDITED | SYNC_CORE => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
