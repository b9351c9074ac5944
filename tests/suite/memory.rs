//! Little memory, and none left: what asks for it is told or ended, the others go on.

use super::script;
use crate::testing::case::{Case, Source, case};
use crate::testing::programs::Program;

/// `body` as a script of process 1 on a machine of `mib` MiB.
fn on(mib: u32, name: &str, body: &str) -> Case {
    case(format!("memory/{name}")).memory(mib).sh(&script(body)).limit(120)
}

/// The bomb ends when it cannot fork or is killed; the memory of what it left comes back.
fn fork_bomb(cpus: u16) -> Case {
    on(
        32,
        &format!("fork-bomb-{cpus}cpu"),
        // Only what the shell does itself can be relied on while those that were killed still end.
        "free() { { read -r name total unit; read -r name free unit; } < /proc/meminfo; }
free; before=$free; not sh -c 'while :; do sleep 1000 & done'; kill -9 -1
until free 2>/dev/null && test $free -gt $((before - 512)); do :; done; wait; echo still here",
    )
    .cpus(cpus)
    .prints("still here")
}

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        on(16, "shell-in-16-mib", "free; ls -l / | wc -l; ps | grep -q '[p]s'; echo alive").prints("alive"),
        on(
            32,
            "more-touched-than-there-is",
            "sleep 1000 & p=$!; s=0; tail /dev/zero || s=$?; test $s -eq 137; kill -0 $p; echo others live",
        )
        .prints("out of memory: killed tail[")
        .prints("others live"),
        on(
            32,
            "two-that-touch-too-much",
            "sleep 1000 & p=$!; tail /dev/zero & a=$!; tail /dev/zero & b=$!
s=0; wait $a || s=$?; test $s -eq 137; s=0; wait $b || s=$?; test $s -eq 137; kill -0 $p; echo others live",
        )
        .cpus(2)
        .prints("others live"),
        // All at once, on a CPU each: whoever finds no memory picks a victim, and may be one.
        on(
            48,
            "six-that-touch-too-much",
            "sleep 1000 & p=$!; for n in 1 2 3 4 5 6; do tail /dev/zero & a=\"$a $!\"; done
for n in $a; do s=0; wait $n || s=$?; test $s -eq 137; done; kill -0 $p; echo others live",
        )
        .cpus(4)
        .prints("others live"),
        fork_bomb(1),
        fork_bomb(2),
        fork_bomb(4),
        on(
            32,
            "full-file-system",
            "s=0; why=$(dd if=/dev/zero of=/tmp/f bs=64k 2>&1) || s=$?; test $s -eq 1; echo \"$why\" | grep -q 'No space left'
mkdir /t; mount -t ramfs none /t; not dd if=/dev/zero of=/t/f bs=64k
free; ls /tmp; rm /tmp/f /t/f; echo more > /tmp/g; test \"$(cat /tmp/g)\" = more
mkdir /n; mount -t tmpfs -o nr_inodes=100 none /n; i=0; while mkdir /n/d$i 2>/tmp/why; do i=$((i + 1)); done
grep -q 'No space left' /tmp/why; test $i -ge 98; echo brim",
        )
        .prints("brim"),
        // What system calls need in passing runs out too.
        case("memory/polls-without-memory")
            .memory(32)
            .cpus(2)
            .with("/test/hoard", Source::Program(Program::Rust("hoard".to_owned())))
            .argv(["/test/hoard"])
            .limit(120)
            .prints("all others live"),
    ]
}
