#!/usr/bin/env bash
# Writes the released image $1 (without tag) and its digest $2 into the chart, which names an image of one's own making otherwise.
set -euo pipefail
cd "$(dirname "$0")/../helm/dnma-relay"

image=${1:?an image, as in registry.example.org/relay}
digest=${2:?a digest, sha256:…}
version=$(sed -nE 's/^appVersion: "(.*)"$/\1/p' Chart.yaml)
set_once() { # expression, replacement, file
    if [ "$(grep -cE "$1" "$3")" != 1 ]; then
        echo "$3: not one line is $1" >&2
        exit 1
    fi
    sed -i -E "s|$1|$2|" "$3"
}
set_once '^  registry: ""$' "  registry: ${image%%/*}" values.yaml
set_once '^  repository: dnma-relay$' "  repository: ${image#*/}" values.yaml
set_once '^  digest: ""$' "  digest: $digest" values.yaml
set_once "^      image: dnma-relay:${version//./\\.}\$" "      image: $image:$version" Chart.yaml
set_once '^      platforms: \[linux/amd64\]$' '      platforms: [linux/amd64, linux/arm64]' Chart.yaml
