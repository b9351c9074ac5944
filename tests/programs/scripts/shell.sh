# The shell itself: substitution, here-documents, subshells, functions, redirection, arithmetic, exit statuses.
. "${0%/*}/lib.sh"
begin

same "substitution" "$(echo "$(echo inner)")" inner
same "arithmetic" "$((3 * (4 + 5) % 7))" 6
same "here-document" "$(
    cat <<EOF
one $((1 + 1))
three
EOF
)" "one 2
three"
same "quoted here-document" "$(
    cat <<'EOF'
$not $(expanded)
EOF
)" '$not $(expanded)'
# Larger than a pipe holds.
i=0
big=
while [ $i -lt 1000 ]; do
    big="$big$i-0123456789012345678901234567890123456789012345678901234567890123456789
"
    i=$((i + 1))
done
same "large here-document" "$(
    wc -l <<EOF | tr -d ' '
$big
EOF
)" 1001

x=outer
(
    x=inner
    cd /
    exit 7
)
same "subshell status" $? 7
same "subshell variable" $x outer
same "subshell directory" "$(pwd)" "$work"

f() {
    local_value=$1
    return $(($1 + 1))
}
f 4
same "function" "$?$local_value" 54

echo out >file
echo more >>file
same "append" "$(tr '\n' , <file)" "out,more,"
{ echo to-out; echo to-err >&2; } >both 2>&1
same "both" "$(tr '\n' , <both)" "to-out,to-err,"
ls missing 2>err >/dev/null
true_ test -s err
exec 5>fifth
echo five >&5
exec 5>&-
same "descriptor" "$(cat fifth)" five
exec 6<file
read -r first <&6
read -r second <&6
exec 6<&-
same "reading" "$first $second" "out more"

same "and or" "$(true && echo yes || echo no)$(false && echo yes || echo no)" yesno
false
same "false" $? 1
sh -c 'exit 42'
same "exit status" $? 42
sh -c 'kill -9 $$' 2>/dev/null
same "killed status" $? 137
/no/such/program 2>/dev/null
same "not found" $? 127
: >plain
./plain 2>/dev/null
same "not executable" $? 126

same "pipeline" "$(printf 'c\na\nb\n' | sort | head -n 2 | tr '\n' ' ')" "a b "
same "pipeline status" "$(true | false; echo $?)" 1
yes | head -n 3 >yeses
same "broken pipe" "$(wc -l <yeses | tr -d ' ')" 3
same "while read" "$(seq 1 50 | (s=0; while read -r n; do s=$((s + n)); done; echo $s))" 1275

same "case" "$(case abc in a*c) echo match ;; *) echo none ;; esac)" match
touch g1 g2 g3
same "glob" "$(echo g?)" "g1 g2 g3"
same "default" "${unset_variable:-default}" default
same "length" "${#big}" "$(printf %s "$big" | wc -c | tr -d ' ')"
path=/a/b/c.tar.gz
same "suffix" "${path##*/} ${path%%.*} ${path%.gz}" "c.tar.gz /a/b/c /a/b/c.tar"
set -- one 'two three' four
same "positional" "$# $2" "3 two three"
shift
same "shift" "$1" "two three"
same "ifs" "$(IFS=:; set -- $(echo a:b:c); echo $#)" 3

cat >script <<'EOF'
#!/bin/sh
echo "$0 got $# arguments: $*"
EOF
chmod 755 script
same "script" "$(./script a 'b c')" "./script got 2 arguments: a b c"
mkfifo fifo
echo through >fifo &
same "fifo" "$(cat fifo)" through
wait
VARIABLE=exported sh -c 'test "$VARIABLE" = exported' || fail "environment"
same "many processes" "$(i=0; while [ $i -lt 100 ]; do /bin/true || echo bad; i=$((i + 1)); done; echo done)" done
end
