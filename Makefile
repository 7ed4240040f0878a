# dcni. Every target works as root and as a user with sudo; only tests and benchmarks run as root, nothing is built so.
PROGRAMS := $(patsubst %/main.go,./%,$(wildcard plugins/*/main.go cmd/*/main.go))
VERSION  ?= $(shell git describe --tags --match 'v*' 2>/dev/null || echo v0.0.0)
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
LDFLAGS  := -s -w -X dcni/pkg/cni.Version=$(VERSION)
export CGO_ENABLED := 0
export GOFLAGS := -trimpath $(GOFLAGS) # of all, so that builds and tests share what they compile
export DESTDIR # as it is: the shell would take words of it apart

.PHONY: help setup build demo test unit integration bench scale parity mutate lint install uninstall dist image programs
help: # list the targets
	@sed -n 's/^\([a-z]*\):[^#]*# /  make \1\t/p' Makefile | expand -t 20

setup: ; scripts/setup # install the Debian packages that are missing
build: # static binaries of all plugins and commands in bin/
	go build -ldflags "$(LDFLAGS)" -o bin/ $(PROGRAMS)
demo: setup build # a session with the plugins in a throwaway host
	go test -c -o bin/test/ ./integration
	cd integration && ../scripts/root ../bin/test/integration.test -test.run TestDemo -test.v | ../scripts/session
test: # set-up, build and all tests: what CI runs before lint
	$(MAKE) -j2 setup programs
	scripts/test unit scenarios
unit: ; scripts/test unit # package tests; those that need root or a kernel's namespaces run as root
integration: programs # scenarios on the real kernel, as root; RUN=TestParity/dcni/talk runs one
	RUN='$(or $(RUN),.)' scripts/test scenarios
bench: build # measure beside the reference plugins; BENCH='-before DIR' has another build beside, '-o FILE' writes it down
	go build -o bin/test/ ./integration/bench/... && go test -c -o bin/test/ ./pkg/records
	scripts/setup && scripts/root bin/test/bench $(BENCH)
scale: build ; go build -o bin/test/ ./integration/scale && scripts/root bin/test/scale $(SCALE) # measure clusters of up to 200 simulated nodes
parity: build ; scripts/parity $(PARITY) # sessions from Docker's manual on a Docker engine and on dcni, side by side
mutate: ; nice go run ./integration/mutate -show $(PKG) # share of small faults that package tests catch, outside CI; PKG=./pkg/wire for one
lint: # the linters of .golangci.yml, go vet among them, and known vulnerabilities where their database can be had
	go run $(LINT) run ./... && scripts/vulnerabilities
install: build ; scripts/install # plugins to /opt/cni/bin, commands to /usr/local/bin, below DESTDIR
uninstall: ; scripts/install --remove # take away what install put there; networks and state stay
dist: ; scripts/dist # packages (.deb, .rpm), tarballs, an SBOM and checksums in bin/dist
image: ; scripts/image/build # the container image that Kubernetes nodes run, an OCI layout in bin/dist, and its manifests
programs: build
	go build -o bin/test/ github.com/containernetworking/cni/cnitool github.com/containernetworking/plugins/plugins/main/loopback github.com/containernetworking/plugins/plugins/ipam/dhcp ./integration/parity/talk ./integration/gocni ./integration/killat
	go build -tags man -o bin/test/manual ./cmd/dnet && scripts/nerdctl bin/test/nerdctl && scripts/multus bin/test/plugins/multus
