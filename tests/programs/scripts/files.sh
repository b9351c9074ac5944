# Usual file commands: ls cp mv rm mkdir rmdir ln touch chmod cat head tail wc cmp dd find du stat readlink.
. "${0%/*}/lib.sh"
begin

echo one >a
same "cat" "$(cat a)" one
true_ cp a b
true_ cmp a b
true_ mv b c
false_ test -e b
same "ls" "$(ls | tr '\n' ' ')" "a c "
true_ mkdir -p d/e/f
true_ cp -r d copy
true_ test -d copy/e/f
echo two >d/e/f/deep
true_ cp -a d again
same "copied tree" "$(cat again/e/f/deep)" two
false_ rmdir d
true_ rm -r copy again
true_ ln -s a link
same "readlink" "$(readlink link)" a
same "through link" "$(cat link)" one
true_ ln a hard
same "links" "$(stat -c %h a)" 2
true_ rm a
same "hard link lives" "$(cat hard)" one
false_ cat link
true_ chmod 600 hard
same "mode" "$(stat -c %a hard)" 600
true_ touch -d '2001-09-09 01:46:40' hard
same "time" "$(TZ=UTC0 date -r hard +%Y)" 2001
false_ cp missing x
false_ rm missing
true_ rm -f missing

i=0
while [ $i -lt 200 ]; do
    echo "line $i" >>lines
    i=$((i + 1))
done
same "wc" "$(wc -l <lines | tr -d ' ')" 200
same "head" "$(head -n 1 lines)" "line 0"
same "tail" "$(tail -n 1 lines)" "line 199"
same "middle" "$(sed -n 100p lines)" "line 99"

true_ dd if=/dev/zero of=zeros bs=1024 count=64 2>/dev/null
same "dd size" "$(stat -c %s zeros)" 65536
true_ dd if=lines of=part bs=1 skip=5 count=1 2>/dev/null
same "dd part" "$(cat part)" 0
true_ dd if=/dev/urandom of=random bs=4096 count=4 2>/dev/null
printf x | dd of=random bs=1 seek=9000 conv=notrunc 2>/dev/null
true_ cp random random2
true_ cmp random random2
printf y | dd of=random2 bs=1 seek=9000 conv=notrunc 2>/dev/null
false_ cmp -s random random2
same "sums" "$(md5sum <random | cut -c1-32 | wc -c | tr -d ' ')" 33

mkdir tree
for x in 1 2 3 4 5; do
    mkdir "tree/$x"
    for y in 1 2 3 4 5; do
        echo "$x$y" >"tree/$x/file.$y"
    done
done
same "find" "$(find tree -type f | wc -l | tr -d ' ')" 25
same "find by name" "$(find tree -name 'file.3' | sort | head -n 1)" tree/1/file.3
same "find and exec" "$(find tree -name 'file.2' -exec cat {} \; | sort | tr '\n' ' ')" "12 22 32 42 52 "
true_ find tree -name 'file.5' -exec rm {} \;
same "after delete" "$(find tree -type f | wc -l | tr -d ' ')" 20
true_ mv tree/1 tree/moved
same "moved directory" "$(cat tree/moved/file.1)" 11
true_ test "$(du -s tree | cut -f1)" -gt 0
name="a name with  blanks and 'quotes'"
echo odd >"$name"
same "odd name" "$(cat "$name")" odd
true_ rm "$name"
end
