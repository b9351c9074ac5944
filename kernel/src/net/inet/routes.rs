//! Which way a packet goes.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::interface::{Link, Network};
use crate::errno::{Errno, KResult};

/// Most routes there may be.
const MOST: usize = 64;

/// A way to a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The network; its address has no bits beyond the prefix.
    pub to: Network,
    /// Who passes packets on; none if everybody there can be reached directly.
    pub gateway: Option<Ipv4Addr>,
    /// The interface.
    pub link: Link,
    /// Of routes to the same network the one with the lowest number is taken.
    pub metric: u32,
}

/// The routes.
#[derive(Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// Adds one.
    ///
    /// # Errors
    /// EEXIST, ENOBUFS for too many.
    pub fn add(&mut self, route: Route) -> KResult<()> {
        if self.0.contains(&route) {
            return Err(Errno::EEXIST);
        }
        if self.0.len() >= MOST || self.0.try_reserve(1).is_err() {
            return Err(Errno::ENOBUFS);
        }
        let rank = |route: &Route| (32 - route.to.prefix, route.metric);
        let at = self.0.partition_point(|other| rank(other) <= rank(&route));
        self.0.insert(at, route);
        Ok(())
    }

    /// Takes the first one away for which `unwanted` holds; says whether there was one.
    pub fn remove(&mut self, unwanted: impl Fn(&Route) -> bool) -> bool {
        let found = self.0.iter().position(unwanted);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes away all through `link`.
    pub fn remove_link(&mut self, link: Link) {
        self.0.retain(|route| route.link != link);
    }

    /// The best way to `address`.
    pub fn find(&self, address: Ipv4Addr) -> Option<&Route> {
        self.0.iter().find(|route| route.to.contains(address))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(address: [u8; 4], prefix: u8, metric: u32) -> Route {
        Route { to: Network { address: address.into(), prefix }, gateway: None, link: Link::Ethernet, metric }
    }

    #[test]
    fn the_narrowest_route_wins_and_then_the_cheapest() {
        let mut routes = Routes::default();
        let all = [
            route([0, 0, 0, 0], 0, 0),
            route([10, 0, 0, 0], 8, 5),
            route([10, 1, 0, 0], 16, 9),
            route([10, 0, 0, 0], 8, 1),
        ];
        for route in all {
            assert_eq!(routes.add(route), Ok(()));
        }
        assert_eq!(routes.add(all[2]), Err(Errno::EEXIST));
        assert_eq!(routes.find(Ipv4Addr::new(10, 1, 2, 3)), Some(&all[2]));
        assert_eq!(routes.find(Ipv4Addr::new(10, 2, 2, 3)), Some(&all[3]));
        assert_eq!(routes.find(Ipv4Addr::new(11, 2, 2, 3)), Some(&all[0]));
        assert!(routes.remove(|route| route.to.prefix == 0) && !routes.remove(|route| route.to.prefix == 0));
        assert_eq!(routes.find(Ipv4Addr::new(11, 2, 2, 3)), None);
        routes.remove_link(Link::Ethernet);
        assert_eq!(routes.iter().count(), 0);
    }
}
