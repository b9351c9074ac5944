# tar, gzip and their like.
. "${0%/*}/lib.sh"
begin

mkdir -p tree/inner
seq 1 3000 >tree/numbers
echo secret >tree/inner/file
chmod 640 tree/inner/file
ln -s numbers tree/link
true_ tar cf archive.tar tree
same "tar t" "$(tar tf archive.tar | sort | tr '\n' ' ')" "tree/ tree/inner/ tree/inner/file tree/link tree/numbers "
mkdir out
true_ tar xf archive.tar -C out
true_ cmp tree/numbers out/tree/numbers
same "link in archive" "$(readlink out/tree/link)" numbers
same "mode in archive" "$(stat -c %a out/tree/inner/file)" 640
true_ gzip archive.tar
true_ test -f archive.tar.gz
false_ test -f archive.tar
true_ gzip -t archive.tar.gz
true_ gunzip archive.tar.gz
true_ test -f archive.tar
true_ tar czf packed.tar.gz tree
true_ test "$(stat -c %s packed.tar.gz)" -lt "$(stat -c %s archive.tar)"
rm -r out
mkdir out
true_ tar xzf packed.tar.gz -C out
true_ cmp tree/numbers out/tree/numbers
same "through a pipe" "$(gzip -c tree/numbers | gunzip -c | md5sum)" "$(md5sum <tree/numbers)"
same "copy by tar" "$(tar cf - tree | (mkdir other && cd other && tar xf - && cat tree/inner/file))" secret
head -c 100 packed.tar.gz >damaged.gz
false_ gzip -t damaged.gz
end
