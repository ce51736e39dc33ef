#!/usr/bin/env bash
# Loads definitions.json into a RabbitMQ of its own, and tries what each user may and may not.
# Wants a container engine and the image $1, or rabbitmq:4-management; says so and ends well where there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${1:-rabbitmq:4-management}
tools="${XDG_CACHE_HOME:-$HOME/.cache}/dnma-relay-tools"
if ! docker image inspect "$image" >/dev/null 2>&1; then
    echo "not checked: the rights, for want of a container engine or of the image $image"
    exit 0
fi
if ! [ -d "$tools/pika" ] && ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$tools/pika" pika==1.3.2; then
    echo "not checked: the rights, since pika cannot be had from PyPI"
    exit 0
fi

broker=$(docker run --detach --publish 127.0.0.1::5672 --publish 127.0.0.1::15672 --publish 127.0.0.1::15692 "$image")
trap 'docker rm --force "$broker" >/dev/null' EXIT
# Debian's image has wrappers in /usr/sbin that set what the programs need; the official one has them in PATH.
ctl() { docker exec --user root "$broker" sh -c 'PATH=/usr/sbin:$PATH exec "$@"' ctl "$@"; }
deadline=$((SECONDS + 120))
until docker logs "$broker" 2>&1 | grep -q 'Server startup complete'; do
    ((SECONDS < deadline)) || { docker logs "$broker"; exit 1; }
    sleep 0.5
done

ctl rabbitmq-plugins enable --quiet rabbitmq_consistent_hash_exchange rabbitmq_management rabbitmq_prometheus >/dev/null
docker cp deploy/rabbitmq/definitions.json "$broker:/tmp/definitions.json"
ctl rabbitmqctl --quiet import_definitions /tmp/definitions.json
for user in publisher relay operator scaler; do
    if ctl rabbitmqctl --quiet authenticate_user "$user" "" >/dev/null 2>&1; then echo "FAILED: $user comes in without a password"; exit 1; fi
    ctl rabbitmqctl --quiet change_password "$user" "of-$user"
done

port() { docker port "$broker" "$1" | head -n 1 | sed 's/.*://'; }
cargo build --locked --quiet --bin dnma-relay
export RELAY="${CARGO_TARGET_DIR:-target}/debug/dnma-relay"
try() {
    PYTHONPATH="$tools/pika" AMQP_PORT=$(port 5672) HTTP_PORT=$(port 15672) METRICS_PORT=$(port 15692) python3 deploy/rabbitmq/rights.py "$1"
}
try declare
# As docs/operate.md says, for a relay that declares nothing.
ctl rabbitmqctl --quiet set_permissions -p dnma relay '^$' '^dnma\.hits(\.(retry\..+|parked|rejected))?$' '^dnma\.hits\.([0-9]+|workers(\.short)?)$'
try verify
echo "every user may what it must, and no more, on $(ctl rabbitmqctl --quiet version)"
