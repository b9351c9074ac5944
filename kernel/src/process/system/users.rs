//! User numbers and capabilities.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::prctl::LAST_CAPABILITY;
use crate::errno::{Errno, KResult};
use crate::process::credentials::Uid;
use crate::process::{Credentials, Pid, current, tree};
use crate::syscall::{Call, SysResult};

/// Leaves a number as it is.
pub(super) const KEEP: u32 = u32::MAX;

/// Replaces the caller's credentials by what `work` makes of them. A process that acts as somebody else from then on
/// is no longer dumpable, and its parent's end means nothing to it.
pub(super) fn change<R>(work: impl FnOnce(&mut Credentials) -> KResult<R>) -> KResult<R> {
    let task = current();
    let process = &task.process;
    let mut slot = process.credentials.lock();
    let mut new = Credentials::clone(&slot);
    let result = work(&mut new)?;
    let acts_as = |who: &Credentials| (who.euid, who.egid, who.fsuid, who.fsgid);
    let differs = acts_as(&new) != acts_as(&slot);
    let old = core::mem::replace(&mut *slot, Arc::new(new));
    drop(slot);
    drop(old);
    if differs {
        process.dumpable.store(false, Ordering::Relaxed);
        process.parent_death_signal.store(0, Ordering::Relaxed);
    }
    Ok(result)
}

fn valid(number: u32) -> KResult<Uid> {
    if number == KEEP { Err(Errno::EINVAL) } else { Ok(Uid(number)) }
}

fn wanted(number: u32) -> Option<Uid> {
    (number != KEEP).then_some(Uid(number))
}

pub(super) fn getuid(_: &mut Call<'_>) -> SysResult {
    Ok(current().process.credentials().uid.0.into())
}

pub(super) fn geteuid(_: &mut Call<'_>) -> SysResult {
    Ok(current().process.credentials().euid.0.into())
}

pub(super) fn getresuid(call: &mut Call<'_>) -> SysResult {
    let own = current().process.credentials();
    for (index, uid) in [own.uid, own.euid, own.suid].into_iter().enumerate() {
        call.user(index).write(&uid.0)?;
    }
    Ok(0)
}

pub(super) fn setuid(call: &mut Call<'_>) -> SysResult {
    let uid = valid(call.uint(0))?;
    change(|own| own.set_uid(uid))?;
    Ok(0)
}

pub(super) fn setreuid(call: &mut Call<'_>) -> SysResult {
    let (real, effective) = (wanted(call.uint(0)), wanted(call.uint(1)));
    change(|own| own.set_real_and_effective_uid(real, effective))?;
    Ok(0)
}

pub(super) fn setresuid(call: &mut Call<'_>) -> SysResult {
    let ids = [wanted(call.uint(0)), wanted(call.uint(1)), wanted(call.uint(2))];
    change(|own| own.set_all_uids(ids))?;
    Ok(0)
}

/// Returns what it was, whether or not it is changed.
pub(super) fn setfsuid(call: &mut Call<'_>) -> SysResult {
    let before = current().process.credentials().fsuid;
    if let Ok(uid) = valid(call.uint(0)) {
        change(|own| {
            if own.is_privileged() || [own.uid, own.euid, own.suid, own.fsuid].contains(&uid) {
                own.fsuid = uid;
            }
            Ok(())
        })?;
    }
    Ok(before.0.into())
}

impl Credentials {
    fn set_uid(&mut self, uid: Uid) -> KResult<()> {
        if self.is_privileged() {
            (self.uid, self.suid) = (uid, uid);
        } else if uid != self.uid && uid != self.suid {
            return Err(Errno::EPERM);
        }
        (self.euid, self.fsuid) = (uid, uid);
        Ok(())
    }

    fn set_real_and_effective_uid(&mut self, real: Option<Uid>, effective: Option<Uid>) -> KResult<()> {
        let privileged = self.is_privileged();
        let before = self.uid;
        if let Some(uid) = real {
            if !privileged && uid != self.uid && uid != self.euid {
                return Err(Errno::EPERM);
            }
            self.uid = uid;
        }
        if let Some(uid) = effective {
            if !privileged && ![before, self.euid, self.suid].contains(&uid) {
                return Err(Errno::EPERM);
            }
            self.euid = uid;
        }
        if real.is_some() || effective.is_some_and(|uid| uid != before) {
            self.suid = self.euid;
        }
        self.fsuid = self.euid;
        Ok(())
    }

    fn set_all_uids(&mut self, ids: [Option<Uid>; 3]) -> KResult<()> {
        let own = [self.uid, self.euid, self.suid];
        if !self.is_privileged() && ids.iter().flatten().any(|uid| !own.contains(uid)) {
            return Err(Errno::EPERM);
        }
        let [real, effective, saved] = ids;
        self.uid = real.unwrap_or(self.uid);
        self.euid = effective.unwrap_or(self.euid);
        self.suid = saved.unwrap_or(self.suid);
        self.fsuid = self.euid;
        Ok(())
    }
}

