# Everything that a target needs beyond Go, git and make is built from Go modules.
SHELL := /bin/bash
.DEFAULT_GOAL := build

BIN     := bin/kubectl-istio_upgrade
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/plugin.version=$(VERSION)
# One setting for builds, tests and lint, so that they share what was compiled.
export CGO_ENABLED := 0
LAB     := go -C test/lab run ./cmd/lab

.PHONY: build test unit e2e lint bench lab lab-down demo demo-down

build: ## the plugin, into bin/
	go build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/kubectl-istio_upgrade

test: lint unit e2e ## everything that must pass

unit: ## the unit tests, in seconds
	go test ./...

e2e: build ## the tests on a real cluster
	go -C test/lab test -timeout 20m ./...
	ISTIO_UPGRADE=$(CURDIR)/$(BIN) go -C test/e2e test -timeout 40m ./...

lint: ## golangci-lint, built from its module
	go -C tools/lint build -o $(CURDIR)/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run ./...

bench: build ## the plugin beside the limit and its peers, as ratios
	go -C test/bench run . $(CURDIR)/$(BIN)

lab: ## a real cluster, and the line that points KUBECONFIG to it
	@$(LAB) up

lab-down:
	@$(LAB) down

demo: build ## a real mesh is upgraded before your eyes
	@test/demo/demo.sh $(CURDIR)/$(BIN)

demo-down: ## its cluster is removed
	@$(LAB) down --dir "$${LAB_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/kubectl-istio-upgrade/demo}"
