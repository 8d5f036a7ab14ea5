package plan

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Options are the settings that shape plans; they are the same for all Services.
type Options struct {
	// ClusterCIDRs are the pod ranges, at most one of each family. Clients
	// outside the range of their family are masqueraded on their way to a
	// ClusterIP. Without a range none is.
	ClusterCIDRs []netip.Prefix
	// NodeCIDR has the Node's own pod ranges count in place of ClusterCIDRs.
	NodeCIDR bool
	// PodInterface has packets from this interface count as pods' instead; see
	// Clients.
	PodInterface string
	// MasqueradeAll masquerades every client of a ClusterIP.
	MasqueradeAll bool
	// NoExternalIPs leaves spec.externalIPs out: whoever may create a Service can
	// take over any address with them (CVE-2020-8554).
	NoExternalIPs bool
	// Proxy selects the Services that are for this one.
	Proxy cluster.Proxy
}

// Node is the Node that the plan is for, as far as plans depend on it. The zero
// value: nothing is local, and no hint is meant for this node.
type Node struct {
	Name, Zone string
	Addresses  []netip.Addr
	PodCIDRs   []netip.Prefix
}

// NodeOf returns what plans need of a Node object.
func NodeOf(n *cluster.Node) Node {
	return Node{Name: n.Name, Zone: n.Zone, Addresses: n.Addresses, PodCIDRs: n.PodCIDRs}
}

// Compute returns the plan for a Service in one IP family on a node. What the
// Service asks for beyond the bounds (MaxFrontends, MaxRules) is left out.
func Compute(service *cluster.Service, family cluster.Family, node Node, options Options) Service {
	out := Service{Name: service.Name}
	if service.Proxy != options.Proxy {
		return out
	}
	at := slices.IndexFunc(service.ClusterIPs, func(ip netip.Addr) bool { return cluster.FamilyOf(ip) == family })
	if at < 0 {
		return out
	}
	out.HealthCheckNodePort = service.External.HealthCheckNodePort
	var over excess
	given := options.external(service, family, node)
	ports := boundPorts(service.Ports, &given, &over)
	frontends := 0
	for _, p := range ports {
		port := Port{
			Name:            p.Name,
			Protocol:        p.Protocol,
			Frontend:        netip.AddrPortFrom(service.ClusterIPs[at], p.Port),
			Local:           service.InternalLocal,
			Masquerade:      options.masquerade(family, node),
			External:        given,
			AffinitySeconds: service.AffinitySeconds,
		}
		if port.External.NodePort = p.NodePort; !port.External.Any() {
			port.External = External{}
		}
		out.Ports = append(out.Ports, port)
		frontends += 1 + len(given.IPs) + len(given.LoadBalancers) + min(1, int(p.NodePort))
	}
	behind := newBacking(boundPairs(takingPackets(service, family), len(ports), node, &over))
	out.route(ports, &behind, node, endpointsFor(frontends, len(ports), service.AffinitySeconds > 0), &over)
	out.Excess = over.String()
	return out
}

// route gives each port its endpoints, at most so many.
func (s *Service) route(ports []cluster.Port, behind *backing, node Node, most int, over *excess) {
	found := 0
	for i := range s.Ports {
		found = max(found, s.Ports[i].route(ports[i], behind, node, most))
	}
	switch {
	case found <= most:
	case most == MaxEndpoints:
		over.add("a port has %d endpoints, and may have %d: each node uses that many of them, and not all the same; divide the pods between several Services", found, most)
	default:
		over.add("a port has %d endpoints, and may have %d with so many ports and addresses: each node uses that many of them, and not all the same; spread the ports or the addresses over several Services", found, most)
	}
}

func (o *Options) masquerade(family cluster.Family, node Node) Masquerade {
	if o.MasqueradeAll {
		return Masquerade{All: true}
	}
	return Masquerade{Outside: o.pods(family, node)}
}

// pods says who the pods are.
func (o *Options) pods(family cluster.Family, node Node) Clients {
	ranges := o.ClusterCIDRs
	switch {
	case o.PodInterface != "":
		return Clients{Interface: o.PodInterface}
	case o.NodeCIDR:
		ranges = node.PodCIDRs
	}
	for _, cidr := range ranges {
		if cluster.FamilyOf(cidr.Addr()) == family {
			return Clients{Range: cidr}
		}
	}
	return Clients{}
}

// external is what the ports have in common of how clients outside reach them.
func (o *Options) external(service *cluster.Service, family cluster.Family, node Node) External {
	given := &service.External
	other := func(a netip.Addr) bool { return cluster.FamilyOf(a) != family }
	e := External{
		IPs:           slices.DeleteFunc(slices.Clone(given.IPs), other),
		LoadBalancers: slices.DeleteFunc(slices.Clone(given.LoadBalancerIPs), other),
		Local:         given.Local,
		Pods:          o.pods(family, node),
	}
	if o.NoExternalIPs {
		e.IPs = nil
	}
	for _, r := range given.SourceRanges {
		switch {
		case cluster.FamilyOf(r.Addr()) != family:
		case r.Bits() == 0:
			// One range that holds everybody is as good as none.
			e.SourceRanges, e.FromNode = nil, false
			return e
		default:
			e.SourceRanges = append(e.SourceRanges, r)
			e.FromNode = e.FromNode || slices.ContainsFunc(node.Addresses, r.Contains)
		}
	}
	return e
}

// isOf reports whether an endpoint is on the node.
func (n *Node) isOf(e *cluster.Endpoint) bool { return n.Name != "" && e.NodeName() == n.Name }

