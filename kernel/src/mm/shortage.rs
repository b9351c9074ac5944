//! What is done when memory runs short.
//!
//! Programs get frames until only the kernel's reserve is left ([`frames::is_short`]). Then what is kept for speed alone is
//! given back; system calls that would make something new say ENOMEM; and a program that touches memory it was promised
//! costs the largest program its life. So does any system call but those that end or give back, once half the reserve is
//! used up too: what calls need in passing, each a little, must not use up the rest.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::Nanoseconds;

use super::heap::HEAP;
use super::stack::trim_stacks_to;
use super::{AddressSpace, frames};
use crate::errno::{Errno, KResult};
use crate::process::{Pid, Process, current, futex, tree};
use crate::signal::{self, SIGKILL, SigInfo};
use crate::sync::WaitQueue;
use crate::syscall::numbers as nr;
use crate::{sched, time};

/// How long the memory of a killed program is waited for at a time.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(250);
/// How often it is waited in vain. The victim may want a lock that the waiting task holds, so this ends.
const ATTEMPTS: usize = 8;
/// How long a task tries that has a signal to handle, which keeps it from sleeping.
const LONGEST: Nanoseconds = Nanoseconds::SECOND;

/// Woken when a program's memory has been let go.
static LET_GO: WaitQueue = WaitQueue::new();
/// How often that was.
static TIMES_LET_GO: AtomicU64 = AtomicU64::new(0);

/// Gives back what the kernel keeps for speed alone: unused stacks and queues, empty slabs. Context: a task, interrupts enabled, no
/// lock held that is not a sleeping one.
pub fn reclaim() {
    trim_stacks_to(0);
    futex::shrink();
    time::shrink_timers();
    HEAP.shrink();
}

/// System calls that make something that stays after them: the reserve is not for these.
const MAKING: &[usize] = &[
    nr::ACCEPT,
    nr::ACCEPT4,
    nr::BIND,
    nr::CLONE,
    nr::CLONE3,
    nr::CREAT,
    nr::DUP,
    nr::DUP2,
    nr::DUP3,
    nr::EPOLL_CREATE,
    nr::EPOLL_CREATE1,
    nr::EPOLL_CTL,
    nr::EVENTFD,
    nr::EVENTFD2,
    nr::EXECVE,
    nr::EXECVEAT,
    nr::FORK,
    nr::LINK,
    nr::LINKAT,
    nr::MEMFD_CREATE,
    nr::MKDIR,
    nr::MKDIRAT,
    nr::MKNOD,
    nr::MKNODAT,
    nr::MMAP,
    nr::MOUNT,
    nr::MPROTECT,
    nr::MREMAP,
    nr::OPEN,
    nr::OPENAT,
    nr::OPENAT2,
    nr::PIPE,
    nr::PIPE2,
    nr::SENDMSG,
    nr::SIGNALFD,
    nr::SIGNALFD4,
    nr::SOCKET,
    nr::SOCKETPAIR,
    nr::SYMLINK,
    nr::SYMLINKAT,
    nr::TIMER_CREATE,
    nr::TIMERFD_CREATE,
    nr::VFORK,
];

/// System calls by which memory comes back: they are never kept waiting.
const ENDING: &[usize] = &[nr::CLOSE, nr::EXIT, nr::EXIT_GROUP, nr::MUNMAP, nr::RT_SIGRETURN];

/// Whether system call `number` may begin now that memory seems short; waits for others to give some back if it must.
/// Context: a task, interrupts enabled, no lock held.
///
/// # Errors
/// ENOMEM; EINTR if the program has been killed.
#[cold]
pub fn admit(number: usize) -> KResult<()> {
    if !frames::is_short() {
        return Ok(());
    }
    if MAKING.contains(&number) {
        reclaim();
        return if frames::is_short() { Err(Errno::ENOMEM) } else { Ok(()) };
    }
    if frames::is_nearly_gone() && !ENDING.contains(&number) && find_room() == Room::Dying {
        return Err(Errno::EINTR);
    }
    Ok(())
}

/// A program's memory has been let go.
pub(super) fn note_let_go() {
    TIMES_LET_GO.fetch_add(1, Ordering::Release);
    LET_GO.wake_all();
}

/// The running task touched memory there are no frames for: finds some, by killing the largest program if there is no
/// other way. False if the running program is that, and has been killed. Context: a task, interrupts enabled, no lock
/// held but sleeping ones.
#[cold]
pub fn relieve() -> bool {
    match find_room() {
        Room::Made => true,
        Room::Dying => false,
        Room::None => {
            let task = current();
            log::error!("out of memory: killed {}[{}]", task.name(), task.process.pid.0);
            signal::force(SigInfo::kernel(SIGKILL));
            false
        }
    }
}

/// What became of a search for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    /// There is some.
    Made,
    /// The running program is on its way out, and frees its own.
    Dying,
    /// There is nobody left to take any from, or they do not end.
    None,
}

/// Gives back what is kept for speed, and kills the largest programs, until memory is short no more. Context: as for
/// [`relieve`].
fn find_room() -> Room {
    reclaim();
    let process = current().process.clone();
    let start = time::now();
    let mut waits = 0;
    while waits < ATTEMPTS {
        if !frames::is_short() {
            return Room::Made;
        }
        if signal::is_being_killed(&process) {
            return Room::Dying;
        }
        let times = TIMES_LET_GO.load(Ordering::Acquire);
        match victim() {
            Some(Victim::New(victim, space)) => {
                log::error!(
                    "out of memory: killed {}[{}], which had {} KiB",
                    victim.any_thread().map(|task| task.name()).unwrap_or_default(),
                    victim.pid.0,
                    space.resident_pages() * 4
                );
                drop(space);
                if Arc::ptr_eq(&victim, &process) {
                    signal::force(SigInfo::kernel(SIGKILL));
                    return Room::Dying;
                }
                signal::send_process(&victim, SigInfo::kernel(SIGKILL));
            }
            Some(Victim::Ending) => {}
            None => break,
        }
        let deadline = time::now().saturating_add(PATIENCE);
        let changed = || TIMES_LET_GO.load(Ordering::Acquire) != times || !frames::is_short();
        match LET_GO.wait_until(Some(deadline), || changed().then_some(())) {
            Ok(Some(())) => {}
            Ok(None) => waits += 1,
            // A signal waits to be handled, which it cannot be yet.
            Err(_) => {
                sched::yield_now();
                waits += usize::from(time::now() >= start.saturating_add(LONGEST));
            }
        }
    }
    Room::None
}

enum Victim {
    /// The largest program; of several, the newest.
    New(Arc<Process>, Arc<AddressSpace>),
    /// A program is on its way out and will leave memory behind.
    Ending,
}

fn victim() -> Option<Victim> {
    let mut largest: Option<(Arc<Process>, Arc<AddressSpace>)> = None;
    for process in tree::processes() {
        let Some(space) = process.space() else { continue };
        if signal::is_being_killed(&process) {
            return Some(Victim::Ending);
        }
        // Without process 1 the machine ends.
        if process.pid != Pid(1)
            && largest.as_ref().is_none_or(|(_, other)| other.resident_pages() <= space.resident_pages())
        {
            largest = Some((process, space));
        }
    }
    largest.map(|(process, space)| Victim::New(process, space))
}
