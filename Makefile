# `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

SPEC ?= examples/debian-12.yaml
OUT ?= out
# Without -count=1 a test of the real thing would be answered from go's cache.
GOTEST := go test -count=1 -timeout 75m

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: deps
deps: ## install what nodesmith needs and this machine lacks (Debian and Ubuntu, as root)
	@scripts/install-deps.sh

.PHONY: test-deps
test-deps: ## deps, and what the tests need besides
	@scripts/install-deps.sh tests

.PHONY: build
build: ## compile bin/nodesmith
	@scripts/build.sh

.PHONY: install
install: build ## install bin/nodesmith, manual pages and completions below PREFIX (/usr/local)
	@scripts/install.sh

.PHONY: clients
clients: ## compile nodesmith for macOS, Windows and arm64, as a client of other engines
	@scripts/clients.sh

.PHONY: container-image
container-image: build ## make the container image that nodesmith builds in: out/nodesmith-image.tar
	@scripts/container-image.sh $(OUT)/nodesmith-image.tar

.PHONY: image
image: deps build ## build examples/debian-12.yaml, boot it and check it
	@echo "Building $(SPEC): 10 to 20 minutes on 2 cores the first time (most of it compiles Kubernetes), seconds after that."
	@bin/nodesmith build -f $(SPEC) -o $(OUT)
	@echo "Booting it on BIOS and on UEFI: about a minute with KVM, 3 to 6 without."
	@bin/nodesmith verify $$(basename $(SPEC) .yaml)/qemu --level boot

.PHONY: test
test: test-deps build ## everything that CI runs
	@scripts/check.sh
	@$(GOTEST) $$(go list ./... | grep -v /test$$)
	@$(GOTEST) -v ./test

.PHONY: test-all
test-all: test ## test, then every Kubernetes on every Debian, every format booted, hundreds of faults: hours
	@scripts/install-deps.sh all
	@scripts/clients.sh
	@go test -tags all -count=1 -timeout 1h -v -run 'BehindSSH' ./internal/engine
	@go test -tags all -count=1 -timeout 6h -v -run 'TestTheWholeImageIsTheSame|TestAPlanOnAnEmptyCache|TestTheMatrix|TestTheImageBootsFromEveryFormat|TestBootstrapDataOfSecretsManager|TestAMachineBehindAProxy|TestAKilledCompiler|TestCtrlCEndsTheExamplesBuild' ./test
	@go test -tags all -count=1 -timeout 6h -run 'TestTwoHundredFaults|TestClusterAPI' ./internal/publish/...
	@go test -tags all -count=1 -timeout 6h -v ./test/faults

.PHONY: unit
unit: ## the fast tests alone
	@go test ./...  -short

.PHONY: lint
lint: ## golangci-lint, govulncheck and shellcheck
	@scripts/lint.sh

.PHONY: bench
bench: test-deps build ## measure what docs/benchmarks.md states
	@scripts/bench.sh

.PHONY: bench-matrix
bench-matrix: test-deps build ## build 2 Debians x 2 Kubernetes x 2 infrastructures from empty caches: half an hour
	@NODESMITH_MATRIX=2x2x2 go test -tags all -count=1 -timeout 2h -v -run TestTheMatrix ./test

.PHONY: bench-formats
bench-formats: test-deps build ## compare format conversion with qemu-img, as ratios
	@scripts/bench-formats.sh $(OUT)/debian-12-qemu.qcow2

.PHONY: bench-publish
bench-publish: ## compare writing an EBS snapshot with a control program, and with a link of 1 Gbit/s
	@go test -run '^$$' -bench . -benchtime 3x ./internal/publish/aws/snapshot

.PHONY: clean
clean: ## remove what was built here (not the caches: see docs/architecture.md)
	@rm -rf bin $(OUT) internal/build/steps/bin/step-*
