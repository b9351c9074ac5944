//! User and group numbers.

use alloc::vec::Vec;

/// A user number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Uid(pub u32);

/// A group number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gid(pub u32);

/// Who a process acts as (`credentials(7)`). Never changed in place: a process gets a new one.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Real user.
    pub uid: Uid,
    /// Effective user.
    pub euid: Uid,
    /// Saved user.
    pub suid: Uid,
    /// User for file access.
    pub fsuid: Uid,
    /// Real group.
    pub gid: Gid,
    /// Effective group.
    pub egid: Gid,
    /// Saved group.
    pub sgid: Gid,
    /// Group for file access.
    pub fsgid: Gid,
    /// Supplementary groups.
    pub groups: Vec<Gid>,
}

impl Credentials {
    /// The superuser.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether the effective user is the superuser, who may do everything.
    pub fn is_privileged(&self) -> bool {
        self.euid == Uid(0)
    }

    /// Whether a file's group is one of ours for access checks.
    pub fn in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
