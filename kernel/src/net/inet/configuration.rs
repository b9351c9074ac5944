//! The address that the boot parameter `ip=` gives or asks for, spelled as Linux spells it:
//! `client:server:gateway:mask:host:device:method:name server:name server`, all of which may be missing, or a method alone.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use platform::Nanoseconds;

use super::dhcp::Dhcp;
use super::interface::{Link, Network};
use super::routes::Route;
use super::service::{wait_for_lease, with};
use super::stack::Stack;
use super::wire::Wire;
use crate::boot::parameters::command_line;
use crate::errno::{Errno, KResult};
use crate::fs::proc::text::{Text, put};
use crate::random;

/// How long the boot waits for an address.
const PATIENCE: Nanoseconds = Nanoseconds::from_seconds(20);

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Configuration {
    /// Nothing.
    Off,
    /// An address from whoever gives them out.
    Dhcp,
    /// This one.
    Fixed(Fixed),
}

/// An address and what goes with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixed {
    /// The address.
    pub network: Network,
    /// Who passes packets on to elsewhere.
    pub gateway: Option<Ipv4Addr>,
    /// Who knows names.
    pub name_servers: Vec<Ipv4Addr>,
}

/// Reads the parameter's value; none if it makes no sense.
pub fn parse(value: &[u8]) -> Option<Configuration> {
    let value = core::str::from_utf8(value).ok()?;
    let method = |word| match word {
        "off" | "none" => Some(Configuration::Off),
        "" | "on" | "any" | "dhcp" | "both" | "bootp" => Some(Configuration::Dhcp),
        _ => None,
    };
    if !value.contains([':', '.']) {
        return method(value);
    }
    let mut fields = value.split(':');
    let mut next = || fields.next().unwrap_or("");
    let [client, _server, gateway, mask, _host, device, how, first, second] =
        core::array::from_fn(|_| next());
    if !device.is_empty() && device != Link::Ethernet.name() {
        return None;
    }
    let how = method(how)?;
    let address = |text: &str| match text {
        "" => Some(None),
        text => text.parse::<Ipv4Addr>().ok().map(Some),
    };
    let Some(client) = address(client)?.filter(|client| !client.is_unspecified()) else { return Some(how) };
    let network = match address(mask)? {
        Some(mask) => Network { address: client, prefix: Network::prefix_of(mask)? },
        None => Network::by_class(client),
    };
    let gateway = address(gateway)?.filter(|gateway| !gateway.is_unspecified());
    let name_servers = [address(first)?, address(second)?].into_iter().flatten().collect();
    Some(Configuration::Fixed(Fixed { network, gateway, name_servers }))
}

/// Does what the boot parameter says, and waits for an address if it is to be given one. Context: a task.
pub fn configure() {
    let Some(value) = command_line().value("ip") else { return };
    let Some(configuration) = parse(value) else {
        log::warn!("boot parameter ip={} makes no sense", value.escape_ascii());
        return;
    };
    if configuration == Configuration::Off {
        return;
    }
    let waits = configuration == Configuration::Dhcp;
    if let Err(error) = with(|stack| apply(stack, configuration)) {
        log::warn!("eth0 cannot be set up as ip= says: {error}");
    } else if waits && !wait_for_lease(PATIENCE) {
        log::warn!("eth0: nobody has given an address yet; it is still asked for");
    }
}

/// Sets the Ethernet up.
///
/// # Errors
/// ENODEV, ENETUNREACH for a gateway that is elsewhere.
fn apply<W: Wire>(stack: &mut Stack<W>, configuration: Configuration) -> KResult<()> {
    let hardware = stack.links.get(Link::Ethernet).ok_or(Errno::ENODEV)?.hardware;
    match configuration {
        Configuration::Off => {}
        Configuration::Dhcp => {
            stack.links.set_up(Link::Ethernet, true)?;
            stack.dhcp = Some(Dhcp::new(hardware, stack.time(), random::u64()));
            stack.run();
        }
        Configuration::Fixed(fixed) => {
            let Network { address, prefix } = fixed.network;
            stack.links.set_network(Link::Ethernet, Some(fixed.network))?;
            stack.links.set_up(Link::Ethernet, true)?;
            if let Some(gateway) = fixed.gateway {
                if !fixed.network.contains(gateway) {
                    return Err(Errno::ENETUNREACH);
                }
                let (gateway, link) = (Some(gateway), Link::Ethernet);
                stack.links.routes.add(Route { to: Network::ALL, gateway, link, metric: 0 })?;
            }
            log::info!("eth0: {address}/{prefix} by ip=");
            stack.name_servers = fixed.name_servers;
        }
    }
    Ok(())
}

/// Writes `/proc/net/pnp`.
pub fn describe(out: &mut Text, stack: &Stack<crate::devices::network::Network>) {
    let lease = stack.dhcp.as_ref().and_then(|dhcp| dhcp.lease.as_ref());
    let method = if stack.dhcp.is_some() { "PROTO: DHCP" } else { "MANUAL" };
    put!(out, "#{method}\n");
    let name_servers = lease.map_or(&stack.name_servers, |lease| &lease.name_servers);
    for server in name_servers {
        put!(out, "nameserver {server}\n");
    }
    if let Some(lease) = lease {
        put!(out, "bootserver {}\n", lease.server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(address: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>, names: &[[u8; 4]]) -> Configuration {
        Configuration::Fixed(Fixed {
            network: Network { address: address.into(), prefix },
            gateway: gateway.map(Ipv4Addr::from),
            name_servers: names.iter().copied().map(Ipv4Addr::from).collect(),
        })
    }

    #[test]
    fn the_parameter_is_read_as_linux_reads_it() {
        let parse = |text: &str| parse(text.as_bytes());
        for dhcp in ["dhcp", "on", "any", "", ":::::eth0:dhcp", "::::::dhcp", ":::::eth0"] {
            assert_eq!(parse(dhcp), Some(Configuration::Dhcp), "{dhcp}");
        }
        for off in ["off", "none", ":::::eth0:off"] {
            assert_eq!(parse(off), Some(Configuration::Off), "{off}");
        }
        let whole = "10.0.2.15::10.0.2.2:255.255.255.0:host:eth0:off:10.0.2.3:8.8.8.8";
        let names = [[10, 0, 2, 3], [8, 8, 8, 8]];
        assert_eq!(parse(whole), Some(fixed([10, 0, 2, 15], 24, Some([10, 0, 2, 2]), &names)));
        assert_eq!(parse("10.0.0.7"), Some(fixed([10, 0, 0, 7], 8, None, &[])));
        assert_eq!(parse("192.168.7.9:::255.255.0.0::eth0"), Some(fixed([192, 168, 7, 9], 16, None, &[])));
        for bad in
            ["dhpc", "10.0.0", "10.0.0.7:::255.0.255.0", "10.0.0.7:::::eth1", "10.0.0.7::x", ":::::eth0:rarp"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
