//! Socket addresses: names of `unix(7)` sockets, as user programs write them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::net::address::{FAMILY_BYTES, FAMILY_NONE, LONGEST, read};

/// Sockets of this machine (`AF_UNIX`).
pub const FAMILY_UNIX: u16 = 1;
/// Bytes of `sun_path`.
const PATH_BYTES: usize = 108;

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
        let mut bytes = [0; LONGEST];
        Self::decode(read(from, length, &mut bytes)?)
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
