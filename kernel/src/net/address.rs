//! Socket addresses of any family, as user programs pass them.

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;

/// No family: takes a connection back (`AF_UNSPEC`).
pub const FAMILY_NONE: u16 = 0;
/// Longest address that is looked at (`struct sockaddr_storage`).
pub const LONGEST: usize = 128;
/// Bytes of the family, which every address begins with.
pub const FAMILY_BYTES: usize = 2;

/// Reads an address of `length` bytes into `bytes`.
///
/// # Errors
/// EINVAL for a length that no address has, EFAULT.
pub fn read(from: UserAddr, length: i32, bytes: &mut [u8; LONGEST]) -> KResult<&[u8]> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let bytes = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    from.read_bytes(bytes)?;
    Ok(bytes)
}

/// Writes as much of `address` as fits the `room` bytes at `to`.
///
/// # Errors
/// EINVAL for negative room, EFAULT.
pub fn write(address: &[u8], to: UserAddr, room: i32) -> KResult<()> {
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    to.write_bytes(&address[..address.len().min(room)])
}

/// Writes an address to a program that gave the room it has at `length_at`, where the true length goes.
///
/// # Errors
/// EINVAL for negative room, EFAULT.
pub fn write_with_length(address: &[u8], to: UserAddr, length_at: UserAddr) -> KResult<()> {
    write(address, to, length_at.read()?)?;
    length_at.write(&(address.len() as i32))
}
