# make up     builds the static binary and starts broker and logger with Zeek's default endpoints;
#             logs go to run/logs
# make test   installs what the tests need (or says what is missing) and runs all of them with the race detector
# make nightly  runs all of them with their large models and attacks, then the fuzz targets for
#             longer, then checks a release; it takes up to two hours
# .ci/run     everything that has to pass before a change is merged

GO       ?= go
FUZZTIME ?= 30s
TIMEOUT  ?= 15m
# How many tests of a package run at a time: twice as many as processors, as many wait for processes.
PARALLEL ?= $(shell expr 2 '*' $$(nproc 2>/dev/null || echo 2))
# What "zmtpd version" says; empty for a build from a tree without tags.
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  := -X main.version=$(VERSION)
# How checks compile: as the release is built, so that they share its compiled packages.
CHECK    := CGO_ENABLED=0 GOFLAGS=-trimpath

# A binary for each; what cannot be had there says so at run time.
BINARIES := linux/amd64 linux/arm64 freebsd/amd64 freebsd/arm64 darwin/amd64 darwin/arm64
# These have to compile: the library is used there.
COMPILES := windows/amd64 windows/arm64

.PHONY: up demo build reference release release-test test test-deps lint cross fuzz bench bench-broker bench-latency bench-curve bench-single bench-library bench-gateway bench-live scale overload soak hostile nightly clean

# Logs go to run/logs, which git ignores.
up: build
	mkdir -p run/logs
	bin/zmtpd up --dir run/logs

# Broker and logger with a simulated cluster, for 20 seconds.
demo: build
	.ci/demo

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/zmtpd ./cmd/zmtpd

# The pages in docs that are made from the code: commands, configuration and metrics.
reference:
	ZMTPD_UPDATE=1 $(GO) test -count=1 -run=TestReference ./cmd/zmtpd ./cmd/zmtpd/doctor

test-deps:
	.ci/test-deps

# Otherwise each process with the race detector sleeps a second at its end, in case other threads
# still run into a race: a second for each package, and for each zmtpd that a test starts.
test nightly soak: export GORACE = atexit_sleep_ms=100

# ZMTPD_TEST_RACE makes a test fail that finds itself built without the race detector.
test: test-deps
	$(CHECK) $(GO) vet ./...
	ZMTPD_TEST_RACE=1 $(GO) test -race -vet=off -shuffle=on -parallel=$(PARALLEL) -timeout=$(TIMEOUT) ./...

lint:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted, run gofmt -w:"; echo "$$files"; exit 1; fi
	$(CHECK) $(GO) vet ./...
	$(CHECK) $(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	.ci/imports

cross: $(BINARIES:%=cross/%) $(COMPILES:%=compile/%)

cross/%:
	CGO_ENABLED=0 GOOS=$(*D) GOARCH=$(*F) $(GO) build -trimpath ./...
	CGO_ENABLED=0 GOOS=$(*D) GOARCH=$(*F) $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o dist/zmtpd-$(*D)-$(*F) ./cmd/zmtpd

compile/%:
	CGO_ENABLED=0 GOOS=$(*D) GOARCH=$(*F) $(GO) build -trimpath ./...

# Everything of a release, in dist/release: binaries, packages, bills of materials, checksums.
release:
	GO=$(GO) packaging/release

# Builds linux/amd64 and freebsd/amd64 twice and compares the sums, and checks the packages. As root,
# it installs and removes the .rpm in a copy of the system, builds the container image, installs the
# .deb (on Debian), runs the service under most restrictions of its unit, and removes the .deb again.
release-test:
	GO=$(GO) packaging/release-test

fuzz:
	GO=$(GO) FUZZTIME=$(FUZZTIME) .ci/fuzz

bench:
	$(GO) test -run='^$$' -bench=. -benchmem ./...

# Stores in memory and on disk beside plain SQLite, 10 clones at 5,000 changes a second for 10 s, and redis-server.
# It wants a quiet machine.
bench-store:
	$(GO) test -run='^$$' -bench=Store -benchmem ./forwarder/store/...
	$(GO) test -run='^$$' -bench=Clones -benchtime=50000x ./forwarder/store/replica
	$(MAKE) build && .ci/bench-store

# Brokers compared under one load; ciphers compared with libsodium. They want a quiet machine, libzmq3-dev and libsodium-dev.
bench-broker:
	$(GO) run ./forwarder/brokerbench

# How long messages take through the brokers at 10,000 a second; as root, so that the generator is on time.
bench-latency:
	$(GO) run ./forwarder/brokerbench -latency

bench-curve:
	$(GO) run ./curve/salsa/bench

# CPU time per message of single Send and Recv, unencrypted, against libzmq's in the same run.
bench-single:
	$(GO) run ./curve/pushbench -null

# The library beside libzmq, pebbe/zmq4 and go-zeromq/zmq4, as tables in Markdown. It takes 5 minutes on a quiet machine, and
# needs libzmq3-dev, a C compiler and 10,200 file descriptors. -mod=mod: the module follows the requirements of the main one.
bench-library:
	cd zmtp/bench && $(GO) build -mod=mod -o ../../bin/bench-library .
	bin/bench-library

# The WebSocket gateway: memory of an idle client, and CPU time per event and client beside the broker's own. It needs 20,000
# file descriptors.
bench-gateway:
	$(GO) run ./forwarder/gateway/gatewaybench

# The ring of "capture live" at 1 Gbit/s of packets of 800 bytes, for 10 seconds, as root. It needs two processors.
bench-live:
	$(GO) test -run='^$$' -bench=Live -benchtime=1x ./capture/live

# The forwarder with 1,000 nodes, 10,000 connections, 100,000 topics, minutes of nodes that come and go, and overload. It needs 20,000 file descriptors.
scale:
	ZMTPD_SCALE=large $(GO) test -count=1 -v -timeout=20m ./forwarder/scaletest

# Of that, the part with 300 subscribers of which most do not keep up, or vanish, under all overload policies. It wants to be root.
overload:
	ZMTPD_SCALE=large $(GO) test -count=1 -v -timeout=10m -run=TestOverload ./forwarder/scaletest

# Ten minutes of a simulated cluster with slow and dying nodes; "make test" runs half a minute.
soak:
	ZMTPD_SOAK=10m $(GO) test -race -count=1 -v -timeout=20m -run=TestSoak ./cmd/zmtpd

# The attacks on the real binary in full size, beside honest peers. It prints what they cost; "make test" runs them small.
hostile:
	ZMTPD_HOSTILE=large $(GO) test -count=1 -v -timeout=60m ./cmd/zmtpd/hostile

# What takes too long for every change.
nightly: test-deps
	ZMTPD_NIGHTLY=1 ZMTPD_HOSTILE=large ZMTPD_TEST_RACE=1 $(GO) test -race -shuffle=on -parallel=$(PARALLEL) -timeout=60m ./...
	$(MAKE) fuzz FUZZTIME=2m
	$(MAKE) release-test

# Runs the tests that show conformance to the RFCs and libzmq, and writes docs/conformance.md. A rule whose test does not
# pass is an error.
.PHONY: conformance
conformance:
	$(GO) run ./zmtp/interop/conformance

clean:
	rm -rf bin dist
