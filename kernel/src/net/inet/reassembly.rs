//! Packets that come in parts.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use platform::Nanoseconds;
use smoltcp::wire::{IpProtocol, Ipv4Packet};

use super::links::LONGEST_PACKET;
use crate::mm::frames;

/// Most packets that are put together at a time.
const MOST: usize = 16;
/// How long the parts of a packet may take (`net.ipv4.ipfrag_time`).
const PATIENCE: Nanoseconds = Nanoseconds::from_seconds(30);
const HEADER: usize = 20;

/// What the parts of a packet have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: IpProtocol,
    identification: u16,
}

struct Incomplete {
    key: Key,
    deadline: Nanoseconds,
    /// The header, and room for what has come of the rest.
    bytes: Vec<u8>,
    /// Which bytes of the rest have come: ranges that do not touch, in order.
    come: Vec<(usize, usize)>,
    /// Bytes of the rest, once the last part has come.
    whole: Option<usize>,
}

/// The packets of which parts are missing.
#[derive(Default)]
pub struct Reassembly(Vec<Incomplete>);

impl Reassembly {
    /// Adds a part, whose lengths are right; returns the packet if it was the last that was missing.
    pub fn add(&mut self, now: Nanoseconds, packet: &Ipv4Packet<&[u8]>) -> Option<Vec<u8>> {
        let key = Key {
            from: packet.src_addr(),
            to: packet.dst_addr(),
            protocol: packet.next_header(),
            identification: packet.ident(),
        };
        let index = match self.0.iter().position(|other| other.key == key) {
            Some(index) => index,
            None => self.begin(now, key)?,
        };
        let taken = self.0[index].take(packet);
        if taken.is_none() || self.0[index].is_whole() {
            let incomplete = self.0.swap_remove(index);
            // What makes no sense or what there is no room for is no use in part.
            return taken.and(incomplete.finish());
        }
        None
    }

    fn begin(&mut self, now: Nanoseconds, key: Key) -> Option<usize> {
        if self.0.len() >= MOST {
            let oldest = (0..self.0.len()).min_by_key(|&index| self.0[index].deadline)?;
            self.0.swap_remove(oldest);
        }
        if frames::is_short() {
            return None;
        }
        self.0.try_reserve(1).ok()?;
        let deadline = now + PATIENCE;
        self.0.push(Incomplete { key, deadline, bytes: Vec::new(), come: Vec::new(), whole: None });
        Some(self.0.len() - 1)
    }

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        self.0.iter().map(|incomplete| incomplete.deadline).min()
    }

    /// Forgets what is late by now.
    pub fn expire(&mut self, now: Nanoseconds) {
        self.0.retain(|incomplete| incomplete.deadline > now);
    }
}

impl Incomplete {
    /// Takes a part; none if it contradicts the others.
    fn take(&mut self, packet: &Ipv4Packet<&[u8]>) -> Option<()> {
        let part = packet.payload();
        let start = usize::from(packet.frag_offset());
        let end = start + part.len();
        let more = packet.more_frags();
        let too_long = HEADER + end > LONGEST_PACKET || self.whole.is_some_and(|whole| end > whole);
        let odd = part.is_empty() || (more && !part.len().is_multiple_of(8));
        let shorter = !more && self.come.last().is_some_and(|&(_, last)| last > end);
        if too_long || odd || shorter {
            return None;
        }
        if !more {
            self.whole = Some(end);
        }
        if self.bytes.len() < HEADER + end {
            let missing = HEADER + end - self.bytes.len();
            self.bytes.try_reserve(missing).ok()?;
            self.bytes.resize(HEADER + end, 0);
        }
        if start == 0 {
            let header: &[u8] = packet.as_ref();
            self.bytes[..HEADER].copy_from_slice(&header[..HEADER]);
        }
        self.bytes[HEADER + start..HEADER + end].copy_from_slice(part);
        self.come.try_reserve(1).ok()?;
        self.come.push((start, end));
        self.come.sort_unstable();
        self.come.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        Some(())
    }

    fn is_whole(&self) -> bool {
        self.whole.is_some_and(|whole| self.come == [(0, whole)])
    }

    /// The packet, with a header that says so; none if a part is missing.
    fn finish(mut self) -> Option<Vec<u8>> {
        let whole = self.whole.filter(|_| self.is_whole())?;
        let mut packet = Ipv4Packet::new_unchecked(&mut self.bytes[..]);
        packet.set_header_len(HEADER as u8);
        packet.set_total_len((HEADER + whole) as u16);
        packet.clear_flags();
        packet.set_frag_offset(0);
        packet.fill_checksum();
        Some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;

    use super::*;

    fn part(payload: &[u8], offset: usize, more: bool) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + payload.len()];
        bytes[HEADER..].copy_from_slice(payload);
        let total = bytes.len() as u16;
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(4);
        packet.set_header_len(HEADER as u8);
        packet.set_total_len(total);
        packet.set_ident(7);
        packet.clear_flags();
        packet.set_more_frags(more);
        packet.set_frag_offset(offset as u16);
        packet.set_next_header(IpProtocol::Udp);
        packet.fill_checksum();
        bytes
    }

    fn add(all: &mut Reassembly, bytes: &[u8]) -> Option<Vec<u8>> {
        all.add(Nanoseconds::ZERO, &Ipv4Packet::new_checked(bytes).unwrap())
    }

    proptest! {
        #[test]
        fn parts_make_the_packet_in_any_order(
            length in 1usize..4000,
            step in 1usize..100,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..600),
        ) {
            let payload: Vec<u8> = (0..length).map(|index| (index * 7 % 251) as u8).collect();
            let step = step * 8;
            let mut parts: Vec<Vec<u8>> = payload
                .chunks(step)
                .enumerate()
                .map(|(index, bytes)| part(bytes, index * step, (index + 1) * step < length))
                .collect();
            let mut all = Reassembly::default();
            let mut result = None;
            for (count, index) in order.iter().enumerate().take(parts.len()) {
                let other = index.index(parts.len());
                parts.swap(count, other);
            }
            for part in &parts {
                prop_assert!(result.is_none());
                result = add(&mut all, part);
            }
            let whole = result.unwrap();
            let packet = Ipv4Packet::new_checked(&whole[..]).unwrap();
            prop_assert!(packet.verify_checksum() && !packet.more_frags());
            prop_assert_eq!(packet.payload(), &payload[..]);
            prop_assert!(all.deadline().is_none());
        }
    }

    #[test]
    fn what_contradicts_itself_is_dropped() {
        let mut all = Reassembly::default();
        assert_eq!(add(&mut all, &part(&[1; 16], 16, false)), None);
        assert_eq!(add(&mut all, &part(&[1; 16], 24, true)), None);
        assert!(all.0.is_empty(), "beyond the end");
        assert_eq!(add(&mut all, &part(&[1; 9], 0, true)), None);
        assert!(all.0.is_empty(), "no multiple of eight");
        assert_eq!(add(&mut all, &part(&[1; 32], 65_504, false)), None);
        assert!(all.0.is_empty(), "too long");
    }

    #[test]
    fn what_is_late_is_forgotten() {
        let mut all = Reassembly::default();
        add(&mut all, &part(&[1; 8], 0, true));
        assert_eq!(all.deadline(), Some(PATIENCE));
        all.expire(PATIENCE);
        assert!(all.0.is_empty());
    }
}
