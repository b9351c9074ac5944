//! Resource limits (`getrlimit(2)`).

use crate::errno::{Errno, KResult};

/// A resource, by Linux's numbers (include/uapi/asm-generic/resource.h).
#[allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Resource {
    Cpu = 0,
    FileSize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    ResidentSet = 5,
    Processes = 6,
    OpenFiles = 7,
    LockedMemory = 8,
    AddressSpace = 9,
    Locks = 10,
    PendingSignals = 11,
    MessageQueue = 12,
    Nice = 13,
    RealtimePriority = 14,
    RealtimeTime = 15,
}

/// Number of resources.
pub const RESOURCES: usize = 16;

/// Without limit.
pub const INFINITY: u64 = u64::MAX;

/// Soft and hard limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far an unprivileged process may raise that.
    pub hard: u64,
}

/// All limits of a process.
#[derive(Clone, Copy, Debug)]
pub struct Limits([Limit; RESOURCES]);

impl Limits {
    /// What process 1 starts with: Linux's own start values (include/asm-generic/resource.h).
    pub fn initial() -> Self {
        let none = Limit { soft: INFINITY, hard: INFINITY };
        let mut limits = [none; RESOURCES];
        limits[Resource::Stack as usize] = Limit { soft: 8 << 20, hard: INFINITY };
        limits[Resource::Core as usize] = Limit { soft: 0, hard: INFINITY };
        limits[Resource::OpenFiles as usize] = Limit { soft: 1024, hard: 4096 };
        limits[Resource::LockedMemory as usize] = Limit { soft: 8 << 20, hard: 8 << 20 };
        limits[Resource::MessageQueue as usize] = Limit { soft: 819_200, hard: 819_200 };
        limits[Resource::Nice as usize] = Limit { soft: 0, hard: 0 };
        limits[Resource::RealtimePriority as usize] = Limit { soft: 0, hard: 0 };
        Self(limits)
    }

    /// One limit.
    pub fn get(&self, resource: Resource) -> Limit {
        self.0[resource as usize]
    }

    /// One limit, by number.
    pub fn by_number(&self, number: usize) -> KResult<Limit> {
        self.0.get(number).copied().ok_or(Errno::EINVAL)
    }

    /// Sets one limit, by number.
    pub fn set_by_number(&mut self, number: usize, limit: Limit, privileged: bool) -> KResult<()> {
        let slot = self.0.get_mut(number).ok_or(Errno::EINVAL)?;
        if limit.soft > limit.hard {
            return Err(Errno::EINVAL);
        }
        if limit.hard > slot.hard && !privileged {
            return Err(Errno::EPERM);
        }
        *slot = limit;
        Ok(())
    }
}
