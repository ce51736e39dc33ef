#!/usr/bin/env bash
# Makes the image `rabbitmq:4-management` (or $1) from Debian 13's own package, where no image registry can be reached.
# Needs Docker and mmdebstrap. What is fetched is kept outside the tree, so that a second run takes a second.
set -euo pipefail

image=${1:-rabbitmq:4-management}
if docker image inspect "$image" >/dev/null 2>&1; then exit 0; fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-tools"
root="$cache/rabbitmq-trixie.tar"
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
    mmdebstrap --quiet --variant=minbase --include=rabbitmq-server --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="$part/configure" trixie "$part/root.tar" "${mirror:?apt names no mirror of $codename}"
    mv "$part/root.tar" "$root"
fi

docker import \
    --change 'ENV RABBITMQ_LOGS=- LANG=C.UTF-8 HOME=/var/lib/rabbitmq RABBITMQ_LOG_BASE=/var/log/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'EXPOSE 5672 15672 15692' --change 'USER rabbitmq' --change 'CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]' \
    "$root" "$image" >/dev/null
