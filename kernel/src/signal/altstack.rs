//! The alternate signal stack: `sigaltstack(2)`.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::{Errno, KResult};
use crate::process::current;
use crate::syscall::{Call, SysResult};

/// The thread runs on it.
const SS_ONSTACK: u32 = 1;
/// There is none.
const SS_DISABLE: u32 = 2;
/// It is given up while a handler runs on it.
const SS_AUTODISARM: u32 = 1 << 31;
/// No alternate stack is smaller.
const MINSIGSTKSZ: u64 = 2048;

/// `stack_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UserStack {
    base: u64,
    flags: u32,
    padding: u32,
    size: u64,
}

impl UserStack {
    /// As a program would write it.
    #[cfg(test)]
    pub fn new(base: u64, size: u64, flags: u32) -> Self {
        Self { base, flags, padding: 0, size }
    }
}

/// A thread's alternate stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    base: u64,
    size: u64,
    auto_disarm: bool,
}

impl AltStack {
    /// None.
    pub const NONE: Self = Self { base: 0, size: 0, auto_disarm: false };

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.size != 0
    }

    /// Whether it is given up while a handler runs on it.
    pub fn disarms_itself(&self) -> bool {
        self.auto_disarm
    }

    /// One past its last byte.
    pub fn top(&self) -> u64 {
        self.base.wrapping_add(self.size)
    }

    /// Whether `sp` lies on it.
    pub fn contains(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }

    /// Whether a thread with stack pointer `sp` counts as running on it: one that is given up on entry never does.
    pub fn in_use(&self, sp: u64) -> bool {
        !self.auto_disarm && self.contains(sp)
    }

    /// As a program with stack pointer `sp` is told.
    pub fn to_user(self, sp: u64) -> UserStack {
        let mode = match () {
            () if !self.exists() => SS_DISABLE,
            () if self.in_use(sp) => SS_ONSTACK,
            () => 0,
        };
        let flags = mode | if self.auto_disarm { SS_AUTODISARM } else { 0 };
        UserStack { base: self.base, flags, padding: 0, size: self.size }
    }

    /// What it becomes when a program with stack pointer `sp` asks for `wanted`.
    pub fn changed(self, wanted: &UserStack, sp: u64) -> KResult<Self> {
        if self.in_use(sp) {
            return Err(Errno::EPERM);
        }
        let auto_disarm = wanted.flags & SS_AUTODISARM != 0;
        match wanted.flags & !SS_AUTODISARM {
            SS_DISABLE => Ok(Self { base: 0, size: 0, auto_disarm }),
            0 | SS_ONSTACK if wanted.size < MINSIGSTKSZ => Err(Errno::ENOMEM),
            0 | SS_ONSTACK => Ok(Self { base: wanted.base, size: wanted.size, auto_disarm }),
            _ => Err(Errno::EINVAL),
        }
    }
}

pub(super) fn sigaltstack(call: &mut Call<'_>) -> SysResult {
    let (new, old) = (call.user(0), call.user(1));
    let wanted: Option<UserStack> = if new.is_null() { None } else { Some(new.read()?) };
    let before = set(wanted.as_ref(), call.frame.rsp)?;
    if !old.is_null() {
        old.write(&before)?;
    }
    Ok(0)
}

/// Sets the running task's alternate stack, if one is wanted; returns what a program sees of the old one.
pub(super) fn set(wanted: Option<&UserStack>, sp: u64) -> KResult<UserStack> {
    let task = current();
    let mut stack = task.signals.alt_stack.lock();
    let before = stack.to_user(sp);
    if let Some(wanted) = wanted {
        *stack = stack.changed(wanted, sp)?;
    }
    Ok(before)
}
