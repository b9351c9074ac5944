//! Internet sockets: over the loopback interface, between guests, and to QEMU's user network.

use std::path::Path;

use super::script;
use crate::lguest::Network;
use crate::testing::case::{Case, Source, case};
use crate::testing::programs::Program;
use crate::variant::{Backend, Dispatch};
use crate::workspace::Workspace;

/// The cases.
pub fn cases(workspace: &Workspace) -> Vec<Case> {
    vec![
        program("program-inet", Dispatch::Static),
        program("program-inet-table", Dispatch::Table),
        without_devices(),
        fixed_address(),
        quiet(),
        between_guests(),
        user_network(&workspace.root),
    ]
}

fn network(name: &str) -> Case {
    case(format!("network/{name}")).backend(Backend::Lguest)
}

/// Everything over the loopback interface.
fn program(name: &str, dispatch: Dispatch) -> Case {
    network(name)
        .dispatch(dispatch)
        .memory(128)
        .with("/test/inet", Source::Program(Program::Rust("inet".to_owned())))
        .argv(["/test/inet"])
        .limit(180)
        .prints("passed, 0 failed\n")
}

/// On a platform without devices there are no such sockets.
fn without_devices() -> Case {
    case("network/none-on-native").append("ip=dhcp").sh(&script(
        "not ping -c 1 127.0.0.1 2> /tmp/error\n\
         grep 'Address family not supported' /tmp/error",
    ))
}

/// An address by `ip=`; what `ifconfig`, `route`, `ping` and `netstat` make of it.
fn fixed_address() -> Case {
    network("fixed-address")
        .network(Network::Guests)
        .append("ip=10.0.0.7::10.0.0.1:255.255.255.0::eth0:off:10.0.0.3")
        .sh(&script(
            "ifconfig > /tmp/all\n\
             grep 'inet addr:10.0.0.7  Bcast:10.0.0.255  Mask:255.255.255.0' /tmp/all\n\
             grep 'inet addr:127.0.0.1  Mask:255.0.0.0' /tmp/all\n\
             grep 'HWaddr 52:54:00:6C:67:00' /tmp/all\n\
             grep 'nameserver 10.0.0.3' /proc/net/pnp\n\
             route -n | grep '^0.0.0.0 *10.0.0.1 *0.0.0.0 *UG .* eth0$'\n\
             route add -net 10.9.0.0 netmask 255.255.0.0 gw 10.0.0.2\n\
             route -n | grep '^10.9.0.0 *10.0.0.2 *255.255.0.0 *UG .* eth0$'\n\
             route del -net 10.9.0.0 netmask 255.255.0.0\n\
             not route add -net 10.9.0.0 netmask 255.255.0.0 gw 10.8.0.2\n\
             ping -c 2 10.0.0.7\n\
             ping -c 1 127.1.2.3\n\
             not ping -c 1 -W 1 10.0.0.99\n\
             ifconfig eth0 192.168.3.4\n\
             ifconfig eth0 | grep 'inet addr:192.168.3.4  Bcast:192.168.3.255  Mask:255.255.255.0'\n\
             not ping -c 1 10.0.0.7\n\
             ifconfig eth0 down\n\
             ifconfig | grep eth0 && exit 1\n\
             ifconfig -a | grep eth0\n\
             ifconfig lo down\n\
             not ping -c 1 -W 1 127.0.0.1",
        ))
}

/// A guest with an open connection that nobody uses sleeps.
fn quiet() -> Case {
    network("quiet").network(Network::Guests).append("ip=10.0.0.7").sh(&script(
        "interrupts() { awk '/^ALL:/ { print $2 }' /proc/interrupts; }\n\
         (sleep 100 | nc -l -p 99) &\n\
         until grep -q ':0063 .* 0A ' /proc/net/tcp; do :; done\n\
         (sleep 100 | nc 10.0.0.7 99) &\n\
         until grep -q ':0063 .* 01 ' /proc/net/tcp; do :; done\n\
         sleep 1\n\
         before=$(interrupts)\n\
         sleep 2\n\
         after=$(interrupts)\n\
         echo \"$((after - before)) interrupts\"\n\
         [ $((after - before)) -le 20 ]\n\
         grep ':0063 .* 01 ' /proc/net/tcp",
    ))
}

/// Two guests of one hypervisor: one fetches from the other, which is there when it answers.
fn between_guests() -> Case {
    network("two-guests")
        .guests(2, "")
        .network(Network::Guests)
        .sh(&script(
            "case $(ifconfig eth0) in *67:00*) number=0 ;; *) number=1 ;; esac\n\
             ifconfig eth0 10.0.0.$((number + 1)) netmask 255.255.255.0\n\
             head -c 1000000 /bin/busybox > /tmp/sent\n\
             cat /tmp/sent /tmp/sent > /tmp/data\n\
             if [ $number = 0 ]; then\n\
             nc -l -p 99 > /tmp/got\n\
             cmp /tmp/data /tmp/got && echo arrived whole\n\
             grep '10.0.0.2 .*0x2 .*52:54:00:6c:67:01' /proc/net/arp && echo neighbour known\n\
             else\n\
             until ping -c 1 -W 1 10.0.0.1 > /dev/null; do :; done\n\
             until nc 10.0.0.1 99 < /tmp/data; do :; done\n\
             fi",
        ))
        .prints("[0] arrived whole")
        .prints("[0] neighbour known")
        .prints("guest 0: exit 0")
        .prints("guest 1: exit 0")
}

/// An address by DHCP, then what QEMU's user network has to offer without a network beyond it: an answer to `ping`, a
/// file by HTTP, and bytes sent back.
fn user_network(root: &Path) -> Case {
    let directory = root.display().to_string().replace(',', ",,");
    let options = format!(
        "guestfwd=tcp:10.0.2.100:80-cmd:busybox httpd -i -h '{directory}',guestfwd=tcp:10.0.2.100:7-cmd:cat"
    );
    network("user-dhcp")
        .dispatch(Dispatch::Table)
        .network(Network::User(options))
        .append("ip=dhcp")
        .with("/expected", Source::Host(root.join("README.md")))
        .sh(&script(
            "ifconfig eth0 | grep 'inet addr:10.0.2.15 '\n\
             grep '^#PROTO: DHCP' /proc/net/pnp\n\
             grep '^nameserver 10.0.2.3' /proc/net/pnp\n\
             route -n | grep '^0.0.0.0 *10.0.2.2 '\n\
             ping -c 2 10.0.2.2\n\
             wget -q -O /tmp/got http://10.0.2.100/README.md\n\
             cmp /expected /tmp/got\n\
             head -c 300000 /bin/busybox > /tmp/sent\n\
             nc 10.0.2.100 7 < /tmp/sent | head -c 300000 > /tmp/back\n\
             cmp /tmp/sent /tmp/back",
        ))
}
