# make demo, make test: each does all set-up on a fresh Debian 12 with Go, as root.

# Where programs are that come without their packages.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/clusterip/tools

# Package and a command it brings. What is there already is not installed again.
PACKAGES = iptables:iptables nftables:nft conntrack:conntrack iproute2:ip \
           bind9-host:host bind9-dnsutils:dig curl:curl gcc:gcc
# The race detector is linked with cgo. libc6-dev brings headers and no command, and
# gcc only recommends it, so setup asks gcc for a header.
# The tools live in sbin, which the PATH of a login through plain su lacks.
export PATH := $(PATH):/usr/sbin:/sbin:$(TOOLS)

# Tools that are built where they are used. golangci-lint takes a minute and a half of
# two cores to build, once.
GOLANGCI_LINT = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX = go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
ARGS =

# Where the programs are that clusterip is compared with, by version.
KUBERNETES := $(shell sed -n 's,.*k8s.io/kubernetes \(v[^ ]*\).*,\1,p' test/peers/go.mod)
export PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/clusterip/peers/$(KUBERNETES)

.PHONY: build demo test promtool integration rolling kernels kernels-proxy endurance peers lint vuln release release-check bench bench-nat bench-nat-alone performance bench-dns screenshots page-cost setup

build:
	go build -o coredns/coredns ./coredns

demo: setup build
	./coredns/coredns demo $(ARGS)

# The screenshots of the page in docs.
screenshots: PACKAGES += chromium:chromium
screenshots: setup
	E2E_REQUIRED=1 go test -count=1 -run TestPage ./test/page -update

# What an open page takes, and what becomes of queries beside many who ask for it: 8 minutes.
page-cost: PACKAGES += chromium:chromium
page-cost: setup
	E2E_REQUIRED=1 go test -v -count=1 -timeout 30m -run TestCost ./test/page -cost 60s

# -count=1: several packages build the program and run it, and the cache of test
# results does not see what that program is made of.
test: PACKAGES += buildah:buildah mmdebstrap:mmdebstrap chromium:chromium
test: setup promtool
	cd release && go test -race -count=1 ./...
	go test -race -count=1 -timeout 20m ./...

# Beside kube-apiserver, kube-proxy and kubectl. Building those, and etcd, takes 13 minutes, once.
integration: PACKAGES += ipset:ipset
integration: setup peers
	E2E_REQUIRED=1 PEERS_REQUIRED=1 go test -race -count=1 -timeout 20m ./test/differential/... ./test/kubernetes/...

# Ten rolling restarts of the DaemonSet, at 200 queries a second and node: 4 minutes.
rolling: setup peers
	E2E_REQUIRED=1 PEERS_REQUIRED=1 go test -v -race -count=1 -timeout 20m -run TestRollingRestart ./test/kubernetes -rollouts 10

# On the kernels of Debian's releases, emulated. KERNELS=5.10,6.1 names some, and leaves out
# what takes long: WHOLE=true runs that on them too.
KERNELS ?= all
WHOLE ?= $(if $(filter all,$(KERNELS)),true,false)
kernels kernels-proxy: PACKAGES += qemu-system-x86:qemu-system-x86_64 kmod:depmod ipset:ipset
kernels: setup
	KERNELS=$(KERNELS) go test -v -count=1 -run TestEveryNftLists ./kernelnat/nftables
	KERNELS=$(KERNELS) go test -v -count=1 -timeout 6h ./test/kernels -whole=$(WHOLE)

# Beside kube-proxy in its IPVS mode, in such machines. It is not part of kernels, nor of CI.
kernels-proxy: setup peers
	KERNELS=$(KERNELS) PEERS_REQUIRED=1 go test -v -count=1 -timeout 6h -run TestBesideProxy ./test/kernels

