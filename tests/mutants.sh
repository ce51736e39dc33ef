#!/usr/bin/env bash
# Breaks the code in one place after another, and expects each time that a test notices: what no test notices fails this.
# .cargo/mutants.toml says in which files, and with which tests. Without arguments it tries every place, which takes an hour;
#   tests/mutants.sh --changed SECONDS
# tries those that differ from MUTANTS_BASE (else: from where this branch left origin/main, or from 20 commits ago), for so long.
#   tests/mutants.sh --ready
# only installs and compiles what it takes, so that none of that counts as time for mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

# As in .ci/run: outside the tree, and once for all clones.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-tools"
export PATH="$tools/bin:$PATH"
# A place of its own: cargo would take the last broken copy in a shared one for the code that it was copied from.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/mutants"
# A history that fails need not be made short, and the next run meets the same ones.
export PROPTEST_MAX_SHRINK_ITERS=0 PROPTEST_RNG_SEED=1 RUST_BACKTRACE=0
results=$CARGO_TARGET_DIR/mutants.out

command -v cargo-mutants >/dev/null || cargo install cargo-mutants --version 27.1.0 --locked --quiet --root "$tools"
mkdir -p "$CARGO_TARGET_DIR"
if [ "${1:-}" = --ready ]; then
    exec cargo test --locked --no-run --quiet --no-default-features --lib --test plan --test simulation
fi
lines() { cat "$@" 2>/dev/null | wc -l; }

if [ "${1:-}" != --changed ]; then
    code=0
    cargo mutants --no-shuffle --output "$CARGO_TARGET_DIR" "$@" || code=$?
    echo "by file, of those that no test noticed:"
    cut -d: -f1 "$results/missed.txt" | sort | uniq -c
    # A mutant that hangs the tests is noticed.
    if [ "$code" = 3 ]; then code=0; fi
    exit "$code"
fi

seconds=${2:?how many seconds}
# The commit that the change starts from; nothing where the clone does not have it.
base() {
    local head fork
    if [ -n "${MUTANTS_BASE:-}" ]; then
        git rev-parse --quiet --verify "$MUTANTS_BASE^{commit}" || true
        return
    fi
    head=$(git rev-parse HEAD)
    fork=$(git merge-base HEAD origin/main 2>/dev/null || true)
    if [ -z "$fork" ] || [ "$fork" = "$head" ]; then fork=$(git rev-list --first-parent --max-count=21 HEAD | tail -n 1); fi
    if [ "$fork" != "$head" ]; then echo "$fork"; fi
}
from=$(base)
if [ -z "$from" ]; then
    echo "no diff to test: this clone has no earlier commit"
    exit 0
fi
diff=$(mktemp)
trap 'rm -f "$diff"' EXIT
git diff --no-ext-diff --no-color "$from" -- 'src/domain/*.rs' >"$diff"
mutants=0
if [ -s "$diff" ]; then mutants=$(cargo mutants --list --in-diff "$diff" 2>/dev/null | wc -l); fi
if [ "$mutants" = 0 ]; then
    echo "no diff to test: nothing changed since $(git rev-parse --short "$from") in the files of .cargo/mutants.toml"
    exit 0
fi

echo "$mutants mutants in what changed since $(git rev-parse --short "$from"), for at most $seconds s"
rm -rf "$results"
code=0
# In an order of chance, so that one run after another sees other mutants where the time is short.
timeout --signal=INT --kill-after=30 "$seconds" cargo mutants --shuffle --in-diff "$diff" --output "$CARGO_TARGET_DIR" --colors never || code=$?
missed=$(lines "$results/missed.txt")
tried=$(lines "$results"/{caught,missed,timeout,unviable}.txt)
if ((missed > 0)); then
    echo "FAILED: $missed of $tried mutants are noticed by no test:" >&2
    cat "$results/missed.txt" >&2
    exit 2
fi
case $code in
    0 | 3) echo "each of $tried mutants was noticed, or does not compile" ;;
    124 | 137) echo "TIME IS UP: $tried of $mutants mutants were tried in $seconds s, and none survived; make mutants tries all" ;;
    *) exit "$code" ;;
esac
