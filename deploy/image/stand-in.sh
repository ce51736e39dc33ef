#!/usr/bin/env bash
# An image to build with where no image registry answers: Debian's C compiler and this machine's Rust, under the name in $1.
set -euo pipefail

name=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! command -v mmdebstrap >/dev/null; then
    { apt-get update -q && apt-get install -q -y --no-install-recommends mmdebstrap; } >/dev/null
fi
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# The mirror that this machine's own apt uses.
# shellcheck disable=SC2016 # apt's variables
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v r="$release" '$2 == r { print $1; exit }')
rust=$(rustc --print sysroot)
mkdir -p "$scratch/rust/bin"
cp "$rust/bin/cargo" "$rust/bin/rustc" "$scratch/rust/bin/"
cp -r "$rust/lib" "$scratch/rust/lib"
mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --aptopt='APT::Install-Recommends "false"' \
    --customize-hook='copy-in '"$scratch/rust"' /usr/local' \
    --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
    "$release" "$scratch/image.tar" "$mirror"
docker import --change 'ENV PATH=/usr/local/rust/bin:/usr/bin:/bin CARGO_HOME=/cargo CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt' \
    "$scratch/image.tar" "$name" >/dev/null