# What becomes of connections while rules change, are flushed by others or have lost their
# process, and of rules when writes go wrong: half an hour.
endurance: setup
	E2E_REQUIRED=1 go test -v -count=1 -timeout 2h ./test/endurance -connections 10000000 -edits 100 -kills 20
	E2E_REQUIRED=1 go test -v -count=1 -run UnderLoad ./test/conformance -rate 20000
	E2E_REQUIRED=1 go test -v -count=1 -timeout 1h -run TestFaultsEndAsAStart ./kernelnat/nftables -faults 5m

peers: $(PEERS)/kube-proxy $(PEERS)/kubectl $(PEERS)/etcd $(PEERS)/etcd-streaming

# The version is what a release's own build sets. kube-proxy comes last: what is
# there is whole.
version = k8s.io/component-base/version
part = $(word $(1),$(subst ., ,$(KUBERNETES:v%=%)))
release = -s -w -X $(version).gitVersion=$(KUBERNETES) -X $(version).gitMajor=$(call part,1) -X $(version).gitMinor=$(call part,2)
$(PEERS)/kube-proxy:
	mkdir -p $(PEERS)/new
	cd test/peers && CGO_ENABLED=0 go build -trimpath -o $(PEERS)/new/ -ldflags '$(release)' \
	  k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-proxy
	mv $(PEERS)/new/kube-apiserver $(PEERS)/
	mv $(PEERS)/new/kube-proxy $(PEERS)/
	rmdir $(PEERS)/new

$(PEERS)/kubectl:
	mkdir -p $(PEERS)
	cd test/peers && CGO_ENABLED=0 go build -trimpath -ldflags '$(release)' -o $@.new k8s.io/kubernetes/cmd/kubectl
	mv $@.new $@

# The version that Kubernetes itself is made with, with which the API server streams
# lists. With Debian's, below, it cannot.
$(PEERS)/etcd-streaming:
	mkdir -p $(PEERS)
	cd test/peers && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@.new go.etcd.io/etcd/server/v3
	mv $@.new $@

# Debian's, unpacked: its package, installed, would start a server.
$(PEERS)/etcd:
	mkdir -p $(PEERS)
	@if installed="$$(command -v etcd)"; then ln -s "$$installed" $@; exit; fi; \
	if ! command -v apt-get >/dev/null; then echo "install etcd: this machine has no apt-get to get it with"; exit 1; fi; \
	set -e; cd $(PEERS); \
	if [ "$$(id -u)" = 0 ]; then apt-get update -qq; fi; \
	apt-get download -qq -o APT::Sandbox::User=root etcd-server; \
	dpkg-deb --fsys-tarfile etcd-server_*.deb | tar -xO ./usr/bin/etcd >etcd.new; \
	chmod +x etcd.new; rm etcd-server_*.deb; mv etcd.new etcd

# Debian's, unpacked: its package, installed, would start a server.
promtool:
	@command -v promtool && exit 0; \
	if [ "$$(id -u)" = 0 ]; then apt-get update -qq; fi; \
	mkdir -p $(TOOLS) && cd $(TOOLS) && apt-get download -qq -o APT::Sandbox::User=root prometheus && \
	dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool.new && \
	chmod +x promtool.new && rm prometheus_*.deb && mv promtool.new promtool && echo "$(TOOLS)/promtool" || \
	echo "missing on this machine: promtool (without it the rules in docs/alerts.yaml are not tested)"

# .golangci.yml says which linters.
lint:
	$(GOLANGCI_LINT) run ./...
	cd release && $(GOLANGCI_LINT) run ./...

# Known vulnerabilities in code that the program reaches. It asks vuln.go.dev.
vuln:
	$(GOVULNCHECK) ./...

