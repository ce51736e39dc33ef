# `make` lists what there is.
.DEFAULT_GOAL := help

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## The main job in one command: a school morning, an outage, and the books
	@cargo build --locked --bin dnma-relay --example demo
	@cargo run --locked --quiet --example demo

test: ## Every test, on a real RabbitMQ (AMQP_URL, else Docker, else a private local node)
	cargo test --locked

lint: ## Format, clippy, the light library, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo check --locked --lib --no-default-features
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

chart: ## The chart, the alarms and the dashboard, with helm 3 and 4
	tests/chart/run

apiserver: ## The chart on a real API server of Kubernetes, compiled the first time (6 minutes)
	tests/chart/apiserver/run

image: ## The image, and the main job in it (needs Docker)
	deploy/image/test.sh

build: ## The release binary, target/release/dnma-relay
	cargo build --release --locked

.PHONY: help demo test lint chart apiserver image build
