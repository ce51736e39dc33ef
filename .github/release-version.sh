#!/usr/bin/env bash
# Holds the tag $1 (as in v0.1.0) against each place that names the version, and prints the version. All that differs is told at once.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:?a tag, as in v0.1.0}
version=${tag#v}
wrong=0
same() { # place, value
    if [ "$2" != "$version" ]; then
        echo "$1 has \"$2\", and the tag is $tag" >&2
        wrong=1
    fi
}
first() { sed -nE "s/$1/\1/p" "$2" | head -n 1; }

if ! [[ $tag =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
    echo "$tag is not v and a version" >&2
    wrong=1
fi
chart=helm/dnma-relay/Chart.yaml
same Cargo.toml "$(first '^version = "(.*)"$' Cargo.toml)"
same Cargo.lock "$(awk '/^name = "dnma-relay"$/ { getline; gsub(/"/, "", $3); print $3 }' Cargo.lock)"
same "$chart: version" "$(first '^version: "?([^"]*)"?$' "$chart")"
same "$chart: appVersion" "$(first '^appVersion: "?([^"]*)"?$' "$chart")"
same "$chart: artifacthub.io/images" "$(first '^ +image: dnma-relay:(.*)$' "$chart")"
same "deploy/Dockerfile: VERSION" "$(first '^ARG VERSION=(.*)$' deploy/Dockerfile)"
.github/release-notes.sh "$version" >/dev/null || wrong=1
if grep -qE "^## ${version//./\\.} .*unreleased" CHANGELOG.md; then
    echo "CHANGELOG.md still calls $version unreleased" >&2
    wrong=1
fi
if [ "$wrong" != 0 ]; then exit 1; fi
echo "$version"