# Into dist: static programs, of what they consist, an image of both and the checksums of it
# all. It needs apt, the network and a clone: into a worktree of one, Go does not look for
# the commit.
ARCHITECTURES = amd64 arm64
release: export CGO_ENABLED = 0
release: export GOAMD64 = v1
release: export GOARM64 = v8.0
release: export GOFLAGS = -buildvcs=true
release:
	rm -rf dist && mkdir dist
	set -e; for arch in $(ARCHITECTURES); do \
	  GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '-s -w' -o dist/coredns-linux-$$arch ./coredns; \
	  $(CYCLONEDX) bin -json -std -noserial -notimestamp -output dist/coredns-linux-$$arch.cdx.json dist/coredns-linux-$$arch; \
	done
	cd release && go run . -o ../dist/clusterip-image.tar $(ARCHITECTURES:%=../dist/coredns-linux-%)
	cd dist && sha256sum clusterip-image.tar coredns-linux-* >SHA256SUMS

# A release of what is committed, made in two clones, of which the second takes nothing that was
# built before, is the same twice; and what is in it works. About 10 minutes.
release-check: PACKAGES += buildah:buildah
release-check: setup
	set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	git clone -q . $$dir/one; git clone -q . $$dir/another/place; \
	$(MAKE) -C $$dir/one release; \
	GOCACHE=$$dir/cache $(MAKE) -C $$dir/another/place release; \
	cat $$dir/one/dist/SHA256SUMS; \
	diff $$dir/one/dist/SHA256SUMS $$dir/another/place/dist/SHA256SUMS; \
	E2E_REQUIRED=1 go test -v -count=1 -run TestRelease ./test/image -dist $$dir/one/dist

bench:
	go test -run '^$$' -bench . -benchmem ./plugin/... ./kernelnat/... ./cluster/...

# Beside kube-proxy in the same run. SIZES=10,1000,10000 and PROXY_MODE=nftables,iptables
# take hours, most of them kube-proxy's in its iptables mode. REPORT=docs/performance
# writes the results there, and make performance then makes docs/performance.md of them.
SIZES = 1000
BACKEND = nftables
PROXY_MODE = nftables
LARGE = 10000
REPORT =
bench-nat: setup peers
	E2E_REQUIRED=1 PEERS_REQUIRED=1 go test -v -count=1 -timeout 6h -run TestBenchNAT ./test/differential -nat.services $(SIZES) \
	  -nat.backend $(BACKEND) -nat.proxy $(PROXY_MODE) -nat.large $(LARGE) -nat.report '$(abspath $(REPORT))'

# A backend without an API server, from the Store to the kernel: SIZES=1000,10000,100000.
bench-nat-alone: setup
	E2E_REQUIRED=1 go test -v -count=1 -timeout 6h -run TestScale ./kernelnat -scale.services $(SIZES) -scale.backend $(BACKEND) \
	  -scale.report '$(abspath $(REPORT))'

# The tables and the charts in docs/performance.md, of what is in docs/performance.
performance:
	go test -count=1 -run TestPage ./test/performance -page.write

# Beside CoreDNS's kubernetes plugin, NSD and Knot in the same run; SIZES=10000 takes 15
# minutes. SIDES and KINDS are regular expressions that choose some, FOR=100ms makes it short, and
# ETCD=etcd-streaming,etcd starts the program with lists in one piece too. REPORT as above.
SIDES =
KINDS =
FOR = 400ms
ETCD = etcd-streaming
bench-dns: setup peers
	PEERS_REQUIRED=1 go test -v -count=1 -timeout 1h -run TestBenchDNS ./test/differential/names -dns.services $(SIZES) -dns.etcd $(ETCD) \
	  -dns.sides '$(SIDES)' -dns.kinds '$(KINDS)' -dns.for $(FOR) -dns.report '$(abspath $(REPORT))'

setup:
	@missing=; for pair in $(PACKAGES); do \
	  command -v "$${pair#*:}" >/dev/null || missing="$$missing $${pair%:*}"; done; \
	gcc -E -include stdlib.h -x c /dev/null >/dev/null 2>&1 || missing="$$missing libc6-dev"; \
	test -z "$$missing" && exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "missing on this machine:$$missing (the race detector needs gcc and libc6-dev; without the others packet tests skip)"; exit 0; fi; \
	echo "installing:$$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null
