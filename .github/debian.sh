#!/usr/bin/env bash
# Runs a command on the machine of ci.Dockerfile, as the workflows do; anyone who has Docker can do the same:
#   .github/debian.sh .ci/run
set -euo pipefail
cd "$(dirname "$0")/.."

image=dnma-relay-ci
docker build --quiet --file .github/ci.Dockerfile --tag "$image" .github >/dev/null
# Tools that .ci/run compiles, and downloaded crates.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-ci"
mkdir -p "$cache/tools" "$cache/registry"

options=(--rm --init)
# .ci/run starts a container engine of its own and lays out Debian systems, which takes rights. With the engine of this machine
# instead, containers would publish their ports here, where the tests do not look, and mount folders that are not there.
options+=(--privileged --cgroupns host)
# An engine's layers cannot lie on those of another.
options+=(--volume /var/lib/docker)
options+=(--volume "$PWD:$PWD" --workdir "$PWD")
options+=(--volume "$cache/tools:/cache/dnma-relay-tools" --env XDG_CACHE_HOME=/cache --volume "$cache/registry:/usr/local/cargo/registry")
# The clone belongs to another user than root.
options+=(--env GIT_CONFIG_COUNT=1 --env GIT_CONFIG_KEY_0=safe.directory --env "GIT_CONFIG_VALUE_0=*")
options+=(--env CI --env MUTANTS_BASE)
exec docker run "${options[@]}" "$image" "$@"
