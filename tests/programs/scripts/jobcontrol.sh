# Job control: needs a controlling terminal (`on-tty sh jobcontrol.sh`, or `setsid -c sh jobcontrol.sh` on a console).
. "${0%/*}/lib.sh"
begin

set -m
case $- in
*m*) ;;
*) fail "no job control: not run on a controlling terminal?" ;;
esac

# A shell may have noticed the end of a job before it is asked to wait, and forgotten its status: that it is gone counts.
gone() {
    until [ "$(state $1)" = Z ] || [ ! -d /proc/$1 ]; do :; done
    wait $1 2>/dev/null
    false_ test -d /proc/$1
}

sleep 1000 &
pid=$!
same "own group" "$(sed 's/.*) . [0-9]* \([0-9]*\).*/\1/' /proc/$pid/stat)" $pid
kill -STOP $pid
await $pid T
bg >/dev/null 2>&1
await $pid S
jobs >list 2>&1
true_ grep -q sleep list
kill %1
gone $pid

# It cannot end before it is brought to the foreground.
sh -c 'kill -STOP $$; exit 6' &
await $! T
fg >/dev/null 2>&1
same "foreground status" $? 6

# A foreground job has the terminal, and gives it back.
true_ sh -c 'test -t 0 </dev/tty'
sh -c 'kill -STOP $$; exit 8'
same "stopped" $? 147
fg >/dev/null 2>&1
same "continued" $? 8

# A background job that reads the terminal is stopped.
cat </dev/tty >/dev/null &
pid=$!
await $pid T
kill -9 $pid
gone $pid

# A pipeline is one job.
sleep 1000 | sleep 1000 &
pid=$!
group=$(sed 's/.*) . [0-9]* \([0-9]*\).*/\1/' /proc/$pid/stat)
true_ test "$group" != $$
kill -- -$group
gone $pid
end
