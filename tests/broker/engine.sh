#!/usr/bin/env bash
# Makes sure that a container engine answers, and that mmdebstrap is there to make images with. Installs Debian's packages
# where they are missing; starts an engine where none answers, and writes its pid to the file $1 for who started this to end it.
set -euo pipefail

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >/dev/null; }
answers() { docker info >/dev/null 2>&1; }

missing=()
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
answers || command -v dockerd >/dev/null || missing+=(docker.io)
# A package may start an engine of its own: the question comes again below.
if ((${#missing[@]})); then apt update && apt install --no-install-recommends -y "${missing[@]}"; fi
if answers; then exit 0; fi

# One engine a machine: a second would take the first one's network away. None answers, so this is the first.
log=$(mktemp)
setsid dockerd >"$log" 2>&1 &
engine=$!
echo "$engine" >"$1"
for _ in $(seq 60); do
    if answers; then exit 0; fi
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.5
done
echo "the container engine did not start: $(tail -n 1 "$log")" >&2
exit 1
