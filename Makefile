# Headgate. "make" alone lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
VERSION_PACKAGE := github.com/prometheus/common/version
LDFLAGS := -s -w -X $(VERSION_PACKAGE).Version=$(VERSION)
BINARIES := controller external-scaler pipeline
# Every module of the repository whose tests need no cluster.
MODULES := . demo promtest deploy/monitoring tools/images tools/dependencies tools/docs

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: $(BINARIES:%=bin/%) ## build the binaries into bin/

.PHONY: FORCE
bin/%: FORCE
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

bin/demo: FORCE
	@CGO_ENABLED=0 $(GO) build -C demo -trimpath -ldflags '$(LDFLAGS)' -o ../$@ .

bin/monitoring: FORCE
	@CGO_ENABLED=0 $(GO) build -C deploy/monitoring -trimpath -ldflags '$(LDFLAGS)' -o ../../$@ .

bin/promtest: FORCE
	@CGO_ENABLED=0 $(GO) build -C promtest -trimpath -ldflags '$(LDFLAGS)' -o ../$@ .

.PHONY: demo
demo: ## watch the whole loop in this terminal, until Ctrl-C
	@tools/progress "building the binaries" $(MAKE) build bin/demo
	@bin/demo --prometheus "$$(tools/setup prometheus)" $(if $(TRACE),--trace '$(TRACE)') $(if $(POLICY),--policy '$(POLICY)')

.PHONY: smoke
smoke: ## run the loop unattended and judge it: make smoke [TRACE=file.csv] [SECONDS=n] [POLICY=name]
	@tools/progress "building the binaries" $(MAKE) build bin/demo
	@bin/demo --smoke --prometheus "$$(tools/setup prometheus)" $(if $(TRACE),--trace '$(TRACE)') $(if $(SECONDS),--seconds '$(SECONDS)') $(if $(POLICY),--policy '$(POLICY)')

.PHONY: compare
compare: ## hold the real loop without control, with step and with drain against one another and the simulation: make compare [TRACE=file.csv] [SECONDS=n]
	@tools/progress "building the binaries" $(MAKE) build bin/demo
	@bin/demo --compare --prometheus "$$(tools/setup prometheus)" $(if $(TRACE),--trace '$(TRACE)') --seconds '$(or $(SECONDS),60)'

.PHONY: dashboards-check
dashboards-check: ## make smoke, and before its end ask for all that the dashboards show, and run the docs' commands on it
	@tools/progress "building the binaries" $(MAKE) build bin/demo bin/monitoring bin/promtest
	@bin/demo --smoke --prometheus "$$(tools/setup prometheus)" --before-stop 'bin/monitoring live .'

.PHONY: dashboards-schema
dashboards-schema: ## check the dashboards against the types that Grafana 12 and 13 publish; needs Node.js
	@cd deploy/monitoring/schema && npm ci --silent --ignore-scripts --no-audit --no-fund && npm run --silent check

.PHONY: test
test: lint ## run all tests under the race detector, with a real Prometheus, PostgreSQL and Redis
	@tools/setup compiler
	@tools/setup postgresql
	@tools/setup redis
	@tools/setup python
	@prometheus=$$(tools/setup prometheus); promtool=$$(tools/setup promtool); \
	export HEADGATE_TEST_FILES=$$(find deploy docs -type f -print0 | sort -z | xargs -0 cksum | cksum); \
	export HEADGATE_TEST_REPOSITORY=$$(git ls-files -z -co --exclude-standard | sort -z | xargs -0 cksum 2>/dev/null | cksum); \
	for module in $(MODULES); do \
		echo "== go test -race ($$module)"; \
		HEADGATE_TEST_PROMETHEUS=$$prometheus HEADGATE_TEST_PROMTOOL=$$promtool $(GO) test -C $$module -race -timeout 20m ./...; \
	done

.PHONY: lint
lint: ## check formatting, vet, staticcheck, and that go.mod is tidy
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	@mkdir -p bin && CGO_ENABLED=0 $(GO) build -C tools/lint -o ../../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	@for module in $(MODULES); do \
		echo "== vet, staticcheck, tidy ($$module)"; \
		(cd $$module && $(GO) vet ./... && $(CURDIR)/bin/staticcheck ./... && $(GO) mod tidy -diff); \
	done
	@heavy=$$($(GO) list -deps ./cmd/... | grep -E '^(k8s\.io|sigs\.k8s\.io|github\.com/prometheus/prometheus|go\.etcd\.io)/' || true); \
	if [ -n "$$heavy" ]; then echo "compiled into the binaries, and should not be:"; echo "$$heavy"; exit 1; fi

# The scenarios' source is checked here and not by lint: it brings Kubernetes
# along, which nobody else should have to download. All of KEDA is too much for
# staticcheck: it takes five minutes. The program of the scenarios looks for the
# modules of KEDA and Kubernetes beside its source, whose path it has to keep.
.PHONY: e2e
e2e: ## check every promise on a real Kubernetes with KEDA: make e2e [RUN=regex] [STORM=1m] [KEEP=true]
	@tools/setup postgresql
	@tools/progress "building the binaries" $(MAKE) build >&2
	@CGO_ENABLED=0 tools/progress "checking the scenarios' source" $(MAKE) lint MODULES=e2e >&2
	@cd e2e/kedaclient && export CGO_ENABLED=0 GOFLAGS=-trimpath && \
		../../tools/progress "checking the source of the tests with KEDA's client" $(GO) vet ./... && $(GO) mod tidy -diff
	@CGO_ENABLED=0 tools/progress "building the scenarios" $(GO) build -C e2e -trimpath=false -o ../bin/e2e .
	@bin/e2e $(if $(RUN),-run '$(RUN)') $(if $(STORM),-storm '$(STORM)') $(if $(KEEP),-keep)

