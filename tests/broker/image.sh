#!/usr/bin/env bash
# Makes an image of RabbitMQ from a Debian package, where no image registry can be reached. $1 names it, and so the release:
#   rabbitmq:3-management          Debian 12's   3.10
#   rabbitmq:4-management          Debian 13's   4.0   (without $1)
#   rabbitmq:unstable-management   unstable's    4.3 in November 2026
# Needs Docker and mmdebstrap. What is fetched is kept outside the tree, so that a second run takes a second.
set -euo pipefail

image=${1:-rabbitmq:4-management}
case $image in
    rabbitmq:3-management) release=bookworm ;;
    rabbitmq:4-management) release=trixie ;;
    # A new one nearly every day: what was fetched on an earlier day is fetched again.
    rabbitmq:unstable-management) release=sid ;;
    *) echo "no Debian release has $image" >&2; exit 2 ;;
esac
if docker image inspect "$image" >/dev/null 2>&1; then exit 0; fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-tools"
root="$cache/rabbitmq-$release.tar"
if [ "$release" = sid ] && [ -n "$(find "$root" -mtime +0 2>/dev/null)" ]; then rm "$root"; fi
if ! [ -s "$root" ]; then
    # The mirror that this machine's own apt uses.
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    # shellcheck disable=SC2016  # apt's variables, not the shell's
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v r="$codename" '$2 == r { print $1; exit }')
    mkdir -p "$cache"
    # Under its own name only when it is whole.
    part=$(mktemp -d "$cache/part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    # As in the official image: a guest who may come from outside the container, and files of conf.d are read.
    cat >"$part/configure" <<'CONFIGURE'
#!/bin/sh
set -e
mkdir -p "$1/etc/rabbitmq/conf.d"
printf 'loopback_users = none\nlog.console = true\n' >"$1/etc/rabbitmq/conf.d/10-defaults.conf"
printf '[rabbitmq_management,rabbitmq_prometheus].\n' >"$1/etc/rabbitmq/enabled_plugins"
chroot "$1" install -d -o rabbitmq -g rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
CONFIGURE
    chmod +x "$part/configure"
    mmdebstrap --quiet --variant=minbase --include=rabbitmq-server --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="$part/configure" "$release" "$part/root.tar" "${mirror:?apt names no mirror of $codename}"
    mv "$part/root.tar" "$root"
fi

docker import \
    --change 'ENV RABBITMQ_LOGS=- LANG=C.UTF-8 HOME=/var/lib/rabbitmq RABBITMQ_LOG_BASE=/var/log/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'EXPOSE 5672 15672 15692' --change 'USER rabbitmq' --change 'CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]' \
    "$root" "$image" >/dev/null
