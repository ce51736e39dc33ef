#!/usr/bin/env bash
# The rules of the house that no other tool knows. Prints what breaks one as file:line, and fails if anything does.
# It looks at the files that git tracks, here or in the repository that $1 lies in.
set -euo pipefail
shopt -s inherit_errexit
root=$(git -C "${1:-$(dirname "$0")/..}" rev-parse --show-toplevel)
cd "$root"
# Characters of a line count, not bytes.
export LC_ALL=C.UTF-8

# Every type of src/ with its place. rustfmt lays out what this reads: the items of a module stand one step to the right of it,
# and its brace closes it in its own column. What is for tests alone does not count.
# shellcheck disable=SC2016 # awk's variables
types='
    FNR == 1 { depth = 0; skip = ""; test = 0 }
    skip != "" { if ($0 == skip) skip = ""; next }
    { match($0, /^ */); indent = RLENGTH; line = substr($0, indent + 1) }
    line == "" || line ~ /^\/\// { next }
    depth > 0 && line == "}" && indent == 4 * (depth - 1) { depth--; next }
    indent != 4 * depth { next }
    line ~ /^#\[/ { if (line ~ /^#\[cfg\((all\()?test[,)]/) test = 1; next }
    {
        sub(/^pub(\([^)]*\))? +/, "", line)
        sub(/^unsafe +/, "", line)
        if (line ~ /^mod [A-Za-z0-9_]+ *\{$/) {
            if (test) skip = sprintf("%*s}", indent, ""); else depth++
        } else if (!test && line ~ /^(struct|enum|union|trait|type) +[A-Za-z_]/) {
            sub(/^[a-z]+ +/, "", line)
            match(line, /^[A-Za-z0-9_]+/)
            print substr(line, 1, RLENGTH), FILENAME ":" FNR
        }
        test = 0
    }'

# Each name of a type stands for one thing.
names() {
    git ls-files -z 'src/*.rs' | grep -zvE '(^|/)tests(\.rs$|/)' | xargs -0 awk "$types" | sort | awk '
        { places[$1] = places[$1] " " $2; if (++count[$1] == 2) twice[++n] = $1 }
        END {
            for (i = 1; i <= n; i++) {
                name = twice[i]
                split(places[name], place, " ")
                for (j = 1; j <= count[name]; j++) print place[j] ": " name " is the name of " count[name] " types"
            }
        }'
}

columns() { # most
    local file line text
    { git grep -nIE "^.{$(($1 + 1))}" -- '*.rs' || true; } | while IFS=: read -r file line text; do
        echo "$file:$line: ${#text} columns of at most $1"
    done
}

readme() { # most
    local lines
    lines=$(wc -l <README.md)
    if ((lines > $1)); then echo "README.md:$(($1 + 1)): $lines lines of at most $1"; fi
}

# Paths that one machine alone has. This file does not match its own expression.
machines() {
    { git grep -nIE '/(work|root|farm)/' || true; } | sed 's/$/   <- a path of one machine/'
}

# A module is its file, its folder, or both.
entries() { # folder, most
    local modules count
    modules=$(git ls-files "$1/" | sed -E "s|^$1/([^/.]+).*|\1|" | sort -u)
    count=$(wc -l <<<"$modules")
    if ((count > $2)); then echo "$1.rs:1: $count modules of at most $2:" "${modules//$'\n'/ }"; fi
}

found=$(
    names
    columns 100
    readme 200
    machines
    entries src/service 12
)
if [ -n "$found" ]; then
    echo "$found"
    echo "$(wc -l <<<"$found") places break a rule of the house" >&2
    exit 1
fi
echo "no type's name twice, no line over 100 columns, a README within its length, no machine's path, at most 12 modules of the service"
