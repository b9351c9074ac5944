//! Socket addresses: names of `unix(7)` sockets, as user programs write them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;

/// No family: takes a connection back (`AF_UNSPEC`).
pub const FAMILY_NONE: u16 = 0;
/// Sockets of this machine (`AF_UNIX`).
pub const FAMILY_UNIX: u16 = 1;
/// Longest address of any family that is looked at (`struct sockaddr_storage`).
const LONGEST: usize = 128;
/// Bytes of `sun_path`.
const PATH_BYTES: usize = 108;
const FAMILY_BYTES: usize = 2;

/// What a socket is called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Name {
    /// A file's path, as it was given.
    Path(Box<[u8]>),
    /// A name of its own, in no directory: what follows the zero byte.
    Abstract(Box<[u8]>),
}

impl Name {
    /// As `struct sockaddr_un` gives it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from(FAMILY_UNIX.to_ne_bytes());
        match self {
            Self::Path(path) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Self::Abstract(name) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
        }
        bytes
    }
}

/// An address that a program gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A name.
    Named(Name),
    /// The family `AF_UNIX` and nothing else.
    Unnamed,
    /// The family `AF_UNSPEC`.
    NoFamily,
}

impl Address {
    /// Reads an address of `length` bytes.
    ///
    /// # Errors
    /// EINVAL for a length or family that is none of a `unix(7)` address, EFAULT.
    pub fn read(from: UserAddr, length: i32) -> KResult<Self> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        if length > LONGEST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; LONGEST];
        from.read_bytes(&mut bytes[..length])?;
        Self::decode(&bytes[..length])
    }

    fn decode(bytes: &[u8]) -> KResult<Self> {
        let Some((family, rest)) = bytes.split_first_chunk::<FAMILY_BYTES>() else {
            return Err(Errno::EINVAL);
        };
        match u16::from_ne_bytes(*family) {
            FAMILY_NONE => return Ok(Self::NoFamily),
            FAMILY_UNIX => {}
            _ => return Err(Errno::EINVAL),
        }
        if rest.len() > PATH_BYTES {
            return Err(Errno::EINVAL);
        }
        Ok(match rest.split_first() {
            None => Self::Unnamed,
            Some((0, name)) => Self::Named(Name::Abstract(Box::from(name))),
            Some(_) => {
                let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
                Self::Named(Name::Path(Box::from(&rest[..end])))
            }
        })
    }
}

/// An address on its way to a program; none stands for a socket without a name.
pub fn encode(name: Option<&Name>) -> Vec<u8> {
    match name {
        Some(name) => name.encode(),
        None => Vec::from(FAMILY_UNIX.to_ne_bytes()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &[u8]) -> Vec<u8> {
        [&FAMILY_UNIX.to_ne_bytes(), path].concat()
    }

    fn path(path: &[u8]) -> Address {
        Address::Named(Name::Path(Box::from(path)))
    }

    #[test]
    fn paths_end_at_a_zero_or_with_the_address() {
        assert_eq!(Address::decode(&unix(b"/tmp/s\0junk")), Ok(path(b"/tmp/s")));
        assert_eq!(Address::decode(&unix(b"/tmp/s")), Ok(path(b"/tmp/s")));
        assert_eq!(Address::decode(&unix(&[b'a'; 108])), Ok(path(&[b'a'; 108])));
        assert_eq!(Address::decode(&unix(&[b'a'; 109])), Err(Errno::EINVAL));
    }

    #[test]
    fn abstract_names_keep_every_byte() {
        let name = Name::Abstract(Box::from(&b"x\0y\0"[..]));
        assert_eq!(Address::decode(&unix(b"\0x\0y\0")), Ok(Address::Named(name.clone())));
        assert_eq!(name.encode(), unix(b"\0x\0y\0"));
        assert_eq!(Name::Path(Box::from(&b"s"[..])).encode(), unix(b"s\0"));
    }

    #[test]
    fn other_addresses_are_told_apart() {
        assert_eq!(Address::decode(&unix(b"")), Ok(Address::Unnamed));
        assert_eq!(Address::decode(&FAMILY_NONE.to_ne_bytes()), Ok(Address::NoFamily));
        assert_eq!(Address::decode(&[1]), Err(Errno::EINVAL));
        assert_eq!(Address::decode(&2u16.to_ne_bytes()), Err(Errno::EINVAL));
        assert_eq!(encode(None), unix(b""));
    }
}
