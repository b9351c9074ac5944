//! Interfaces and their addresses.

use core::net::Ipv4Addr;

/// Which interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Link {
    /// `lo`
    Loopback,
    /// `eth0`
    Ethernet,
}

impl Link {
    /// All there can be.
    pub const ALL: [Self; 2] = [Self::Loopback, Self::Ethernet];

    /// Its number, as programs know it.
    pub const fn index(self) -> i32 {
        match self {
            Self::Loopback => 1,
            Self::Ethernet => 2,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "lo",
            Self::Ethernet => "eth0",
        }
    }
}

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// An address in it.
    pub address: Ipv4Addr,
    /// Bits of it that all addresses of the network share: at most 32.
    pub prefix: u8,
}

impl Network {
    /// Everything.
    pub const ALL: Self = Self { address: Ipv4Addr::UNSPECIFIED, prefix: 0 };

    /// The bits that count.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The network's own address.
    pub fn first(self) -> Ipv4Addr {
        self.address & self.mask()
    }

    /// The address of all in it; none for networks too small for that.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        (self.prefix < 31).then(|| self.address | !self.mask())
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.first()
    }

    /// The prefix that `mask` stands for.
    pub fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
        let bits = mask.to_bits();
        let prefix = bits.leading_ones();
        (bits.count_ones() == prefix).then_some(prefix as u8)
    }

    /// The network of `address` by its class, as it is where nobody says otherwise.
    pub fn by_class(address: Ipv4Addr) -> Self {
        let prefix = match address.octets()[0] {
            0..128 => 8,
            128..192 => 16,
            192..224 => 24,
            _ => 32,
        };
        Self { address, prefix }
    }
}

/// What went through an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were of no use.
    pub errors: u64,
    /// Packets there was no room for.
    pub dropped: u64,
}

impl Counters {
    /// One more packet.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Whether it carries anything.
    pub up: bool,
    /// Its address and network.
    pub network: Option<Network>,
    /// The address of all in its network.
    pub broadcast: Option<Ipv4Addr>,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Longest IP packet, in bytes.
    pub mtu: usize,
    /// What it received.
    pub received: Counters,
    /// What it sent.
    pub sent: Counters,
}

impl Interface {
    /// One that is down.
    pub fn new(hardware: [u8; 6], mtu: usize) -> Self {
        Self {
            up: false,
            network: None,
            broadcast: None,
            hardware,
            mtu,
            received: Counters::default(),
            sent: Counters::default(),
        }
    }

    /// Its address.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.network.map(|network| network.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: [u8; 4], prefix: u8) -> Network {
        Network { address: address.into(), prefix }
    }

    #[test]
    fn networks_have_a_first_and_a_last_address() {
        let net = network([10, 0, 2, 15], 24);
        assert_eq!(net.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(net.first(), Ipv4Addr::new(10, 0, 2, 0));
        assert_eq!(net.broadcast(), Some(Ipv4Addr::new(10, 0, 2, 255)));
        assert!(net.contains(Ipv4Addr::new(10, 0, 2, 255)) && !net.contains(Ipv4Addr::new(10, 0, 3, 0)));
        assert!(Network::ALL.contains(Ipv4Addr::BROADCAST));
        assert_eq!(Network::ALL.mask(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(network([1, 2, 3, 4], 32).mask(), Ipv4Addr::BROADCAST);
        assert_eq!(network([1, 2, 3, 4], 31).broadcast(), None);
    }

    #[test]
    fn masks_are_ones_before_zeros() {
        assert_eq!(Network::prefix_of(Ipv4Addr::new(255, 255, 128, 0)), Some(17));
        assert_eq!(Network::prefix_of(Ipv4Addr::UNSPECIFIED), Some(0));
        assert_eq!(Network::prefix_of(Ipv4Addr::BROADCAST), Some(32));
        assert_eq!(Network::prefix_of(Ipv4Addr::new(255, 0, 255, 0)), None);
    }

    #[test]
    fn classes_say_how_large_a_network_is() {
        let prefix = |first| Network::by_class(Ipv4Addr::new(first, 1, 2, 3)).prefix;
        assert_eq!([10, 127, 128, 192, 224].map(prefix), [8, 8, 16, 24, 32]);
    }
}
