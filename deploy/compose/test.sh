#!/usr/bin/env bash
# Checks compose.yaml as far as that goes without its images.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-tools"
compose="$tools/docker-compose"
if docker compose version >/dev/null 2>&1; then
    compose="docker compose"
elif [ ! -x "$compose" ]; then
    # Debian 13's, which is one static program; Debian 12 has only the old one in Python.
    scratch=$(mktemp -d)
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    # shellcheck disable=SC2016 # apt's variables
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v r="$release" '$2 == r { print $1; exit }')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$scratch/sources.list"
    mkdir "$scratch/lists"
    trixie() { apt-get -qq -o "Dir::Etc::sourcelist=$scratch/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$scratch/lists" "$@"; }
    (cd "$scratch" && trixie update && trixie download docker-compose && dpkg-deb -x ./*.deb . \
        && mkdir -p "$tools" && install usr/libexec/docker/cli-plugins/docker-compose "$compose") >/dev/null 2>&1 || true
    rm -rf "$scratch"
fi
if [ ! -x "$compose" ] && [ "$compose" != "docker compose" ]; then
    echo "not checked: compose.yaml, for want of docker compose"
else
    $compose --file compose.yaml --profile tools config --quiet
    echo "  compose.yaml is in order"
fi
if command -v promtool >/dev/null; then
    promtool check config --syntax-only compose/prometheus.yml >/dev/null
    echo "  prometheus.yml is in order"
else
    echo "not checked: prometheus.yml, for want of promtool"
fi
echo "not checked: nothing of it was started, since its images cannot be pulled here; matomo.sh was not run against a Matomo"
