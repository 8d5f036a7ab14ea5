package main

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/plugin/admin"
	"github.com/clusterip/clusterip/preflight"
	"github.com/clusterip/clusterip/preflight/machine"
	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// node tells what on this machine is in the way of a Corefile. It is told of servers, which
// there are none of if the Corefile has faults, and of what the source of NAT's Services
// says, if it could be asked.
func (c *check) node(path string, parsed []caddyfile.ServerBlock, servers []caddy.Server, found []block) {
	config := preflight.Config{Ports: append(serverPorts(path, parsed, servers), pluginPorts(path, parsed)...)}
	for _, b := range found {
		if !b.hasNAT || b.nat.DryRun {
			continue
		}
		var ports []preflight.Port
		config.NAT, ports = c.asked(b)
		config.Ports = append(config.Ports, ports...)
		if b.nat.Healthz != "" {
			config.Ports = append(config.Ports, preflight.Port{
				Place: b.nat.Place("healthz"), What: "health checks of kernelnat", At: listenAt(b.nat.Healthz), Later: true,
				Mend: "give healthz another address, or off; a kube-proxy has 10256, and as long as it runs each undoes what the other writes",
			})
		}
	}
	for _, f := range preflight.Judge(config, machine.Look(context.Background(), config)) {
		if f.Fault {
			c.fault("%s", f)
		} else {
			c.notice("%s", f)
		}
	}
}

// asked is what a server block asks of the kernel, and the ports that its Services have it open.
func (c *check) asked(b block) (*preflight.NAT, []preflight.Port) {
	n := &preflight.NAT{
		Place: b.nat.Place, Backend: b.nat.Backend, Policies: []string{b.nat.Plan.Policy.String()}, ClusterCIDRs: b.nat.Plan.ClusterCIDRs, Bridge: b.nat.Bridge(),
		Tracked: b.nat.Sysctls.Limit(runtime.NumCPU()), CIDRPlace: b.names.Place("service_cidr"),
	}
	if chosen, _, err := backends.Choose(b.nat.Backend); err == nil {
		n.Backend = chosen.Name
	}
	update, known := c.known(b)
	if !known {
		return n, nil
	}
	n.Policies = append(n.Policies, policies(update)...)
	n.ServiceCIDRs, n.NodePorts = update.ServiceCIDRs, nodePorts(update, b.names.Manifest.Dir == "")
	if b.names.Manifest.Dir != "" {
		n.Endpoints = c.load(b).endpoints(b.nat.Plan.Proxy)
	}
	n.AtLoopback = n.NodePorts[1] > 0 && b.nat.NodePorts.AtLoopback(kernelnat.PlanNode(update, b.nat.NodeName))
	return n, c.healthPorts(b, update)
}

// policies are those that Services ask for by annotation.
func policies(u cluster.Update) (all []string) {
	for _, s := range u.Services {
		if s.Service != nil && s.Service.Policy != nil {
			all = append(all, s.Service.Policy.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// known is what the source of a server block says; an API server is asked for it.
func (c *check) known(b block) (u cluster.Update, ok bool) {
	if b.names.Manifest.Dir != "" {
		f := c.load(b)
		return f.update, f.err == nil
	}
	u, _, err := objects(b)
	if err != nil {
		c.notice("%s: clusterip: the API server could not be asked, so its Node and ServiceCIDRs were not looked at: %v", b.names.Place(b.names.Source()), err)
		return u, false
	}
	c.asksAPI = true
	c.overlaps(b, u)
	c.translation(b, folder{update: u})
	return u, true
}

// The NodePorts that an API server hands out by default.
const firstNodePort, lastNodePort = 30000, 32767

// nodePorts returns the first and the last NodePort that there may be. In a folder nobody
// allocates them.
func nodePorts(u cluster.Update, allocated bool) (of [2]uint16) {
	if allocated {
		of = [2]uint16{firstNodePort, lastNodePort}
	}
	for _, s := range u.Services {
		if s.Service == nil {
			continue
		}
		for _, p := range s.Service.Ports {
			switch {
			case p.NodePort == 0:
			case of[1] == 0:
				of = [2]uint16{p.NodePort, p.NodePort}
			default:
				of = [2]uint16{min(of[0], p.NodePort), max(of[1], p.NodePort)}
			}
		}
	}
	return of
}

// serverPorts are those that servers answer queries at.
func serverPorts(path string, parsed []caddyfile.ServerBlock, servers []caddy.Server) (all []preflight.Port) {
	bound := bindPlaces(path, parsed)
	for _, s := range servers {
		at, ok := s.(interface{ Address() string })
		if !ok {
			continue
		}
		kind, host, port, err := dnsserver.SplitProtocolHostPort(at.Address())
		if err != nil {
			continue
		}
		p := preflight.Port{Place: cmp.Or(bound[host], path), What: "queries", At: listenAt(net.JoinHostPort(host, port)), Mend: "serve on another address (bind) or port"}
		p.UDP = kind == transport.DNS || kind == transport.QUIC || kind == transport.HTTPS3
		if all = append(all, p); kind == transport.DNS {
			p.UDP = false
			all = append(all, p)
		}
	}
	return all
}

// bindPlaces are where addresses stand in directives bind.
func bindPlaces(path string, parsed []caddyfile.ServerBlock) map[string]string {
	places := make(map[string]string)
	for _, server := range parsed {
		for _, l := range linesOf(path, server.Tokens["bind"]) {
			for _, word := range l.words {
				if places[word] == "" {
					places[word] = l.place
				}
			}
		}
	}
	return places
}

// pluginAddresses are where plugins listen if nobody says where.
var pluginAddresses = map[string]string{"health": ":8080", "ready": ":8181", "prometheus": "localhost:9153", "pprof": "localhost:6053"}

// pluginPorts are those of plugins of CoreDNS that listen for something else than queries.
func pluginPorts(path string, parsed []caddyfile.ServerBlock) (all []preflight.Port) {
	for _, server := range parsed {
		for plugin, address := range pluginAddresses {
			lines := linesOf(path, server.Tokens[plugin])
			if len(lines) == 0 {
				continue
			}
			if len(lines[0].words) > 1 {
				address = lines[0].words[1]
			}
			all = append(all, preflight.Port{Place: lines[0].place, What: "the plugin " + plugin, At: listenAt(address), Mend: "give the plugin another address"})
		}
		if lines := linesOf(path, server.Tokens["admin"]); len(lines) > 0 {
			if o, err := admin.Parse(stanzaOf(path, server, "admin")); err == nil && o.Page.IsValid() {
				all = append(all, preflight.Port{Place: lines[0].place, What: "the page of admin", At: o.Page, Later: true, Mend: "give admin another address"})
			}
		}
	}
	return all
}

// listenAt is where a socket with an address would be; the zero AddrPort if only a resolver
// could say. Without a host it is at all addresses of both IP families.
func listenAt(address string) netip.AddrPort {
	host, port, err := net.SplitHostPort(address)
	number, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil {
		return netip.AddrPort{}
	}
	switch host {
	case "":
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(number))
	case "localhost":
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(number))
	}
	addr, _ := netip.ParseAddr(host)
	return netip.AddrPortFrom(addr.Unmap().WithZone(""), uint16(number))
}
