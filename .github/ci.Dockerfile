# The machine that .ci/run expects, which installs what else it needs: Debian 12 as root, with Rust, Go, Node and Python.
# Tags, not digests: no registry could be asked when this was written. The updater (renovate.json) puts the digests in.
FROM golang:1.26-bookworm AS go

FROM node:20-bookworm-slim AS node

# The Rust of deploy/Dockerfile.
FROM rust:1.95-bookworm
COPY --from=go /usr/local/go /usr/local/go
COPY --from=node /usr/local/bin /usr/local/bin
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
ENV PATH=/usr/local/go/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y iproute2 iptables jq procps python3-pip python3-venv shellcheck unzip xz-utils zip \
    && rm -rf /var/lib/apt/lists/* \
    && rustup component add clippy rustfmt
