//! Process and thread numbers.

use super::tree;
use crate::sync::IrqLock;
use crate::util::ids::IdAllocator;

/// A process, thread, group or session number. Process 1 is the first program; 0 stands for "none" or the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Pid(pub i32);

/// Linux's default `pid_max`.
pub const PID_MAX: u32 = 32768;

struct Pids {
    used: IdAllocator,
    next: u32,
    /// Numbers ever given out.
    made: u64,
}

static PIDS: IrqLock<Pids> = IrqLock::new(Pids { used: IdAllocator::new(), next: 1, made: 0 });

impl Pid {
    /// A number not in use, above those given out lately; none if all are in use. Context: the tree of processes is not
    /// locked.
    pub fn allocate() -> Option<Self> {
        for _ in 0..PID_MAX {
            let (id, is_new) = {
                let mut pids = PIDS.lock();
                let next = pids.next;
                let id = pids.used.alloc_cyclic(next, 1, PID_MAX).ok()?;
                pids.next = id + 1;
                pids.made += 1;
                (Self(id as i32), pids.made < u64::from(PID_MAX))
            };
            // Groups and sessions outlive the processes they are called by.
            if is_new || !tree::lock().has_group_or_session(id) {
                return Some(id);
            }
            id.free();
            PIDS.lock().made -= 1;
        }
        None
    }

    /// Gives the number back: nothing is called by it any more.
    pub fn free(self) {
        let known = PIDS.lock().used.free(self.0 as u32);
        debug_assert!(known.is_ok(), "a process number was freed twice");
    }
}

/// The number given out last.
pub fn last() -> Pid {
    Pid(PIDS.lock().next as i32 - 1)
}

/// How many numbers were ever given out: threads and processes made since boot.
pub fn made() -> u64 {
    PIDS.lock().made
}

/// Takes the memory for all numbers there can be, so that it is not taken little by little. At boot.
pub fn init() {
    if PIDS.lock().used.make_room(PID_MAX).is_err() {
        log::warn!("there is no memory for all process numbers");
    }
}
