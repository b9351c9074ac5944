//! Group numbers. The rules are those of user numbers; whether the caller is privileged still depends on its user.

use alloc::vec::Vec;

use super::users::{KEEP, change};
use crate::errno::{Errno, KResult};
use crate::process::credentials::Gid;
use crate::process::{Credentials, current};
use crate::syscall::{Call, SysResult};

/// The most supplementary groups (Linux's NGROUPS_MAX).
const MOST_GROUPS: usize = 65536;

fn valid(number: u32) -> KResult<Gid> {
    if number == KEEP { Err(Errno::EINVAL) } else { Ok(Gid(number)) }
}

fn wanted(number: u32) -> Option<Gid> {
    (number != KEEP).then_some(Gid(number))
}

pub(super) fn getgid(_: &mut Call<'_>) -> SysResult {
    Ok(current().process.credentials().gid.0.into())
}

pub(super) fn getegid(_: &mut Call<'_>) -> SysResult {
    Ok(current().process.credentials().egid.0.into())
}

pub(super) fn getresgid(call: &mut Call<'_>) -> SysResult {
    let own = current().process.credentials();
    for (index, gid) in [own.gid, own.egid, own.sgid].into_iter().enumerate() {
        call.user(index).write(&gid.0)?;
    }
    Ok(0)
}

pub(super) fn setgid(call: &mut Call<'_>) -> SysResult {
    let gid = valid(call.uint(0))?;
    change(|own| own.set_gid(gid))?;
    Ok(0)
}

pub(super) fn setregid(call: &mut Call<'_>) -> SysResult {
    let (real, effective) = (wanted(call.uint(0)), wanted(call.uint(1)));
    change(|own| own.set_real_and_effective_gid(real, effective))?;
    Ok(0)
}

pub(super) fn setresgid(call: &mut Call<'_>) -> SysResult {
    let ids = [wanted(call.uint(0)), wanted(call.uint(1)), wanted(call.uint(2))];
    change(|own| own.set_all_gids(ids))?;
    Ok(0)
}

/// Returns what it was, whether or not it is changed.
pub(super) fn setfsgid(call: &mut Call<'_>) -> SysResult {
    let before = current().process.credentials().fsgid;
    if let Ok(gid) = valid(call.uint(0)) {
        change(|own| {
            if own.is_privileged() || [own.gid, own.egid, own.sgid, own.fsgid].contains(&gid) {
                own.fsgid = gid;
            }
            Ok(())
        })?;
    }
    Ok(before.0.into())
}

impl Credentials {
    fn set_gid(&mut self, gid: Gid) -> KResult<()> {
        if self.is_privileged() {
            (self.gid, self.sgid) = (gid, gid);
        } else if gid != self.gid && gid != self.sgid {
            return Err(Errno::EPERM);
        }
        (self.egid, self.fsgid) = (gid, gid);
        Ok(())
    }

    fn set_real_and_effective_gid(&mut self, real: Option<Gid>, effective: Option<Gid>) -> KResult<()> {
        let privileged = self.is_privileged();
        let before = self.gid;
        if let Some(gid) = real {
            if !privileged && gid != self.gid && gid != self.egid {
                return Err(Errno::EPERM);
            }
            self.gid = gid;
        }
        if let Some(gid) = effective {
            if !privileged && ![before, self.egid, self.sgid].contains(&gid) {
                return Err(Errno::EPERM);
            }
            self.egid = gid;
        }
        if real.is_some() || effective.is_some_and(|gid| gid != before) {
            self.sgid = self.egid;
        }
        self.fsgid = self.egid;
        Ok(())
    }

    fn set_all_gids(&mut self, ids: [Option<Gid>; 3]) -> KResult<()> {
        let own = [self.gid, self.egid, self.sgid];
        if !self.is_privileged() && ids.iter().flatten().any(|gid| !own.contains(gid)) {
            return Err(Errno::EPERM);
        }
        let [real, effective, saved] = ids;
        self.gid = real.unwrap_or(self.gid);
        self.egid = effective.unwrap_or(self.egid);
        self.sgid = saved.unwrap_or(self.sgid);
        self.fsgid = self.egid;
        Ok(())
    }
}

/// `getgroups(2)`
pub(super) fn getgroups(call: &mut Call<'_>) -> SysResult {
    let room = usize::try_from(call.int(0)).map_err(|_| Errno::EINVAL)?;
    let own = current().process.credentials();
    if room != 0 {
        if own.groups.len() > room {
            return Err(Errno::EINVAL);
        }
        for (index, group) in own.groups.iter().enumerate() {
            call.user(1).offset(4 * index as u64).write(&group.0)?;
        }
    }
    Ok(own.groups.len() as u64)
}

/// `setgroups(2)`
pub(super) fn setgroups(call: &mut Call<'_>) -> SysResult {
    if !current().process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let count =
        usize::try_from(call.int(0)).ok().filter(|&count| count <= MOST_GROUPS).ok_or(Errno::EINVAL)?;
    let numbers = call.user(1).read_array::<u32>(count)?;
    let groups: Vec<_> = numbers.into_iter().map(Gid).collect();
    change(|own| {
        own.groups = groups;
        Ok(())
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::credentials::Uid;

    #[test]
    fn group_numbers_follow_the_privilege_of_the_user() {
        let mut own = Credentials::root();
        own.set_all_gids([Some(Gid(5)), Some(Gid(6)), Some(Gid(7))]).unwrap();
        assert_eq!([own.gid.0, own.egid.0, own.sgid.0, own.fsgid.0], [5, 6, 7, 6]);
        own.euid = Uid(1);
        assert_eq!(own.set_gid(Gid(8)), Err(Errno::EPERM));
        own.set_gid(Gid(7)).unwrap();
        assert_eq!([own.gid.0, own.egid.0, own.sgid.0], [5, 7, 7]);
        own.set_real_and_effective_gid(Some(Gid(7)), Some(Gid(5))).unwrap();
        assert_eq!([own.gid.0, own.egid.0, own.sgid.0, own.fsgid.0], [7, 5, 5, 5]);
    }
}
