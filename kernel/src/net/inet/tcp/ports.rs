//! Which sockets use which ports.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::TcpId;

/// Ports that are given to those who do not ask for one (`net.ipv4.ip_local_port_range`).
pub const CHOSEN: RangeInclusive<u16> = 32_768..=60_999;

/// The ports in use.
#[derive(Default)]
pub struct Ports {
    users: BTreeMap<u16, Vec<TcpId>>,
    of: BTreeMap<TcpId, u16>,
}

impl Ports {
    /// `id` uses `port` too.
    pub fn enter(&mut self, id: TcpId, port: u16) {
        self.users.entry(port).or_default().push(id);
        self.of.insert(id, port);
    }

    /// `id` uses none any more.
    pub fn leave(&mut self, id: TcpId) {
        let Some(port) = self.of.remove(&id) else { return };
        if let Some(users) = self.users.get_mut(&port) {
            users.retain(|&other| other != id);
            if users.is_empty() {
                self.users.remove(&port);
            }
        }
    }

    /// Those who use `port`.
    pub fn users(&self, port: u16) -> &[TcpId] {
        self.users.get(&port).map_or(&[], Vec::as_slice)
    }
}

/// The ports of [`CHOSEN`] in turn, from one that `seed` picks.
pub fn in_turn(seed: u64) -> impl Iterator<Item = u16> {
    let count = u64::from(CHOSEN.end() - CHOSEN.start()) + 1;
    (0..count).map(move |step| CHOSEN.start() + ((seed % count + step) % count) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_when_their_last_user_leaves() {
        let mut ports = Ports::default();
        ports.enter(TcpId(1), 80);
        ports.enter(TcpId(2), 80);
        assert_eq!(ports.users(80), [TcpId(1), TcpId(2)]);
        ports.leave(TcpId(1));
        ports.leave(TcpId(1));
        assert_eq!(ports.users(80), [TcpId(2)]);
        ports.leave(TcpId(2));
        assert!(ports.users(80).is_empty() && ports.users.is_empty() && ports.of.is_empty());
    }

    #[test]
    fn every_port_has_its_turn() {
        let mut all: Vec<u16> = in_turn(u64::MAX - 5).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(CHOSEN));
    }
}
