# Text: grep sed awk sort uniq cut tr xargs tee printf expr seq.
. "${0%/*}/lib.sh"
begin

cat >fruit <<EOF
apple 3 red
banana 12 yellow
cherry 40 red
date 7 brown
elder 12 black
EOF
same "grep" "$(grep -c red fruit)" 2
same "grep -v" "$(grep -v red fruit | wc -l | tr -d ' ')" 3
same "grep -E" "$(grep -E '^(a|b)' fruit | cut -d' ' -f1 | tr '\n' ,)" "apple,banana,"
false_ grep -q grape fruit
same "grep -o" "$(grep -o '[0-9]*' fruit | tr '\n' ' ')" "3 12 40 7 12 "
same "sed" "$(sed 's/red/RED/;s/ .* / - /' fruit | head -n 1)" "apple - RED"
same "sed range" "$(sed -n '/banana/,/date/p' fruit | wc -l | tr -d ' ')" 3
cp fruit edit
true_ sed -i 's/yellow/green/' edit
same "sed -i" "$(grep -c green edit)" 1
same "awk sum" "$(awk '{ sum += $2 } END { print sum }' fruit)" 74
same "awk groups" "$(awk '{ n[$3]++ } END { for (k in n) print k, n[k] }' fruit | sort | head -n 1)" "black 1"
same "awk functions" "$(awk 'BEGIN { printf "%s %d %.2f", toupper("abc"), length("four"), 10/4 }')" "ABC 4 2.50"
same "awk split" "$(echo a:b:c | awk -F: '{ print NF, $3 }')" "3 c"
same "sort" "$(sort -k2 -n -r fruit | head -n 1 | cut -d' ' -f1)" cherry
same "sort uniq" "$(cut -d' ' -f2 fruit | sort -n | uniq -c | awk '$1 == 2 { print $2 }')" 12
same "sort -u" "$(printf '3\n1\n2\n3\n1\n' | sort -u | tr '\n' ' ')" "1 2 3 "
same "tr" "$(echo hello | tr a-z A-Z)" HELLO
same "tr -d" "$(echo h.e.y | tr -d .)" hey
same "cut" "$(echo a,b,c | cut -d, -f2-)" b,c
same "xargs" "$(printf '1 2 3 4 5' | xargs -n 2 echo | tr '\n' ';')" "1 2;3 4;5;"
same "xargs -I" "$(printf 'x\ny\n' | xargs -I{} echo '<{}>' | tr '\n' ' ')" "<x> <y> "
same "tee" "$(echo both | tee copy)$(cat copy)" bothboth
same "printf" "$(printf '%05d|%x|%-4s|%s\n' 42 255 ab 'c d')" "00042|ff|ab  |c d"
same "expr" "$(expr 6 \* 7)" 42
same "seq" "$(seq 1 3 10 | tr '\n' ' ')" "1 4 7 10 "
same "rev order" "$(seq 1 5 | sort -rn | head -n 2 | tr '\n' ' ')" "5 4 "

# A few thousand lines through a few commands.
seq 1 5000 >numbers
same "large sort" "$(sort -rn numbers | tail -n 1)" 1
same "large sum" "$(awk '{ s += $1 } END { print s }' numbers)" 12502500
same "many arguments" "$(xargs echo <numbers | wc -w | tr -d ' ')" 5000
same "long pipeline" "$(cat numbers | grep 7 | sed 's/7/x/' | grep -v 7 | sort | uniq | wc -l | tr -d ' ')" \
    "$(awk '{ n = gsub(/7/, "x") } n == 1' numbers | wc -l | tr -d ' ')"
end