/// `struct __user_cap_header_struct` (include/uapi/linux/capability.h).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_1: u32 = 0x1998_0330;
const CAPABILITY_VERSION_2: u32 = 0x2007_1026;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const ALL_CAPABILITIES: u64 = (1 << (LAST_CAPABILITY + 1)) - 1;

/// How many [`CapabilityData`] follow; an unknown version is answered with the one to use.
fn capability_words(call: &Call<'_>) -> KResult<(CapabilityHeader, usize)> {
    let header = call.user(0).read::<CapabilityHeader>()?;
    match header.version {
        CAPABILITY_VERSION_1 => Ok((header, 1)),
        CAPABILITY_VERSION_2 | CAPABILITY_VERSION_3 => Ok((header, 2)),
        _ => {
            call.user(0).write(&CAPABILITY_VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

/// The superuser has all capabilities, and nobody else has any.
fn capabilities(of: &Credentials) -> u64 {
    if of.is_privileged() { ALL_CAPABILITIES } else { 0 }
}

/// `capget(2)`
pub(super) fn capget(call: &mut Call<'_>) -> SysResult {
    let to = call.user(1);
    let (header, words) = match capability_words(call) {
        Err(Errno::EINVAL) if to.is_null() => return Ok(0),
        other => other?,
    };
    let credentials = match Pid(header.pid) {
        Pid(0) => current().process.credentials(),
        Pid(..0) => return Err(Errno::EINVAL),
        tid => tree::find_task(tid).ok_or(Errno::ESRCH)?.process.credentials(),
    };
    if to.is_null() {
        return Ok(0);
    }
    let all = capabilities(&credentials);
    for word in 0..words {
        let part = (all >> (32 * word)) as u32;
        let data = CapabilityData { effective: part, permitted: part, inheritable: 0 };
        to.offset((word * size_of::<CapabilityData>()) as u64).write(&data)?;
    }
    Ok(0)
}

/// `capset(2)`: asking for no more than the caller has is granted, but what it gives up it keeps: rights here follow the
/// user number alone.
pub(super) fn capset(call: &mut Call<'_>) -> SysResult {
    let (header, words) = capability_words(call)?;
    let task = current();
    if header.pid != 0 && Pid(header.pid) != task.tid() {
        return Err(Errno::EPERM);
    }
    let (mut effective, mut permitted) = (0, 0);
    for word in 0..words {
        let data =
            call.user(1).offset((word * size_of::<CapabilityData>()) as u64).read::<CapabilityData>()?;
        effective |= u64::from(data.effective) << (32 * word);
        permitted |= u64::from(data.permitted) << (32 * word);
    }
    let (effective, permitted) = (effective & ALL_CAPABILITIES, permitted & ALL_CAPABILITIES);
    if permitted & !capabilities(&task.process.credentials()) != 0 || effective & !permitted != 0 {
        return Err(Errno::EPERM);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, euid: u32, suid: u32) -> Credentials {
        Credentials {
            uid: Uid(uid),
            euid: Uid(euid),
            suid: Uid(suid),
            fsuid: Uid(euid),
            ..Credentials::default()
        }
    }

    fn uids(of: &Credentials) -> [u32; 4] {
        [of.uid.0, of.euid.0, of.suid.0, of.fsuid.0]
    }

    #[test]
    fn the_superuser_becomes_somebody_for_good() {
        let mut own = Credentials::root();
        own.set_uid(Uid(7)).unwrap();
        assert_eq!(uids(&own), [7, 7, 7, 7]);
        assert_eq!(own.set_uid(Uid(0)), Err(Errno::EPERM));
        assert_eq!(own.set_all_uids([None, Some(Uid(0)), None]), Err(Errno::EPERM));
    }

    #[test]
    fn others_change_among_their_own_numbers() {
        let mut own = user(1, 2, 3);
        own.set_uid(Uid(3)).unwrap();
        assert_eq!(uids(&own), [1, 3, 3, 3]);
        assert_eq!(own.set_uid(Uid(2)), Err(Errno::EPERM));
        own.set_all_uids([Some(Uid(3)), Some(Uid(1)), None]).unwrap();
        assert_eq!(uids(&own), [3, 1, 3, 1]);
    }

    #[test]
    fn setreuid_saves_the_new_effective_user_as_linux_does() {
        // Swapping real and effective keeps the way back open.
        let mut own = user(1, 2, 9);
        own.set_real_and_effective_uid(Some(Uid(2)), Some(Uid(1))).unwrap();
        assert_eq!(uids(&own), [2, 1, 1, 1]);
        // Only the effective one, to the real one: the saved one stays.
        let mut own = user(1, 2, 9);
        own.set_real_and_effective_uid(None, Some(Uid(1))).unwrap();
        assert_eq!(uids(&own), [1, 1, 9, 1]);
        let mut own = user(1, 2, 9);
        assert_eq!(own.set_real_and_effective_uid(Some(Uid(9)), None), Err(Errno::EPERM));
        own.set_real_and_effective_uid(None, Some(Uid(9))).unwrap();
        assert_eq!(uids(&own), [1, 9, 9, 9]);
    }
}
