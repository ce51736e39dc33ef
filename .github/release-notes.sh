#!/usr/bin/env bash
# Prints what CHANGELOG.md says of the version $1, for the page of its release; fails where it says nothing.
set -euo pipefail

version=${1:?a version, as in 0.1.0}
changelog=${2:-$(dirname "$0")/../CHANGELOG.md}
notes=$(awk -v version="$version" '
    /^## / { inside = $2 == version; next }
    inside' "$changelog")
# Without the empty lines at its beginning and end.
notes=$(sed '/./,$!d' <<<"$notes")
if [ -z "$notes" ]; then
    echo "$changelog has nothing under \"## $version\"" >&2
    exit 1
fi
printf '%s\n' "$notes"
