# Checks for the shell scripts; sourced by each of them. The first check that fails prints why and exits with 1.
# Works in busybox's sh and in bash.

fail() {
    echo "FAIL $*"
    exit 1
}

# same WHAT GOT EXPECTED
same() {
    [ "$2" = "$3" ] || fail "$1: got '$2', expected '$3'"
    passed=$((passed + 1))
}

# true_ COMMAND...: it must succeed
true_() {
    "$@" || fail "$*: status $?"
    passed=$((passed + 1))
}

# false_ COMMAND...: it must fail
false_() {
    if "$@" 2>/dev/null; then
        fail "$*: succeeded"
    fi
    passed=$((passed + 1))
}

# A directory of our own, removed at the end.
begin() {
    passed=0
    [ -d /proc/self ] || { mkdir -p /proc && mount -t proc proc /proc; }
    [ -e /dev/urandom ] || mount -t devtmpfs dev /dev
    mkdir -p /tmp
    work=/tmp/script.$$
    mkdir "$work" && cd "$work" || fail "cannot make $work"
}

end() {
    cd / && rm -rf "$work"
    echo "ok ${0##*/}"
    echo "1 passed, 0 failed ($passed checks)"
    exit 0
}

# State letter of a process, as /proc tells.
state() {
    sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null
}

# await PID STATE
await() {
    until [ "$(state "$1")" = "$2" ]; do :; done
}
