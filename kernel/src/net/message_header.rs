//! Messages as user programs describe them (`struct msghdr`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::fs::io::{MAX_VECTORS, UserVector};
use crate::mm::UserAddr;
use crate::net::flags;
use crate::syscall::{Call, SysResult};
use crate::time::{self, abi::Timespec};

/// `struct user_msghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// The address, and room for it.
    pub name: u64,
    /// Its length.
    pub name_length: i32,
    padding0: u32,
    /// Ranges of memory.
    pub vector: u64,
    /// Their number.
    pub vectors: u64,
    /// Control data.
    pub control: u64,
    /// Its length.
    pub control_length: u64,
    /// What became of it.
    pub flags: u32,
    padding1: u32,
}

const HEADER: u64 = size_of::<Header>() as u64;
/// Bytes from one `struct mmsghdr` to the next.
const SEVERAL_STEP: u64 = HEADER + 8;
/// Where a header has the length of its address.
pub const NAME_LENGTH_AT: u64 = 8;
/// Where a header has the length of its control data.
pub const CONTROL_LENGTH_AT: u64 = 40;
/// Where a header has its flags.
pub const FLAGS_AT: u64 = 48;
/// Longest name that is looked at.
const LONGEST_NAME: i32 = 128;
/// Most messages one call sends or receives.
const MAX_MESSAGES: u32 = 1024;

const _: () = assert!(HEADER == 56);

impl Header {
    /// Reads the header at `from`.
    ///
    /// # Errors
    /// EINVAL, EMSGSIZE, EFAULT.
    pub fn read(from: UserAddr) -> KResult<Self> {
        let mut header: Self = from.read()?;
        if header.name == 0 {
            header.name_length = 0;
        }
        if header.name_length < 0 {
            return Err(Errno::EINVAL);
        }
        header.name_length = header.name_length.min(LONGEST_NAME);
        if header.vectors > MAX_VECTORS as u64 {
            return Err(Errno::EMSGSIZE);
        }
        Ok(header)
    }

    /// Its ranges of memory.
    ///
    /// # Errors
    /// EINVAL, EFAULT.
    pub fn vector(&self) -> KResult<UserVector> {
        UserVector::read(UserAddr(self.vector), self.vectors as usize)
    }
}

/// Does something with each of `count` messages until that fails; the error counts only if it was the first.
pub fn each(
    first: UserAddr,
    count: u32,
    mut work: impl FnMut(UserAddr, u32) -> KResult<usize>,
    mut go_on: impl FnMut() -> bool,
) -> SysResult {
    let count = count.min(MAX_MESSAGES);
    for index in 0..count {
        let at = first.offset(u64::from(index) * SEVERAL_STEP);
        let done = work(at, index).and_then(|length| at.offset(HEADER).write(&(length as u32)));
        match done {
            Ok(()) if go_on() => {}
            Ok(()) => return Ok(u64::from(index) + 1),
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index.into()),
        }
    }
    Ok(count.into())
}

/// `recvmmsg(2)`: as many messages as there are, by `receive` with their flags, until the time that the call allows.
pub fn receive_many(call: &Call<'_>, mut receive: impl FnMut(UserAddr, u32) -> KResult<usize>) -> SysResult {
    let (flags, timeout_at) = (call.uint(3), call.user(4));
    let deadline = time::deadline_after(timeout_at)?;
    let receive = |at, index| {
        let no_wait = index > 0 && flags & flags::WAIT_FOR_ONE != 0;
        let wait_flag = if no_wait { flags::DO_NOT_WAIT } else { 0 };
        receive(at, (flags & !flags::WAIT_FOR_ONE) | wait_flag)
    };
    // As in Linux the time is looked at between messages only.
    let in_time = || deadline.is_none_or(|deadline| time::now() < deadline);
    let count = each(call.user(1), call.uint(2), receive, in_time)?;
    if let Some(deadline) = deadline {
        timeout_at.write(&Timespec::from(deadline.saturating_sub(time::now())))?;
    }
    Ok(count)
}
