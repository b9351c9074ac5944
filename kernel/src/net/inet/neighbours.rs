//! Which hardware address an IP address on the Ethernet has (ARP, RFC 826).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use platform::Nanoseconds;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol};

use super::wire::ETHERNET_HEADER;
use crate::mm::frames;

/// How long an answer is believed without asking again (`base_reachable_time`).
const FRESH: Nanoseconds = Nanoseconds::from_seconds(30);
/// How long an answer is used at all while none comes anew.
const USABLE: Nanoseconds = Nanoseconds::from_seconds(60);
/// How long an answer is waited for before the question is asked again (`retrans_time`).
const RETRY: Nanoseconds = Nanoseconds::SECOND;
/// How often it is asked (`mcast_solicit`).
const TRIES: u8 = 3;
/// Most packets that wait for one answer.
const WAITING: usize = 32;
/// Most neighbours (`gc_thresh3`).
const MOST: usize = 1024;

/// Bytes of a frame with a question or an answer.
pub const ARP_FRAME: usize = ETHERNET_HEADER + 28;

/// What is known of a neighbour.
#[derive(Default)]
struct Neighbour {
    /// Its address and when it was last heard.
    known: Option<([u8; 6], Nanoseconds)>,
    /// Questions without an answer, and when the next is due.
    asked: Option<(u8, Nanoseconds)>,
    /// Frames for it, which lack its address.
    waiting: VecDeque<Vec<u8>>,
}

/// What is to be done with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// It goes to this hardware address.
    Known([u8; 6]),
    /// It is kept until the address is known.
    Kept,
    /// There is no room to keep it.
    Dropped,
}

/// What has become due.
#[derive(Debug)]
pub enum Due {
    /// Ask for this address.
    Ask(Ipv4Addr),
    /// Nobody answers for it; these frames do not go out.
    Unreachable(VecDeque<Vec<u8>>),
}

/// The neighbours.
#[derive(Default)]
pub struct Neighbours(BTreeMap<Ipv4Addr, Neighbour>);

impl Neighbours {
    /// Where a frame for `address` goes; the second result says whether to ask for it now.
    pub fn resolve(&mut self, now: Nanoseconds, address: Ipv4Addr, frame: &[u8]) -> (Resolved, bool) {
        if self.0.len() >= MOST && !self.0.contains_key(&address) {
            self.make_room();
        }
        let neighbour = self.0.entry(address).or_default();
        let usable = neighbour.known.filter(|(_, heard)| now < *heard + USABLE);
        let fresh = usable.is_some_and(|(_, heard)| now < heard + FRESH);
        let ask = !fresh && neighbour.asked.is_none();
        if ask {
            neighbour.asked = Some((1, now + RETRY));
        }
        if let Some((hardware, _)) = usable {
            return (Resolved::Known(hardware), ask);
        }
        if neighbour.waiting.len() >= WAITING {
            neighbour.waiting.pop_front();
        }
        let mut copy = Vec::new();
        if frames::is_short()
            || copy.try_reserve_exact(frame.len()).is_err()
            || neighbour.waiting.try_reserve(1).is_err()
        {
            return (Resolved::Dropped, ask);
        }
        copy.extend_from_slice(frame);
        neighbour.waiting.push_back(copy);
        (Resolved::Kept, ask)
    }

    /// Forgets the neighbour that was heard least lately and nothing waits for.
    fn make_room(&mut self) {
        let heard = |neighbour: &Neighbour| neighbour.known.map_or(Nanoseconds::ZERO, |(_, heard)| heard);
        let idle = self.0.iter().filter(|(_, neighbour)| neighbour.waiting.is_empty());
        let oldest = idle.min_by_key(|(_, neighbour)| heard(neighbour)).map(|(&address, _)| address);
        let victim = oldest.or_else(|| self.0.keys().next().copied());
        if let Some(address) = victim {
            self.0.remove(&address);
        }
    }

    /// `address` has this hardware address. If nothing was known of it, that is only kept if `asks`: it wants something of
    /// us. Returns the frames that waited for it.
    pub fn heard(
        &mut self,
        now: Nanoseconds,
        address: Ipv4Addr,
        hardware: [u8; 6],
        asks: bool,
    ) -> VecDeque<Vec<u8>> {
        if asks && !self.0.contains_key(&address) && self.0.len() < MOST {
            self.0.insert(address, Neighbour::default());
        }
        let Some(neighbour) = self.0.get_mut(&address) else { return VecDeque::new() };
        neighbour.known = Some((hardware, now));
        neighbour.asked = None;
        core::mem::take(&mut neighbour.waiting)
    }

