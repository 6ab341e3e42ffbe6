# Everything that a target needs beyond Go, git and make is built from Go modules.
SHELL := /bin/bash
.DEFAULT_GOAL := build

BIN     := bin/kubectl-istio_upgrade
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/plugin.version=$(VERSION)
# One setting for builds, tests and lint, so that they share what was compiled.
export CGO_ENABLED := 0
LAB     := go -C test/lab run ./cmd/lab

.PHONY: build test unit e2e long faults race fuzz lint bench profile lab lab-down demo demo-down docs package-tools package-test snapshot picture

build: ## the plugin, into bin/
	go build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/kubectl-istio_upgrade

test: lint unit e2e ## lint, unit and end-to-end tests, in ten minutes; long, faults, race, fuzz and package-test are apart

unit: ## the unit tests, in seconds
	@command -v chromium chromium-browser google-chrome >/dev/null || echo "no Chromium on PATH: the report's page is NOT tried in a browser"
	go test ./...
	go -C tools/schema test ./...
	go -C tools/picture test ./...
	go -C tools/krew test ./...
	go -C test/bench test .

# The whole upgrade and what shares a cluster is tested by e2e, what needs one of its
# own and minutes by long, what goes wrong by faults. Their results hold for the
# plugin that was built, which go test does not see: nothing of them is cached.
LONG   := ^TestAllFrom|^TestCRDs|^TestControlPlane$$|^TestControlPlaneLegacy|^TestGuides|^TestRightsInTheDocs$$|^TestManualLiveEquals
FAULTS := Faults$$|^TestKilled|^TestReliability
E2E    := ISTIO_UPGRADE=$(CURDIR)/$(BIN) go -C test/e2e test -count=1 -timeout 60m

e2e: build ## the tests on a real cluster
	$(E2E) -parallel 3 -skip '$(FAULTS)|$(LONG)' . ./clustertest

long: build ## those that take minutes each, the lab's own, and the corpus through the real istioctl
	go -C test/lab test -timeout 20m ./...
	ISTIOCTL=$$($(LAB) env | sed -n 's/^export LAB_ISTIOCTL=//p') go test -count=1 ./pkg/inject -run 'TestReinjectCorpus|TestRoundTrip|TestConfigFormats|TestLiveIsAsFromTheManifest'
	$(E2E) -parallel 3 -run '$(LONG)' .

faults: build ## what goes wrong on a real cluster, see docs/reliability.md
	$(E2E) -parallel 8 -run '$(FAULTS)' . ./faults

race: ## the unit tests with the race detector; wants a C compiler
	CGO_ENABLED=1 go test -race ./...

FUZZTIME ?= 10s
fuzz: ## every fuzz target for a while, FUZZTIME each
	@set -e; grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' pkg | while IFS=: read -r file target; do \
	  echo "$$file: $${target#func }"; \
	  go test "./$$(dirname "$$file")" -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME); \
	done

lint: ## golangci-lint, built from its module
	go -C tools/lint build -o $(CURDIR)/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run ./...

docs: ## docs/reference.md and docs/schemas, from the code
	go test ./pkg/plugin -run TestReferenceIsCurrent -update
	go -C tools/schema run .

package-tools: ## GoReleaser and krew, built from their modules
	go -C tools/release build -o $(CURDIR)/bin/goreleaser github.com/goreleaser/goreleaser/v2
	go -C tools/krew build -o $(CURDIR)/bin/ sigs.k8s.io/krew/cmd/krew sigs.k8s.io/krew/cmd/validate-krew-manifest
	go -C tools/krew build -o $(CURDIR)/bin/krew-manifest ./manifest

package-test: package-tools ## a release for this machine: built twice, installed by krew
	go -C test/package test -count=1 -timeout 40m ./...

snapshot: package-tools ## the archives of all platforms and the krew manifest, into dist/
	bin/goreleaser release --snapshot --clean --skip=publish,sign,sbom --timeout 2h
	bin/krew-manifest
	bin/validate-krew-manifest -skip-install -manifest dist/krew/istio-upgrade.yaml
	DIST=$(CURDIR)/dist go -C test/package test -count=1 -run TestReleaseOfEverySystem .

bench: build ## the plugin beside the limit and its peers, as ratios
	go -C test/bench build -o $(CURDIR)/bin/bench/ ./...
	bin/bench/bench -plugin $(BIN) -o docs/performance.md $(BENCH)

profile: build ## pprof profiles of the bench's main runs, into bin/profile
	go -C test/bench build -o $(CURDIR)/bin/bench/ ./...
	bin/bench/bench -plugin $(BIN) -profile bin/profile -lines start,patch,reinject,workloads,pods

lab: ## a real cluster, and the line that points KUBECONFIG to it
	@$(LAB) up

lab-down:
	@$(LAB) down

demo: build ## a real mesh is upgraded before your eyes
	@test/demo/demo.sh $(CURDIR)/$(BIN)

demo-down: ## its cluster is removed
	@$(LAB) down --dir "$${LAB_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/kubectl-istio-upgrade/demo}"

picture: build ## docs/terminal.svg, from the real demonstration
	@test/demo/picture.sh $(CURDIR)/$(BIN)
