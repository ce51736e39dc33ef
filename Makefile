# `make` lists what there is.
.DEFAULT_GOAL := help

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## The main job in one command: a school morning, an outage, and the books
	@cargo build --locked --bin dnma-relay --example demo
	@cargo run --locked --quiet --example demo

test: ## Every test, on a real RabbitMQ (AMQP_URL, else Docker, else a private local node)
	cargo test --locked

soak: ## Random faults for MINUTES=60, and a page on what they did
	SOAK_MINUTES=$(or $(MINUTES),60) cargo test --locked --test it -- --nocapture histories

bench: ## How fast: beside bare lapin and what people write instead (20 minutes; QUICK=1: only whether it works)
	@cargo build --locked $(if $(QUICK),,--release) --bin dnma-relay --example bench
	@$(or $(CARGO_TARGET_DIR),target)/$(if $(QUICK),debug,release)/examples/bench

micro: ## Time and memory of decoding, checking and encoding a hit
	@cd benches && cargo bench --locked --quiet

instructions: ## The same in instructions, against what is written down (UPDATE=1 writes anew)
	@cd benches && cargo run --locked --quiet --release --bin instructions

SECONDS ?= 60
fuzz: ## Random bytes against the stream filter, a hit and a false worker of top and books, SECONDS=60 each
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet
	cd fuzz && for target in amqp_filter decode validate workers; do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target -- -max_total_time=$(SECONDS) -max_len=4096 -print_final_stats=0 -verbosity=0 || exit 1; done

mutants: ## Whether a test notices each line of the domain that is broken (an hour)
	tests/mutants.sh

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

.PHONY: help demo test soak bench micro instructions fuzz mutants lint chart apiserver image build