# Like e2e, the cases' source is checked here: it brings dependencies along that
# nobody else should have to download. KEDA is built for the comparison alone.
.PHONY: chaos
chaos: ## break what is around the loop, and watch that nothing is lost: make chaos [RUN=regex] [SEED=n MINUTES=n] [BASELINE=true] [KEEP=true]
	@tools/setup postgresql
	@tools/setup redis
	@tools/progress "building the binaries" $(MAKE) build >&2
	@CGO_ENABLED=0 tools/progress "checking the cases' source" $(MAKE) lint MODULES=chaos >&2
	@CGO_ENABLED=0 tools/progress "building the cases" $(GO) build -C chaos -trimpath -o ../bin/ . ./naive
	@$(if $(BASELINE),CGO_ENABLED=0 tools/progress "building KEDA's trigger" $(GO) build -C e2e/kedaclient -trimpath -o ../../bin/serving ./serving)
	@HEADGATE_TEST_PROMETHEUS="$$(tools/setup prometheus)" bin/chaos $(if $(RUN),-run '$(RUN)') $(if $(SEED),-seed '$(SEED)') $(if $(MINUTES),-minutes '$(MINUTES)') $(if $(BASELINE),-baseline $(if $(RUN),,-docs docs/reliability.md)) $(if $(KEEP),-keep)

.PHONY: simulate
simulate: bin/promtest ## judge all policies on the simulated pipeline, into docs/: make simulate [TRACES=dir]
	@bin/promtest report --out docs $(if $(TRACES),--traces '$(TRACES)')

.PHONY: page-test
page-test: ## look at the status page with a real Chromium
	@tools/setup chromium
	@$(MAKE) lint MODULES=e2e/browser
	@HEADGATE_TEST_PROMETHEUS=$$(tools/setup prometheus) $(GO) test -C e2e/browser -race -count 1 ./...

.PHONY: bench
bench: ## measure against peers in one run, by turns, into docs/benchmarks.md: make bench [RUN=regex] [ROUNDS=n]
	@tools/setup postgresql
	@tools/setup redis
	@tools/progress "building the binaries" $(MAKE) build >&2
	@CGO_ENABLED=0 tools/progress "building the benchmarks" $(GO) build -C bench -trimpath -o ../bin/bench .
	@CGO_ENABLED=0 tools/progress "building KEDA's scalers" $(GO) build -C e2e/kedaclient -trimpath -o ../../bin/polling ./polling
	@HEADGATE_TEST_PROMETHEUS="$$(tools/setup prometheus)" bin/bench $(if $(RUN),-run '$(RUN)',-docs docs/benchmarks.md) $(if $(ROUNDS),-rounds '$(ROUNDS)')

.PHONY: wide
wide: ## simulate the sharded controllers of 1,000,000 targets, and measure what one target costs a controller
	@$(GO) test -count 1 -v -run 'AMillion|AHundred|ALostShard|TenThousand' ./controller ./controller/shard
	@$(GO) test -run '^$$' -bench "WholeTick|ApplyOverHTTP" -benchtime 10x ./controller

.PHONY: screenshots
screenshots: ## take the pictures of the status page in docs/images/ anew, from a demo that runs for some minutes
	@tools/setup chromium
	@tools/progress "building the binaries" $(MAKE) build bin/demo
	@CGO_ENABLED=0 $(GO) build -C e2e/browser -trimpath -o ../../bin/screenshots ./screenshots
	@bin/screenshots bin/demo --prometheus "$$(tools/setup prometheus)"

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (default 20s), and count the executions: make fuzz [FUZZTIME=1m] [RUN=regex]
	@tools/fuzz '$(or $(FUZZTIME),20s)' $(if $(RUN),'$(RUN)')

.PHONY: sizes
sizes: build ## tell what is compiled in: packages, go.sum lines, bytes of each binary
	@for binary in $(BINARIES); do \
		printf '%-16s %4d packages  %9d bytes\n' $$binary "$$($(GO) list -deps ./cmd/$$binary | wc -l)" "$$(stat -c %s bin/$$binary)"; \
	done
	@printf 'go.sum           %4d lines\n' "$$(wc -l < go.sum)"

.PHONY: reproducible
reproducible: ## build the binaries of the last commit twice, and compare them byte by byte
	@tools/reproducible $(BINARIES)

.PHONY: sbom
sbom: ## write a bill of materials of each binary into bin/, as CycloneDX
	@mkdir -p bin && CGO_ENABLED=0 $(GO) build -C tools/sbom -o ../../bin/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
	@for binary in $(BINARIES); do \
		CGO_ENABLED=0 GOOS=linux bin/cyclonedx-gomod app -json -licenses -std -main cmd/$$binary -output bin/$$binary.cdx.json . 2>bin/sbom.log || { cat bin/sbom.log >&2; exit 1; }; \
		echo bin/$$binary.cdx.json; \
	done

.PHONY: images
images: ## build the container images: make images [REGISTRY=name] [TAG=tag] [BUILDER=docker|podman|buildah]
	@BUILDER='$(BUILDER)' tools/images/build '$(or $(REGISTRY),ghcr.io/headgate)' '$(or $(TAG),$(VERSION))'

.PHONY: images-check
images-check: ## check what would be in the images, without a builder
	@CGO_ENABLED=0 $(GO) -C tools/images run . '$(CURDIR)'

.PHONY: docs
docs: ## write the generated parts of the docs anew
	@$(GO) generate ./...
	@$(GO) generate -C deploy/monitoring ./...
	@$(GO) generate -C tools/dependencies ./...

.PHONY: clean
clean: ## remove what was built here; caches stay
	@rm -rf bin
