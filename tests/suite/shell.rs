//! busybox's shell and its usual applets, and bash, doing what people do with them.

use super::script;
use crate::installer::BASH;
use crate::testing::case::{Case, Source, case};

/// Name and script; a script fails with its first failing command.
const SCRIPTS: &[(&str, &str)] = &[
    ("uname", "test \"$(uname -m)\" = x86_64; uname -a"),
    (
        "files",
        "cd /tmp; mkdir -p a/b/c; echo one > a/b/c/f; cp -a a d; mv d/b d/e; test \"$(cat d/e/c/f)\" = one
ln -s a/b/c/f link; test \"$(readlink link)\" = a/b/c/f; test \"$(cat link)\" = one; ln a/b/c/f hard
test $(stat -c %h hard) -eq 2; chmod 640 hard; test $(stat -c %a hard) = 640; touch -d '2001-02-03 04:05:06' hard
test \"$(date -u -r hard +%Y-%m-%d)\" = 2001-02-03; rm -r a d; not test -e a; test \"$(cat hard)\" = one
not cat link 2>/dev/null; rmdir /tmp/nothing 2>/dev/null && exit 1; ls -la /tmp | grep -q hard",
    ),
    (
        "text",
        "seq 1 1000 > /tmp/n; test $(grep -c 7 /tmp/n) -eq 271; test $(sed -n 's/^5\\(..\\)$/\\1/p' /tmp/n | wc -l) -eq 100
test $(awk '{ s += $1 } END { print s }' /tmp/n) -eq 500500; test \"$(sort -rn /tmp/n | head -n 1)\" = 1000
test \"$(tail -n 1 /tmp/n | tr 0 x | cut -c1-2)\" = 1x; test $(sort /tmp/n | uniq | wc -l) -eq 1000
test $(printf 'b\\na\\n' | sort | head -n 1) = a",
    ),
    (
        "find-and-xargs",
        "cd /tmp; for i in $(seq 1 50); do mkdir -p d$((i % 5)); echo $i > d$((i % 5))/f$i; done
test $(find . -type f -name 'f*' | wc -l) -eq 50; test $(find . -type f | xargs cat | wc -l) -eq 50
find . -type f -exec rm {} +; test $(find . -type f | wc -l) -eq 0",
    ),
    (
        "tar-and-gzip",
        "cd /tmp; mkdir t; seq 1 20000 > t/n; dd if=/dev/urandom of=t/r bs=64k count=4 2>/dev/null
sum=$(cat t/n t/r | md5sum); tar czf t.tar.gz t; rm -r t; tar xzf t.tar.gz; test \"$(cat t/n t/r | md5sum)\" = \"$sum\"
gzip -9 < t/n > n.gz; test $(wc -c < n.gz) -lt $(wc -c < t/n); gunzip < n.gz | cmp - t/n",
    ),
    (
        "dd",
        "cd /tmp; dd if=/dev/zero of=z bs=4096 count=256 2>/dev/null; test $(stat -c %s z) -eq 1048576
printf abc | dd of=z bs=1 seek=1000 conv=notrunc 2>/dev/null; test \"$(dd if=z bs=1 skip=1000 count=3 2>/dev/null)\" = abc
test $(stat -c %s z) -eq 1048576; dd if=z of=/dev/null bs=1M 2>/dev/null",
    ),
    (
        "pipelines",
        "test $(yes | head -n 5000 | wc -l) -eq 5000; test $(seq 1 30000 | cat | cat | cat | tail -n 1) -eq 30000
{ echo a; echo b >&2; } 2>&1 | sort | tr -d '\\n' | grep -qx ab; if false | false; then exit 1; fi; mkfifo /tmp/p
(echo through > /tmp/p) & test \"$(cat /tmp/p)\" = through; wait",
    ),
    (
        "here-documents-and-subshells",
        "v=out; (v=in; test $v = in); test $v = out; test \"$(cat <<X
$v and $(echo inner)
X
)\" = 'out and inner'; f() { return 3; }; f || test $? -eq 3; test \"$(eval echo '$v')\" = out",
    ),
    (
        "background-jobs",
        "sleep 100 & a=$!; sleep 100 & b=$!; kill $a; s=0; wait $a || s=$?; test $s -eq 143; kill -0 $b; kill -9 $b
s=0; wait $b || s=$?; test $s -eq 137; not kill -0 $b 2>/dev/null; (exit 7) & s=0; wait $! || s=$?; test $s -eq 7",
    ),
    (
        "traps",
        "test \"$(sh -c 'trap \"echo caught\" USR1; kill -USR1 $$; echo after' | tr '\\n' ' ')\" = 'caught after '
test \"$(sh -c 'trap \"echo bye\" EXIT; exit 0')\" = bye
s=0; sh -c 'trap \"\" TERM; kill $$; exit 4' || s=$?; test $s -eq 4",
    ),
    (
        "job-control",
        "set -m; sleep 100 & kill -STOP %1; jobs > /tmp/j; kill -CONT %1; kill %1; wait 2>/dev/null || true
sh -c 'kill -STOP $$; exit 9' & p=$!; while ! grep -q '^State:.T' /proc/$p/status; do :; done
kill -CONT $p; s=0; wait $p || s=$?; test $s -eq 9",
    ),
    (
        "processes",
        "cp /bin/busybox /tmp/sleep; /tmp/sleep 100 & p=$!; until test \"$(cat /proc/$p/comm)\" = sleep; do :; done
ps | grep -q '[/]tmp/sleep 100'; test \"$(tr '\\0' ' ' < /proc/$p/cmdline)\" = '/tmp/sleep 100 '
test \"$(readlink /proc/$p/exe)\" = /tmp/sleep; kill $p; s=0; wait $p || s=$?; test $s -eq 143; not test -d /proc/$p",
    ),
    (
        "proc-files",
        "free > /tmp/f; grep -q Mem /tmp/f; mount | grep -q ' /proc '; uptime; top -b -n 1 > /tmp/t; grep -q CPU /tmp/t
df > /dev/null; grep -q MemFree /proc/meminfo; grep -q Linux /proc/version; cat /proc/stat | grep -q ^cpu0",
    ),
    (
        "time",
        "a=$(date +%s); test $a -gt 1700000000; sleep 0.2; time -p true 2>&1 | grep -q real; b=$(date +%s)
test $((b - a)) -lt 30; s=0; timeout 1 sleep 100 || s=$?; test $s -eq 143",
    ),
    (
        "mounts",
        "mkdir /tmp/m; mount -t tmpfs tmpfs /tmp/m; echo x > /tmp/m/f; mount | grep -q ' /tmp/m '; umount /tmp/m
not test -e /tmp/m/f; s=0; mount -t nosuchfs none /tmp/m 2>/dev/null || s=$?; test $s -ne 0",
    ),
    ("devices", "test -z \"$(cat /dev/null)\"; echo x > /dev/null; test $(head -c 1000 /dev/zero | tr -d '\\0' | wc -c) -eq 0
test \"$(head -c 16 /dev/urandom | md5sum)\" != \"$(head -c 16 /dev/urandom | md5sum)\"; test -c /dev/console"),
    (
        "chroot-and-links",
        "mkdir -p /tmp/r/bin; cp /bin/busybox /tmp/r/bin/; ln -s busybox /tmp/r/bin/sh; test \"$(chroot /tmp/r /bin/sh -c 'echo /*')\" = /bin
ln -s loop /tmp/loop; not cat /tmp/loop 2>/dev/null; cd /tmp/r/bin; test \"$(pwd)\" = /tmp/r/bin; cd -P ..; test \"$(pwd)\" = /tmp/r",
    ),
    ("hundred-processes", "i=0; while [ $i -lt 100 ]; do sleep 0.5 & i=$((i + 1)); done; wait; echo $i"),
    (
        "errors",
        "s=0; /nosuch 2>/dev/null || s=$?; test $s -eq 127; s=0; /tmp 2>/dev/null || s=$?; test $s -eq 126
not cat /nosuch 2>/dev/null; not mkdir /tmp 2>/dev/null; not rmdir / 2>/dev/null; not cd /bin/busybox 2>/dev/null; not ls /bin/busybox/x 2>/dev/null",
    ),
];