// takingPackets returns the endpoints of a family that packets may be sent to.
func takingPackets(service *cluster.Service, family cluster.Family) []cluster.Endpoint {
	var out []cluster.Endpoint
	for i := range service.Endpoints {
		if e := &service.Endpoints[i]; cluster.FamilyOf(e.Addr) == family && !e.NamesOnly() {
			out = append(out, *e)
		}
	}
	return out
}

// backing is the endpoints of one family with what their slices say of ports.
type backing struct {
	endpoints []cluster.Endpoint
	// numbers has the ports of slices that have many.
	numbers map[*cluster.EndpointSlice]map[namedPort]uint16
}

type namedPort struct {
	name     string
	protocol cluster.Protocol
}

// manyPorts is how many a slice has that are worth an index.
const manyPorts = 16

func newBacking(endpoints []cluster.Endpoint) backing {
	b := backing{endpoints: endpoints}
	for i := range endpoints {
		s := endpoints[i].Slice
		if s == nil || len(s.Ports) < manyPorts || b.numbers[s] != nil {
			continue
		}
		numbers := make(map[namedPort]uint16, len(s.Ports))
		for _, p := range slices.Backward(s.Ports) { // of several the first counts
			numbers[namedPort{p.Name, p.Protocol}] = p.Port
		}
		if b.numbers == nil {
			b.numbers = make(map[*cluster.EndpointSlice]map[namedPort]uint16)
		}
		b.numbers[s] = numbers
	}
	return b
}

// number returns the port's number inside an endpoint. Slices may differ in their
// ports, and pods in what a named targetPort means.
func (b *backing) number(e *cluster.Endpoint, port cluster.Port) (uint16, bool) {
	if numbers := b.numbers[e.Slice]; numbers != nil {
		number, ok := numbers[namedPort{port.Name, port.Protocol}]
		return number, ok
	}
	return e.PortFor(port)
}

// withPort returns the endpoints that have a port of the Service.
func (b *backing) withPort(port cluster.Port) []cluster.Endpoint {
	var out []cluster.Endpoint
	for i := range b.endpoints {
		if _, ok := b.number(&b.endpoints[i], port); ok {
			out = append(out, b.endpoints[i])
		}
	}
	return out
}

// route chooses among the endpoints that have the port: by hints and policy, then
// by condition, and then as many as there may be. The fallback to terminating
// endpoints is taken in the cluster and on the node independently (KEP-1669). It
// returns how many there are to choose from.
func (p *Port) route(port cluster.Port, behind *backing, node Node, most int) (found int) {
	all := behind.withPort(port)
	p.Verdict, p.External.Verdict = Reject, Reject
	if !p.External.Any() {
		p.External = External{}
	}
	if len(cluster.Usable(all)) == 0 {
		return 0
	}
	var local, staying, terminating []cluster.Endpoint
	for i := range all {
		if node.isOf(&all[i]) {
			local = append(local, all[i])
		}
		switch {
		case all[i].Serving && all[i].Terminating:
			terminating = append(terminating, all[i])
		case all[i].Serving:
			staying = append(staying, all[i])
		}
	}
	here := behind.targets(cluster.Usable(local), port)
	found, here = len(here), choose(here, most, node)
	p.Verdict = verdict(p.Local, here)
	if p.Local {
		p.LocalEndpoints = here
	}
	if p.External.Any() {
		p.External.Verdict = verdict(p.External.Local, here)
		if p.External.Local {
			p.LocalEndpoints = here
		}
	}
	if !p.Local || p.External.Any() {
		everywhere := behind.targets(cluster.Usable(near(all, node)), port)
		found, p.Endpoints = max(found, len(everywhere)), choose(everywhere, most, node)
	}
	p.drain(behind.targets(staying, port), behind.targets(terminating, port))
	return found
}

// drain notes the endpoints that serve and get no new connections. A pod in the host's
// network may have the address and port of the one before it, which terminates.
func (p *Port) drain(staying, terminating []netip.AddrPort) {
	used := func(t netip.AddrPort) bool { return contains(p.Endpoints, t) || contains(p.LocalEndpoints, t) }
	p.Terminating = slices.DeleteFunc(terminating, func(t netip.AddrPort) bool { return used(t) || contains(staying, t) })
	p.Draining = append(slices.DeleteFunc(staying, used), p.Terminating...)
	slices.SortFunc(p.Draining, netip.AddrPort.Compare)
}

// contains searches sorted endpoints.
func contains(sorted []netip.AddrPort, e netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(sorted, e, netip.AddrPort.Compare)
	return found
}

func verdict(local bool, here []netip.AddrPort) Verdict {
	if local && len(here) == 0 {
		return Drop
	}
	return Forward
}

// near returns the endpoints that hints mean for this node: those of the node if
// all ready ones have hints for nodes and one is for this one, else likewise for
// its zone, else all (KEP-2433, KEP-4444).
func near(all []cluster.Endpoint, node Node) []cluster.Endpoint {
	for _, hint := range []struct {
		name string
		of   func(*cluster.Endpoint) []string
	}{
		{node.Name, (*cluster.Endpoint).NodeHints},
		{node.Zone, (*cluster.Endpoint).ZoneHints},
	} {
		var meant []cluster.Endpoint
		unhinted := false
		for i := range all {
			e := &all[i]
			if !e.Ready {
				continue
			}
			hints := hint.of(e)
			unhinted = unhinted || len(hints) == 0
			if slices.Contains(hints, hint.name) {
				meant = append(meant, *e)
			}
		}
		if len(meant) > 0 && !unhinted {
			return meant
		}
	}
	return all
}

// targets returns where the port is at each of these endpoints, sorted, each once.
func (b *backing) targets(endpoints []cluster.Endpoint, port cluster.Port) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(endpoints))
	for i := range endpoints {
		number, _ := b.number(&endpoints[i], port)
		out = append(out, netip.AddrPortFrom(endpoints[i].Addr, number))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
