# Warren: everything a developer or a newcomer runs. `make up` is the whole quick start.
SHELL := /bin/sh
NAME ?= warren
# More options for `warren up`, e.g. UP_FLAGS="--nodes 5 --gateway-http 9080".
UP_FLAGS ?=
# How long `make test-full` feeds each decoder of the API with arbitrary input.
FUZZ_SECONDS ?= 60

# Where rustup puts cargo, also when deploy/prerequisites.sh has just installed it.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

TARGET := x86_64-unknown-linux-gnu
BINARY := bin/warren
DEBIAN_KUBECTL := target/tools/kubectl/usr/bin/kubectl
KUBECTL = $(if $(wildcard $(DEBIAN_KUBECTL)),$(DEBIAN_KUBECTL),kubectl)

.PHONY: up down demo build build-with-tests prerequisites test test-full test-engine conformance check bench deny

# A three-node cluster that runs the demonstration, from a bare machine.
up: prerequisites build
	@$(BINARY) up --name $(NAME) $(UP_FLAGS)
	@$(MAKE) --no-print-directory demo

# The demonstration on a cluster that is up.
demo:
	@start=$$(date +%s.%N); config=$$(mktemp); trap 'rm -f "$$config"' EXIT; \
	$(BINARY) kubeconfig --name $(NAME) > "$$config" && \
	$(KUBECTL) --kubeconfig "$$config" apply -f deploy/examples/hello/hello.yaml && \
	$(KUBECTL) --kubeconfig "$$config" rollout status deployment/hello --timeout=180s && \
	port=$$(docker port $(NAME)-gateway 80/tcp | head -n1 | sed 's/.*://') && \
	echo && echo "The demonstration is up ($$(date +%s.%N | awk -v s=$$start '{printf "%.1f", $$1 - s}') s):" && \
	echo "  curl http://127.0.0.1:$$port/"

# Removes the cluster and every trace of it.
down:
	@$(BINARY) down --name $(NAME)

prerequisites:
	@deploy/prerequisites.sh

# The one static binary, at bin/warren.
build:
	cargo build --release --locked -p warren
	@$(PLACE)

# The same program and every test in one go, so that each library is compiled once. The tests add features to two
# libraries (tokio's test-util, bitflags' std); `make test-full` tests the program that `make build` makes.
build-with-tests:
	cargo build --release --locked --workspace --bins --tests
	@$(PLACE)

PLACE = mkdir -p bin && cp -f target/$(TARGET)/release/warren $(BINARY).new && mv -f $(BINARY).new $(BINARY)

# Everything: planners, stores, network namespaces (as root), and a real cluster driven by kubectl.
test:
	@deploy/prerequisites.sh --test
	@$(MAKE) --no-print-directory build-with-tests
	WARREN_BIN=$(CURDIR)/$(BINARY) cargo test --workspace --release --locked

# The same with the long tests.
test-full:
	@deploy/prerequisites.sh --full
	@$(MAKE) --no-print-directory build
	WARREN_BIN=$(CURDIR)/$(BINARY) cargo test --workspace --release --locked -- --include-ignored
	controller/api/fuzz/run.sh $(FUZZ_SECONDS)
	@$(MAKE) --no-print-directory test-engine

# The end-to-end tests once more, against the newest Docker engine: Debian sid's, beside the one of this machine.
test-engine:
	@deploy/prerequisites.sh --test
	@$(MAKE) --no-print-directory build
	WARREN_E2E=warren-newest:37443 WARREN_BIN=$(CURDIR)/$(BINARY) tests/engines/newest.sh \
		cargo test -p warren-tests --release --locked --test e2e -- --include-ignored

# Kubernetes' own conformance tests against a cluster of their own; what came out: docs/conformance.md. About two hours.
# FOCUS and SKIP choose tests by name; NODES is the cluster's size; more: tests/conformance/run.sh.
conformance:
	@deploy/prerequisites.sh --conformance
	@$(MAKE) --no-print-directory build
	@tests/conformance/run.sh

# What a reviewer should not have to say.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@$(MAKE) --no-print-directory deny

# Licences, sources and the walls between crates; advisories when their database can be reached.
deny:
	@command -v cargo-deny >/dev/null || (cd / && cargo install cargo-deny --locked)
	cargo deny --workspace check licenses bans sources
	@if cargo deny fetch db >/dev/null 2>&1; then cargo deny --workspace check advisories; \
	else echo "advisories are not checked: their database cannot be reached"; fi

# Benchmarks beside the peers: nginx for the gateway, etcd for the store and for the whole API (about four minutes); the
# scheduler's speed beside its goals, and how evenly it loads nodes beside kube-scheduler's scores (about four more); then
# the controller beside its goals at 100, 1,000 and 5,000 nodes, which writes docs/scale.md (tests/src/scale/settings.rs
# says what the environment can choose, such as WARREN_SCALE_SIZES=100).
bench:
	@deploy/prerequisites.sh --bench
	cargo bench --locked -p warren-gateway -p warren-store -p warren-controller --bench 'against_*'
	cargo bench --locked -p warren-plan --bench bindings --bench evenness
	cargo build --release --locked -p warren -p warren-tests --bin warren --bin scale
	@$(PLACE)
	WARREN_BIN=$(CURDIR)/$(BINARY) target/$(TARGET)/release/scale