/// Scripts that bash runs.
const BASH_SCRIPTS: &[(&str, &str)] = &[
    (
        "arrays-and-arithmetic",
        "a=(one two three); [[ ${#a[@]} -eq 3 && ${a[1]} == two ]]; (( 6 * 7 == 42 )); declare -A m; m[k]=v; [[ ${m[k]} == v ]]",
    ),
    ("process-substitution", "diff <(seq 1 5) <(seq 1 5); [[ $(cat < <(echo hi)) == hi ]]"),
    (
        "here-strings-and-regex",
        "read -r a b <<< 'x y'; [[ $b == y ]]; [[ abc123 =~ ([0-9]+)$ ]]; [[ ${BASH_REMATCH[1]} == 123 ]]",
    ),
    (
        "pipelines-and-status",
        "set +e; false | true; [[ ${PIPESTATUS[0]} -eq 1 ]] || exit 1; set -o pipefail; false | true && exit 1; exit 0",
    ),
    (
        "coprocess-and-jobs",
        "coproc C { cat; }; echo ping >&${C[1]}; read -r x <&${C[0]}; [[ $x == ping ]]; exec {C[1]}>&-; sleep 100 & kill %2 2>/dev/null || kill $!; wait || true",
    ),
    (
        "traps",
        "trap 'got=1' USR1; kill -USR1 $BASHPID; [[ $got -eq 1 ]]; [[ $(trap 'echo e' EXIT; exit 0) == e ]]",
    ),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        SCRIPTS.iter().map(|(name, body)| case(format!("shell/{name}")).sh(&script(body)).cpus(2)).collect();
    let bash = BASH.find().unwrap_or_else(|| "/bin/bash-static".into());
    for (name, body) in BASH_SCRIPTS {
        let body = script(body);
        cases.push(
            case(format!("bash/{name}"))
                .with("/bin/bash", Source::Host(bash.clone()))
                .argv(["bash", "-c", &body])
                .cpus(2),
        );
    }
    // The demonstration of the README.
    cases.push(
        case("shell/as-in-the-readme")
            .sh("uname -a; ls -l /; ps")
            .prints("x86_64")
            .never_prints("No such file"),
    );
    cases
}
