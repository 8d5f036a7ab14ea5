package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/plugin/clusterip"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// runCheck validates the Corefile with every plugin's own parser, and the
// manifests it names. It starts nothing and writes nothing.
func runCheck(flags *flag.FlagSet, args []string) int {
	conf := confFlag(flags)
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	input, done, err := subcommandCorefile(*conf)
	defer done()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	servers, err := makeServers(input)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	found, err := blocks(input)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	faults, folders := checkFastPaths(input.Path(), servers), 0
	for _, b := range found {
		for _, what := range b.names.Warnings {
			fmt.Fprintln(os.Stderr, what)
		}
		if b.names.Manifest.Dir != "" {
			faults += checkManifests(input.Path(), b)
			folders++
		}
	}
	switch {
	case faults > 0:
		return 1
	case len(found) == 0:
		fmt.Fprintf(os.Stderr, "%s is sound. It has no clusterip, so there were no manifests to look at.\n", input.Path())
	case folders == 0:
		fmt.Fprintf(os.Stderr, "%s is sound. It reads an API server, which was not asked.\n", input.Path())
	default:
		fmt.Fprintf(os.Stderr, "%s is sound, and so are the manifests that it names.\n", input.Path())
	}
	return 0
}

// checkFastPaths tells where servers will have no fast path, and returns how often the
// Corefile says that they must have one.
func checkFastPaths(corefile string, servers []caddy.Server) (faults int) {
	var all []clusterip.Off
	for _, s := range servers {
		if s, plain := s.(*dnsserver.Server); plain {
			all = append(all, clusterip.Offs(s)...)
		}
	}
	slices.SortFunc(all, func(a, b clusterip.Off) int { return strings.Compare(a.String(), b.String()) })
	for _, off := range slices.Compact(all) { // with multisocket there are several servers at an address
		if off.On {
			faults++
			fmt.Printf("%s: clusterip: %s\n", corefile, off)
		} else {
			fmt.Fprintf(os.Stderr, "%s: clusterip: %s\n", corefile, off)
		}
	}
	return faults
}

// checkManifests prints what is wrong in a folder, which a Corefile names, and returns
// how much is. Which frontends Services do not get, and whether this node is one of
// the folder's, is NAT's to say, where there is any.
func checkManifests(corefile string, b block) (faults int) {
	source, err := manifest.New(b.names.Manifest, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	update, problems := source.Load()
	for _, p := range problems {
		if p.Severity == manifest.Error {
			faults++
			fmt.Println(p)
		} else {
			fmt.Fprintln(os.Stderr, p)
		}
	}
	tellOverlaps(corefile, b, update)
	if !b.hasNAT {
		return faults
	}
	self := b.nat.Node(false)
	if !b.nat.NodePorts.Primary {
		self.Nowhere = nil // the addresses of this machine are not looked at
	}
	wrong, odd := kernelnat.NodeFaults(update, self)
	for _, what := range wrong {
		faults++
		fmt.Printf("%s: kernelnat: %s\n", corefile, what)
	}
	for _, what := range odd {
		fmt.Fprintf(os.Stderr, "%s: kernelnat: %s\n", corefile, what)
	}
	if n := leftToOthers(update, b); n > 0 {
		fmt.Fprintf(os.Stderr, "%s: kernelnat: %d Services with ClusterIPs are left to another proxy (label service.kubernetes.io/service-proxy-name, option service_proxy_name)\n", corefile, n)
	}
	for _, p := range conflicts(b, update, source) {
		faults++
		fmt.Println(p)
	}
	return faults
}

// silent is for what is told otherwise.
type silent struct{}

func (silent) Infof(string, ...any) {}

func (silent) Errorf(string, ...any) {}

// leftToOthers is how many Services another proxy is to serve. Those that no proxy is to
// serve have a notice of their own.
func leftToOthers(u cluster.Update, b block) (n int) {
	for _, s := range u.Services {
		if p := s.Service.Proxy; s.Service.Kind == cluster.KindClusterIP && p != b.nat.Plan.Proxy && p != cluster.NoProxy() {
			n++
		}
	}
	return n
}
