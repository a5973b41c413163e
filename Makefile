# Tetherline. `make` or `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What tests and benchmarks need beyond Go lives outside the tree.
export TETHERLINE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tetherline
export PATH := $(TETHERLINE_CACHE)/bin:$(PATH)

FUZZTIME ?= 30s
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Benchmarks of the whole hub, which need minutes and a -benchtime of 1x.
WHOLE_BENCHMARKS := ^Benchmark(SideBySide|BridgeCost|Ingest|IdleMemory|CommandsUnderLoad|Storm|Drain|HostileLoad)$$

.PHONY: help demo build test soak test-deps chaos prove powerloss fuzz bench microbench bench-bridge generate drift lint tidy clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## hub, embedded store and a simulated fleet in one process, until Ctrl-C
	go run ./cmd/hubd demo

build: ## hubd, hubctl and firmware-sim into bin/
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/...

test: test-deps ## install what the tests need, then run all of them with the race detector
	go test -race -timeout 15m ./...

soak: test-deps ## the long forms of the tests against loss: 200 devices for 30 s, InfluxDB away for 20 s
	TETHERLINE_TEST_LONG=1 go test -race -count=1 -v -timeout 15m -run 'Acknowledged|KillingTheHub' ./hub

test-deps: ## install what the tests need: InfluxDB, into the cache; Mosquitto and the headers of OpenSSL (as root)
	@deploy/test-deps

chaos: test-deps ## 10,000 commands to 500 devices on bad links, hub and devices killed all the while; CHAOS_SEED=n repeats a schedule
	TETHERLINE_TEST_LONG=1 go test -run '^TestChaos$$' -count=1 -v -timeout 40m ./hub -chaos.seed=$(or $(CHAOS_SEED),0)

prove: test-deps ## the hub's promises, against kills, torn writes, full disks, dead links and impostors, for FOR (2m); SEED=n repeats a schedule, COMMANDS=n a second (5)
	go build -o bin/ ./cmd/hubd ./cmd/firmware-sim
	bin/firmware-sim prove --for $(or $(FOR),2m) --seed $(or $(SEED),0) --commands $(or $(COMMANDS),5) $(PROVE_FLAGS)

powerloss: test-deps ## the power of hub and devices goes 30 times, as root on Linux with /dev/fuse; POWER_SEED=n repeats what survives
	TETHERLINE_TEST_LONG=1 go test -race -run '^TestPowerLoss' -count=1 -v -timeout 30m ./hub -power.seed=$(or $(POWER_SEED),0)
	TETHERLINE_TEST_LONG=1 go test -race -run 'PowerLoss|LyingDisk' -count=1 -v ./device/client

fuzz: ## every fuzz target for FUZZTIME (30s; 5000x: that many inputs)
	@deploy/fuzz $(FUZZTIME)

bench: ## Tetherline beside InfluxDB alone, a bare WebSocket server, Mosquitto and Telegraf, as tables; BENCH=short for the 5 minute form
	@deploy/bench $(or $(BENCH),long)

microbench: test-deps ## benchmarks of the hot paths, with allocations
	go test -run '^$$' -bench . -skip '$(WHOLE_BENCHMARKS)' -benchmem -timeout 30m ./device/... ./telemetry/... ./commands/... ./hub/...

bench-bridge: ## CPU time of a message through the MQTT bridge, against Telegraf's mqtt_consumer, which it installs
	@deploy/test-deps bench-bridge
	go test -run '^$$' -bench '^BenchmarkBridgeCost$$' -benchtime 1x -timeout 30m ./hub -bridge.telegraf "$(TETHERLINE_CACHE)/bin/telegraf"

generate: ## Go code from the .proto files
	go tool buf generate

drift: ## fail when generated code is not what `make generate` makes
	@deploy/drift

lint: ## go vet, staticcheck, buf lint, gofmt
	go vet ./...
	go tool staticcheck ./...
	go tool buf lint
	@unformatted=$$(git ls-files '*.go' | grep -v -E '\.(pb|connect)\.go$$' | xargs gofmt -l); \
	  if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi

tidy: ## go.mod and go.sum as the code needs them
	go mod tidy

clean: ## remove bin/
	rm -rf bin
