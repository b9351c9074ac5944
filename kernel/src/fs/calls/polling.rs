//! Waiting for descriptors: `poll(2)`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::Nanoseconds;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::fs::poll::{PollEvents, wait_for};
use crate::fs::table::{Fd, file_limit, open_file};
use crate::mm::UserAddr;
use crate::signal;
use crate::syscall::{Call, SysResult};
use crate::time::{self, abi::Timespec};

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

pub fn poll(call: &mut Call<'_>) -> SysResult {
    let deadline = match call.int(2) {
        timeout if timeout < 0 => None,
        timeout => Some(time::now().saturating_add(Nanoseconds::from_millis(timeout as u64))),
    };
    poll_restarting(call.user(0), call.uint(1), deadline)
}

/// Polls until the deadline; a signal that runs no handler does not end it.
fn poll_restarting(at: UserAddr, count: u32, deadline: Option<Nanoseconds>) -> SysResult {
    match poll_until(at, count, deadline) {
        Err(Errno::ERESTARTSYS) => {
            Err(signal::set_restart(Box::new(move || poll_restarting(at, count, deadline))))
        }
        other => other,
    }
}

pub fn ppoll(call: &mut Call<'_>) -> SysResult {
    let timeout = call.user(2);
    let deadline = time::deadline_after(timeout)?;
    let mask = signal::read_mask(call.user(3), call.size(4))?;
    let (at, count) = (call.user(0), call.uint(1));
    let result = signal::with_temporary_mask(mask, || {
        poll_until(at, count, deadline).map_err(no_restart_after_handler)
    });
    leave_rest(timeout, deadline);
    result
}

/// What an interrupted wait without a timeout of its own to keep says: it goes on unless a handler runs.
pub fn no_restart_after_handler(error: Errno) -> Errno {
    if error == Errno::ERESTARTSYS { Errno::ERESTARTNOHAND } else { error }
}

/// Tells the program how much of its timeout is left, as Linux does. What cannot be written is let be.
pub fn leave_rest(timeout: UserAddr, deadline: Option<Nanoseconds>) {
    if let Some(deadline) = deadline {
        let _ = timeout.write(&Timespec::from(deadline.saturating_sub(time::now())));
    }
}

fn poll_until(at: UserAddr, count: u32, deadline: Option<Nanoseconds>) -> SysResult {
    if u64::from(count) > file_limit() {
        return Err(Errno::EINVAL);
    }
    let mut entries: Vec<PollFd> = at.read_array(count as usize)?;
    let mut files: Vec<Option<Arc<OpenFile>>> = Vec::new();
    files.try_reserve_exact(entries.len()).map_err(|_| Errno::ENOMEM)?;
    files.extend(entries.iter().map(|entry| if entry.fd < 0 { None } else { open_file(Fd(entry.fd)).ok() }));
    let mut look = || {
        let mut ready = 0u64;
        for (entry, file) in entries.iter_mut().zip(&files) {
            let events = match file {
                Some(file) => {
                    let wanted = PollEvents::from_bits_retain(entry.events.into())
                        | PollEvents::ALWAYS
                        | PollEvents::NVAL;
                    file.poll() & wanted
                }
                None if entry.fd < 0 => PollEvents::empty(),
                None => PollEvents::NVAL,
            };
            entry.revents = events.bits() as u16;
            ready += u64::from(!events.is_empty());
        }
        (ready > 0).then_some(ready)
    };
    let ready = match look() {
        Some(ready) => ready,
        None => {
            let mut watched: Vec<Arc<OpenFile>> = Vec::new();
            watched.try_reserve_exact(files.len()).map_err(|_| Errno::ENOMEM)?;
            watched.extend(files.iter().flatten().cloned());
            wait_for(&watched, deadline, &mut look)?.unwrap_or(0)
        }
    };
    write_back(at, &entries)?;
    Ok(ready)
}

fn write_back(at: UserAddr, entries: &[PollFd]) -> KResult<()> {
    for (index, entry) in entries.iter().enumerate() {
        let offset = index * size_of::<PollFd>() + core::mem::offset_of!(PollFd, revents);
        at.offset(offset as u64).write(&entry.revents)?;
    }
    Ok(())
}
