//! QEMU's disks and network card below the lguest hypervisor, on every machine.

use crate::lguest::Network;
use crate::testing::case::{Case, case};
use crate::variant::Backend;

const SECTOR: usize = 512;
/// Not a power of two, and more than one request of the kernel's.
const SECTORS: usize = 1037;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ["pc", "q35", "microvm"].into_iter().map(kept).collect();
    cases.push(shared());
    // On pc it has more to do, in the group `network`.
    cases.extend(["q35", "microvm"].into_iter().map(card));
    cases
}

/// Two boots with the same images: the first one writes, the second finds it.
fn kept(machine: &str) -> Case {
    drives(&format!("lguest/drive-{machine}"))
        .machine(machine)
        .boots(2)
        .sh(&super::script(
            "test $(wc -c < /dev/vda) = 530944
            test \"$(dd if=/dev/vdb bs=17 count=1 2>/dev/null)\" = 'cannot be written'
            not dd if=/dev/zero of=/dev/vdb bs=512 count=1
            if dd if=/dev/vda bs=512 skip=1036 2>/dev/null | grep -q 'the last'; then
                head -c 530432 /dev/vda | md5sum > /found
                seq 1 110000 | head -c 530432 | md5sum | cmp - /found
                echo it was kept
            else
                seq 1 110000 | head -c 530432 | dd of=/dev/vda bs=100k conv=notrunc 2>/dev/null
                echo the last sector | dd of=/dev/vda bs=512 seek=1036 conv=notrunc,fsync
            fi",
        ))
        .prints("it was kept")
}

/// The first guest alone may write; the disk that cannot be written is everybody's.
fn shared() -> Case {
    drives("lguest/drive-for-two")
        .guests(2, "")
        .memory(32)
        .sh(&super::script(
            "for disk in /dev/vd*; do echo $disk: $(dd if=$disk bs=17 count=1 2>/dev/null | tr -d '\\0'); done",
        ))
        .prints("[0] /dev/vdb: cannot be written")
        .prints("[1] /dev/vda: cannot be written")
        .never_prints("[1] /dev/vdb")
}

/// An address by DHCP, and bytes sent to QEMU's user network and back.
fn card(machine: &str) -> Case {
    case(format!("lguest/card-{machine}"))
        .backend(Backend::Lguest)
        .machine(machine)
        .network(Network::User("restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat".into()))
        .append("ip=dhcp")
        .sh(&super::script(
            "ifconfig eth0 | grep 'inet addr:10.0.2.15 '
            head -c 200000 /bin/busybox > /tmp/sent
            nc 10.0.2.100 7 < /tmp/sent | head -c 200000 > /tmp/back
            cmp /tmp/sent /tmp/back",
        ))
}

fn drives(name: &str) -> Case {
    let mut read_only = vec![0; 8 * SECTOR];
    read_only[..17].copy_from_slice(b"cannot be written");
    case(name).backend(Backend::Lguest).image(&vec![0; SECTORS * SECTOR], false).image(&read_only, true)
}
