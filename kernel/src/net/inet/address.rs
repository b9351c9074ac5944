//! Addresses of Internet sockets, as user programs write them (`struct sockaddr_in`).

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::net::address::{FAMILY_BYTES, FAMILY_NONE, LONGEST, read};

/// IP version 4 (`AF_INET`).
pub const FAMILY: u16 = 2;
/// Bytes of an address.
pub const BYTES: usize = 16;
/// Bytes of it that say something.
const USED: usize = 8;

/// An address that a program gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// An address and a port.
    Inet(SocketAddrV4),
    /// The family `AF_UNSPEC`, and the address it would be otherwise.
    NoFamily(SocketAddrV4),
}

impl Address {
    /// Reads an address of `length` bytes.
    ///
    /// # Errors
    /// EINVAL for a length that is none, EAFNOSUPPORT, EFAULT.
    pub fn read(from: UserAddr, length: i32) -> KResult<Self> {
        let mut bytes = [0; LONGEST];
        Self::decode(read(from, length, &mut bytes)?)
    }

    fn decode(bytes: &[u8]) -> KResult<Self> {
        let Some((family, rest)) = bytes.split_first_chunk::<FAMILY_BYTES>() else {
            return Err(Errno::EINVAL);
        };
        let family = u16::from_ne_bytes(*family);
        if family == FAMILY_NONE {
            return Ok(Self::NoFamily(decode(rest).unwrap_or(NOWHERE)));
        }
        if bytes.len() < BYTES {
            return Err(Errno::EINVAL);
        }
        if family != FAMILY {
            return Err(Errno::EAFNOSUPPORT);
        }
        decode(rest).map(Self::Inet).ok_or(Errno::EINVAL)
    }
}

/// No address and no port.
pub const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// What follows the family.
fn decode(rest: &[u8]) -> Option<SocketAddrV4> {
    let &[port_high, port_low, a, b, c, d] = rest.first_chunk()?;
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([port_high, port_low])))
}

/// An address on its way to a program.
pub fn encode(address: SocketAddrV4) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..2].copy_from_slice(&FAMILY.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..USED].copy_from_slice(&address.ip().octets());
    bytes
}

/// The address in what a program gave as one; none if it is of another family.
pub fn from_bytes(bytes: &[u8; BYTES]) -> Option<SocketAddrV4> {
    let inet = bytes[..2] == FAMILY.to_ne_bytes();
    decode(&bytes[2..]).filter(|_| inet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_network_order() {
        let address = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 0x1234);
        let bytes = encode(address);
        assert_eq!(bytes, [2, 0, 0x12, 0x34, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Address::decode(&bytes), Ok(Address::Inet(address)));
        assert_eq!(Address::decode(&bytes[..15]), Err(Errno::EINVAL));
        assert_eq!(Address::decode(&[&[10, 0], &bytes[2..]].concat()), Err(Errno::EAFNOSUPPORT));
        assert_eq!(Address::decode(&[0, 0]), Ok(Address::NoFamily(NOWHERE)));
        assert_eq!(Address::decode(&[&[0, 0], &bytes[2..]].concat()), Ok(Address::NoFamily(address)));
        assert_eq!(Address::decode(&[0]), Err(Errno::EINVAL));
        assert_eq!(from_bytes(&bytes), Some(address));
        assert_eq!(from_bytes(&[1; 16]), None);
    }
}
