//! Virtio devices as a guest's programs see them: disks and a console, on the lguest bus.

use super::script;
use crate::testing::case::{Case, Source, case};
use crate::testing::programs::Program;
use crate::variant::{Backend, Dispatch};

const KIB: usize = 1 << 10;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![program(Dispatch::Static), program(Dispatch::Table)];
    cases.extend(SCRIPTS.iter().map(|&(name, kib, body)| disks(name, kib).sh(&script(body))));
    cases.push(
        guest("none").append("quiet").sh(&script(
            "test \"$(cat /proc/partitions | wc -l)\" -eq 2; not test -e /dev/vda; test -c /dev/hvc0
            mknod /tmp/vda b 254 0; not dd if=/tmp/vda of=/dev/null count=1 2>/tmp/why; grep -q 'No such device' /tmp/why",
        )),
    );
    cases.extend(consoles());
    cases
}

fn guest(name: &str) -> Case {
    case(format!("devices/{name}")).backend(Backend::Lguest)
}

/// A guest with an empty disk of so many KiB, and one of 64 KiB that it cannot write to.
fn disks(name: &str, kib: usize) -> Case {
    let text: Vec<u8> = (0..64 * KIB).map(|at| b'a' + (at / 512 % 26) as u8).collect();
    guest(name).disk(&vec![0; kib * KIB], false).disk(&text, true)
}

/// What the kernel promises of a block device, call by call.
fn program(dispatch: Dispatch) -> Case {
    let path = "/test/block";
    guest(&format!("block-{dispatch}"))
        .dispatch(dispatch)
        .disk(&vec![0xff; 300 * KIB], false)
        .disk(&[0x5a; 8 * KIB], true)
        .with(path, Source::Program(Program::Rust("block".to_owned())))
        .argv([path])
        .prints("passed, 0 failed\n")
        .limit(120)
}

/// Name, size of the disk in KiB, and what is done with it.
const SCRIPTS: [(&str, usize, &str); 4] = [
    (
        "dd-and-cmp",
        1024,
        "test $(wc -c < /dev/vda) -eq 1048576; seq 1 200000 | head -c 1048576 > /tmp/all
dd if=/tmp/all of=/dev/vda bs=7000 conv=fsync 2>/dev/null; cmp /tmp/all /dev/vda
dd if=/dev/vda of=/tmp/some bs=1000 skip=1001 count=33 2>/dev/null
dd if=/tmp/all bs=1000 skip=1001 count=33 2>/dev/null | cmp - /tmp/some
printf patched | dd of=/dev/vda bs=1 seek=99999 conv=notrunc 2>/dev/null
printf patched | dd of=/tmp/all bs=1 seek=99999 conv=notrunc 2>/dev/null; cmp /tmp/all /dev/vda
s=0; dd if=/dev/zero of=/dev/vda bs=64k 2>/tmp/why || s=$?; test $s -eq 1; grep -q 'No space left' /tmp/why
test \"$(tr -d '\\0' < /dev/vda | wc -c)\" -eq 0",
    ),
    (
        "tar",
        4096,
        "mkdir /tmp/t; seq 1 50000 > /tmp/t/n; head -c 700000 /dev/urandom > /tmp/t/r; cp -a /bin/busybox /tmp/t
tar cf /dev/vda -C /tmp t; sync; mkdir /tmp/out; tar xf /dev/vda -C /tmp/out
for f in n r busybox; do cmp /tmp/t/$f /tmp/out/t/$f; done; test -x /tmp/out/t/busybox",
    ),
    (
        "read-only",
        64,
        "test \"$(dd if=/dev/vdb bs=512 skip=3 count=1 2>/dev/null | tr -d d | wc -c)\" -eq 0; before=$(md5sum < /dev/vdb)
s=0; dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/tmp/why || s=$?; test $s -eq 1; grep -q 'not permitted' /tmp/why
test \"$(md5sum < /dev/vdb)\" = \"$before\"; test \"$(blockdev --getro /dev/vdb)\" = 1
test \"$(blockdev --getsz /dev/vdb)\" = 128; test \"$(blockdev --getro /dev/vda)\" = 0; blockdev --flushbufs /dev/vda",
    ),
    (
        "many-at-once",
        2048,
        "for i in 0 1 2 3 4 5 6 7; do
(yes block$i | head -c 262144 > /tmp/$i; dd if=/tmp/$i of=/dev/vda bs=4k seek=$((i * 64)) conv=notrunc 2>/dev/null
dd if=/dev/vda bs=4k skip=$((i * 64)) count=64 2>/dev/null | cmp - /tmp/$i && touch /tmp/same$i) & done; wait
for i in 0 1 2 3 4 5 6 7; do test -e /tmp/same$i; done; cat /tmp/[0-7] > /tmp/all
dd if=/dev/vda bs=4k count=512 2>/dev/null | cmp - /tmp/all",
    ),
];

/// A shell on the device, and one on the platform's console beside it.
fn consoles() -> [Case; 5] {
    let shell = |name: &str| {
        guest(name).append("console=hvc0").argv(["setsid", "-c", "/bin/sh", "-i"]).wait_for("# ")
    };
    [
        shell("console-shell")
            .type_in("tty; echo $((6 * 7))\n")
            .wait_for("42")
            .wait_for("# ")
            .type_in("echo wrong\x15echo r\x7fright\n")
            .wait_for("\nright")
            .wait_for("# ")
            .type_in("sh -c 'echo run\"\"ning; exec sleep 1000'\n")
            .wait_for("running")
            .type_in("\x03")
            .wait_for("# ")
            .type_in("echo $?; exit 3\n")
            .wait_for("130")
            .exits(3)
            .never_prints("job control turned off"),
        shell("console-table")
            .dispatch(Dispatch::Table)
            .type_in("readlink /proc/self/fd/0; stat -c %t:%T /dev/hvc0; exit 5\n")
            .wait_for("e5:0")
            .exits(5),
        guest("console-long-output")
            .append("console=hvc0")
            .sh("seq 1 20000; echo end")
            .prints("\n19999\n20000\nend\n"),
        // Input goes to the device from when its terminal is open; the other console still prints.
        guest("console-beside-the-other")
            .sh("exec 3<> /dev/hvc0; echo ready; read line <&3; echo got $line; echo $line again >&3")
            .wait_for("ready")
            .type_in("word\n")
            .prints("got word\n")
            .prints("word again\n"),
        // And no longer than that, or nobody could type into the shell any more.
        guest("console-given-back")
            .argv(["setsid", "-c", "/bin/sh", "-i"])
            .wait_for("# ")
            .type_in("seq 1 2000 > /dev/hvc0; : < /dev/hvc0; echo do\"\"ne\n")
            .wait_for("\n2000")
            .wait_for("done")
            .type_in("exit 4\n")
            .exits(4),
    ]
}