    /// When [`Self::due`] has something next.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        self.0.values().filter_map(|neighbour| neighbour.asked).map(|(_, at)| at).min()
    }

    /// Something that is due by now.
    pub fn due(&mut self, now: Nanoseconds) -> Option<Due> {
        let is_due = |neighbour: &Neighbour| neighbour.asked.is_some_and(|(_, at)| at <= now);
        let (&address, neighbour) = self.0.iter_mut().find(|(_, neighbour)| is_due(neighbour))?;
        match neighbour.asked {
            Some((tries, _)) if tries < TRIES => {
                neighbour.asked = Some((tries + 1, now + RETRY));
                Some(Due::Ask(address))
            }
            _ => {
                let waiting = self.0.remove(&address).map(|neighbour| neighbour.waiting);
                Some(Due::Unreachable(waiting.unwrap_or_default()))
            }
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those whose hardware address is known, and those it is asked for, which have none.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, Option<[u8; 6]>)> {
        self.0.iter().map(|(&address, neighbour)| (address, neighbour.known.map(|(hardware, _)| hardware)))
    }
}

/// One of the two kinds of ARP packet, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// A question, not an answer.
    pub asks: bool,
    /// Who sends it.
    pub from: (Ipv4Addr, [u8; 6]),
    /// Whom it is about.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads what follows the Ethernet header; none for anything unusual.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let packet = ArpPacket::new_checked(payload).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let asks = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        let usable = source_hardware_addr.is_unicast() && source_hardware_addr.0 != [0; 6];
        usable.then_some(Self {
            asks,
            from: (source_protocol_addr, source_hardware_addr.0),
            target: target_protocol_addr,
        })
    }

    /// The frame with this packet, to `to`: all on the wire for a question.
    pub fn frame(self, to: [u8; 6]) -> [u8; ARP_FRAME] {
        let mut bytes = [0; ARP_FRAME];
        let known = if self.asks { [0; 6] } else { to };
        let repr = ArpRepr::EthernetIpv4 {
            operation: if self.asks { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: EthernetAddress(self.from.1),
            source_protocol_addr: self.from.0,
            target_hardware_addr: EthernetAddress(known),
            target_protocol_addr: self.target,
        };
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_dst_addr(EthernetAddress(to));
        frame.set_src_addr(EthernetAddress(self.from.1));
        frame.set_ethertype(EthernetProtocol::Arp);
        repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn at(seconds: u64) -> Nanoseconds {
        Nanoseconds::from_seconds(seconds)
    }

    #[test]
    fn frames_wait_for_the_answer() {
        let mut all = Neighbours::default();
        assert_eq!(all.resolve(at(0), HOST, b"first"), (Resolved::Kept, true));
        assert_eq!(all.resolve(at(0), HOST, b"second"), (Resolved::Kept, false));
        assert_eq!(all.deadline(), Some(at(1)));
        assert_eq!(all.heard(at(0), HOST, HARDWARE, false), [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(all.resolve(at(29), HOST, b"third"), (Resolved::Known(HARDWARE), false));
        assert_eq!(all.deadline(), None);
        // What is not so fresh is used, and asked for.
        assert_eq!(all.resolve(at(31), HOST, b"fourth"), (Resolved::Known(HARDWARE), true));
        assert_eq!(all.resolve(at(61), HOST, b"fifth"), (Resolved::Kept, false));
    }

    #[test]
    fn nobody_is_asked_for_ever() {
        let mut all = Neighbours::default();
        all.resolve(at(0), HOST, b"lost");
        assert!(all.due(at(0)).is_none());
        assert!(matches!(all.due(at(1)), Some(Due::Ask(HOST))));
        assert!(matches!(all.due(at(2)), Some(Due::Ask(HOST))));
        match all.due(at(3)) {
            Some(Due::Unreachable(frames)) => assert_eq!(frames, [b"lost".to_vec()]),
            other => panic!("{other:?}"),
        }
        assert!(all.due(at(9)).is_none() && all.iter().next().is_none());
    }

    #[test]
    fn strangers_are_kept_only_if_they_ask() {
        let mut all = Neighbours::default();
        all.heard(at(0), HOST, HARDWARE, false);
        assert_eq!(all.iter().count(), 0);
        all.heard(at(0), HOST, HARDWARE, true);
        assert_eq!(all.iter().next(), Some((HOST, Some(HARDWARE))));
        for host in 0..2 * MOST as u32 {
            all.resolve(at(1), Ipv4Addr::from_bits(host), b"");
        }
        assert!(all.0.len() <= MOST);
    }

    #[test]
    fn packets_are_read_as_they_were_written() {
        let question = Arp { asks: true, from: (HOST, HARDWARE), target: Ipv4Addr::new(10, 0, 0, 1) };
        let frame = question.frame([0xff; 6]);
        assert_eq!(Arp::read(&frame[ETHERNET_HEADER..]), Some(question));
        assert_eq!(frame[12..14], [8, 6]);
        let answer = Arp { asks: false, ..question };
        assert_eq!(Arp::read(&answer.frame([4; 6])[ETHERNET_HEADER..]), Some(answer));
        assert_eq!(Arp::read(&frame[ETHERNET_HEADER..40]), None);
        let odd = Arp { from: (HOST, [1, 0, 0, 0, 0, 0]), ..question };
        assert_eq!(Arp::read(&odd.frame([4; 6])[ETHERNET_HEADER..]), None);
    }
}
