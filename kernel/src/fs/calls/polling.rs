//! Waiting for descriptors: `poll(2)`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::mem::MaybeUninit;

use platform::Nanoseconds;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::fs::poll::{PollEvents, wait_for};
use crate::fs::table::{Fd, file_limit};
use crate::mm::UserAddr;
use crate::process::current;
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
        0 => Some(Nanoseconds::ZERO),
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

/// One entry, with its file.
struct Polled {
    asked: PollFd,
    /// None if there is no such descriptor.
    file: Option<Arc<OpenFile>>,
    events: Cell<PollEvents>,
}

impl Polled {
    fn look(&self) -> PollEvents {
        let events = match &self.file {
            Some(file) => {
                let wanted = PollEvents::from_bits_retain(self.asked.events.into());
                file.poll() & (wanted | PollEvents::ALWAYS | PollEvents::NVAL)
            }
            None if self.asked.fd < 0 => PollEvents::empty(),
            None => PollEvents::NVAL,
        };
        self.events.set(events);
        events
    }
}

fn poll_until(at: UserAddr, count: u32, deadline: Option<Nanoseconds>) -> SysResult {
    if u64::from(count) > file_limit() {
        return Err(Errno::EINVAL);
    }
    let polled = read_entries(at, count as usize)?;
    let look = || {
        let ready = polled.iter().filter(|entry| !entry.look().is_empty()).count() as u64;
        (ready > 0).then_some(ready)
    };
    let files = polled.iter().filter_map(|entry| entry.file.as_ref());
    let ready = wait_for(files, deadline, look)?.unwrap_or(0);
    write_back(at, &polled)?;
    Ok(ready)
}

fn read_entries(at: UserAddr, count: usize) -> KResult<Vec<Polled>> {
    /// Entries read at a time: what fits well on the stack.
    const PIECE: usize = 16;
    at.check(count * size_of::<PollFd>())?;
    let mut polled = Vec::new();
    polled.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    let process = &current().process;
    while polled.len() < count {
        let mut piece = [MaybeUninit::uninit(); PIECE * size_of::<PollFd>()];
        let piece = &mut piece[..PIECE.min(count - polled.len()) * size_of::<PollFd>()];
        let piece = at.offset((polled.len() * size_of::<PollFd>()) as u64).read_uninit(piece)?;
        let files = process.files.lock();
        let table = files.lock();
        for asked in piece.chunks_exact(size_of::<PollFd>()) {
            let Ok(asked) = PollFd::read_from_bytes(asked) else { break };
            // There is room, and no descriptor below 0.
            polled.push(Polled { asked, file: table.get(Fd(asked.fd)), events: Cell::default() });
        }
    }
    Ok(polled)
}

/// Nothing else of an entry is touched, for another thread may write there.
fn write_back(at: UserAddr, polled: &[Polled]) -> KResult<()> {
    for (index, entry) in polled.iter().enumerate() {
        let offset = index * size_of::<PollFd>() + core::mem::offset_of!(PollFd, revents);
        at.offset(offset as u64).write(&(entry.events.get().bits() as u16))?;
    }
    Ok(())
}
