# Processes: background, wait, kill, traps, stop and continue, ps, sleep, date.
. "${0%/*}/lib.sh"
begin

sleep 1000 &
pid=$!
true_ kill -0 $pid
true_ kill $pid
wait $pid
same "terminated" $? 143
false_ kill -0 $pid
sleep 1000 &
kill -9 $!
wait $! 2>/dev/null
same "killed" $? 137

(exit 3) &
first=$!
(exit 4) &
second=$!
wait $second
same "second" $? 4
wait $first
same "first" $? 3

# Several at once; wait for all.
for i in 1 2 3 4 5; do
    (echo $i >"done.$i") &
done
wait
same "all done" "$(cat done.* | tr '\n' ' ')" "1 2 3 4 5 "

trap 'echo caught >trapped' USR1
kill -USR1 $$
same "trap" "$(cat trapped)" caught
trap - USR1
same "exit trap" "$(sh -c 'trap "echo bye" EXIT; echo hi' | tr '\n' ' ')" "hi bye "
sh -c 'trap "exit 9" TERM; kill -TERM $$; sleep 10'
same "trap exits" $? 9
sh -c 'trap "" TERM; kill -TERM $$; exit 5'
same "ignored" $? 5

# A trap interrupts a wait. The signal comes again and again: the first may be too early.
trap 'interrupted=yes' USR2
parent=$$
(while sleep 0.1; do kill -USR2 $parent; done) &
bell=$!
sleep 1000 &
sleeper=$!
wait $sleeper
true_ test $? -gt 128
same "wait interrupted" "$interrupted" yes
kill $bell $sleeper
# One more may be on its way.
trap '' USR2
wait 2>/dev/null

# Stopped and continued, as /proc tells.
sleep 1000 &
pid=$!
await $pid S
kill -STOP $pid
await $pid T
kill -CONT $pid
await $pid S
kill $pid
wait $pid 2>/dev/null

same "ps lists us" "$(ps -o pid 2>/dev/null | grep -c "^ *$$\$")" 1
start=$(date +%s)
sleep 1
true_ test $(($(date +%s) - start)) -ge 1
true_ test "$(date +%Y)" -ge 2001
same "uname" "$(uname -s)" Linux
true_ test -r /proc/uptime
true_ uptime >/dev/null
true_ free >/dev/null
end
