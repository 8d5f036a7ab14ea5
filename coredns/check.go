package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/plugin/admin"
	"github.com/clusterip/clusterip/plugin/clusterip"
	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
)

// runCheck validates the Corefile with every plugin's own parser, and the
// manifests it names. It starts nothing and writes nothing.
func runCheck(flags *flag.FlagSet, args []string) int {
	conf := confFlag(flags)
	node := flags.Bool("node", false, "look at this machine too: ports, routes, sysctls, other writers of rules; best as root")
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	input, done, err := subcommandCorefile(*conf)
	defer done()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	parsed, err := parse(input)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c := check{report: newReport(), loaded: make(map[string]folder), here: *node}
	found, err := blocks(input.Path(), parsed)
	c.errors(err)
	servers := c.servers(input.Path(), parsed, err == nil)
	for _, b := range found {
		for _, what := range b.names.Warnings {
			c.notice("%s", what)
		}
		if b.names.Manifest.Dir != "" {
			c.manifests(b)
		}
	}
	for _, server := range parsed {
		for _, what := range autopathFaults(input.Path(), server) {
			c.notice("%s", what)
		}
		c.socket(input.Path(), server)
	}
	if c.here {
		c.node(input.Path(), parsed, servers, found)
	}
	if c.faults > 0 {
		return 1
	}
	c.notice("%s %s", input.Path(), c.verdict(len(found)))
	return 0
}

// socket tells what is in the place of the socket of admin, without which the server goes on.
func (c *check) socket(path string, server caddyfile.ServerBlock) {
	tokens := server.Tokens["admin"]
	if len(tokens) == 0 {
		return
	}
	o, err := admin.Parse(stanzaOf(path, server, "admin"))
	if err != nil {
		return // told by its setup
	}
	if err := admin.Obstacle(o.Socket); err != nil {
		c.fault("%s: admin: coredns explain could not ask the server: %v", linesOf(path, tokens)[0].place, err)
	}
}

// verdict says what was found sound, where so many server blocks have clusterip.
func (c *check) verdict(found int) string {
	sound := "is sound, and so are the manifests that it names."
	switch {
	case found == 0:
		sound = "is sound. It has no clusterip, so there were no manifests to look at."
	case len(c.loaded) == 0 && !c.asksAPI:
		sound = "is sound. It reads an API server, which was not asked."
	case len(c.loaded) == 0:
		sound = "is sound."
	}
	if c.here {
		sound += " No fault was found on this machine."
	}
	return sound
}

// check is one run of the subcommand.
type check struct {
	*report
	loaded map[string]folder // by what has it read so
	// setUp says that our plugins were set up, so that they have told which folders
	// cannot be read.
	setUp bool
	// here says that this machine is looked at, and asksAPI that an API server was asked for
	// that.
	here, asksAPI bool
}

// folder is what a folder of manifests has, or an API server, which is no source here.
type folder struct {
	source   *manifest.Source
	update   cluster.Update
	problems []manifest.Problem
	err      error
}

// servers has all plugins read the Corefile, ours if they have no faults of their own, and
// tells where servers will have no fast path. It returns the servers, if there are no faults.
func (c *check) servers(path string, parsed []caddyfile.ServerBlock, ours bool) []caddy.Server {
	but := []string{"clusterip", "kernelnat"}
	if c.setUp = ours; ours {
		but = nil
	}
	servers, err := makeServers(path, parsed, but...)
	c.errors(err)
	var all []clusterip.Off
	for _, s := range servers {
		if s, plain := s.(*dnsserver.Server); plain {
			all = append(all, clusterip.Offs(s)...)
		}
	}
	slices.SortFunc(all, func(a, b clusterip.Off) int { return strings.Compare(a.String(), b.String()) })
	for _, off := range all {
		place := off.Place
		if place == "" {
			place = path
		}
		if off.On {
			c.fault("%s: clusterip: %s", place, off)
		} else {
			c.notice("%s: clusterip: %s", place, off)
		}
	}
	return servers
}

// load returns the folder that a server block names. It is read once.
func (c *check) load(b block) folder {
	key := fmt.Sprintf("%+v", b.names.Manifest)
	f, known := c.loaded[key]
	if !known {
		if f.source, f.err = manifest.New(b.names.Manifest, nil); f.err == nil {
			f.update, f.problems = f.source.Load()
		}
		c.loaded[key] = f
	}
	return f
}

// manifests tells what is wrong in the folder that a server block names. Which frontends
// Services do not get, and whether this node is one of the folder's, is NAT's to say, where
// there is any.
func (c *check) manifests(b block) {
	f := c.load(b)
	if f.err != nil {
		if !c.setUp {
			c.fault("%s: clusterip: %v", b.names.Place("manifests"), f.err)
		}
		return
	}
	for _, p := range f.problems {
		place := ""
		if p.Option != "" {
			place = b.names.Place(p.Option) + ": clusterip: "
		}
		if p.Severity == manifest.Error {
			c.fault("%s%v", place, p)
		} else {
			c.notice("%s%v", place, p)
		}
	}
	c.overlaps(b, f.update)
	if b.hasNAT {
		c.translation(b, f)
	}
}

// translation tells what NAT would tell of some objects.
func (c *check) translation(b block, f folder) {
	self := b.nat.Node(b.names.Manifest.Dir == "")
	if !c.here && !b.nat.NodePorts.Primary {
		self.Nowhere = nil // the addresses of this machine are not looked at
	}
	for _, what := range kernelnat.NodeFaults(f.update, self) {
		place := b.nat.Place(what.Option)
		if what.Doubt {
			c.notice("%s: kernelnat: %v", place, what)
		} else {
			c.fault("%s: kernelnat: %v", place, what)
		}
	}
	if n := leftToOthers(f.update, b); n > 0 {
		c.notice("%s: kernelnat: %d Services with ClusterIPs are left to another proxy (label service.kubernetes.io/service-proxy-name, option service_proxy_name)", b.nat.Place("service_proxy_name"), n)
	}
	for _, what := range outsideClusterCIDR(f.update, b.nat.Plan.ClusterCIDRs) {
		c.notice("%s: kernelnat: %s", b.nat.Place("cluster_cidr"), what)
	}
	c.conflicts(b, f)
}

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
