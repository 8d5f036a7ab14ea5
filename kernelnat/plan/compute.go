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

// Compute returns the plan for a Service in one IP family on a node.
func Compute(service *cluster.Service, family cluster.Family, node Node, options Options) Service {
	out := Service{Name: service.Name}
	if service.Proxy != options.Proxy {
		return out
	}
	for _, ip := range service.ClusterIPs {
		if cluster.FamilyOf(ip) != family {
			continue
		}
		out.HealthCheckNodePort = service.External.HealthCheckNodePort
		for _, p := range service.Ports {
			port := Port{
				Name:            p.Name,
				Protocol:        p.Protocol,
				Frontend:        netip.AddrPortFrom(ip, p.Port),
				Local:           service.InternalLocal,
				Masquerade:      options.masquerade(family, node),
				External:        options.external(service, p, family, node),
				AffinitySeconds: service.AffinitySeconds,
			}
			port.route(p, withPort(service, p, family), node)
			out.Ports = append(out.Ports, port)
		}
	}
	return out
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

func (o *Options) external(service *cluster.Service, port cluster.Port, family cluster.Family, node Node) External {
	given := &service.External
	other := func(a netip.Addr) bool { return cluster.FamilyOf(a) != family }
	e := External{
		NodePort:      port.NodePort,
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

// withPort returns the endpoints of a family that take packets to a port of the Service.
// Slices may differ in their ports, and pods in what a named targetPort means.
func withPort(service *cluster.Service, port cluster.Port, family cluster.Family) []cluster.Endpoint {
	var out []cluster.Endpoint
	for i := range service.Endpoints {
		e := &service.Endpoints[i]
		if _, ok := e.PortFor(port); ok && cluster.FamilyOf(e.Addr) == family && !e.NamesOnly() {
			out = append(out, *e)
		}
	}
	return out
}

// route chooses among the endpoints that have the port: by hints and policy, then
// by condition. The fallback to terminating endpoints is taken in the cluster and
// on the node independently (KEP-1669).
func (p *Port) route(port cluster.Port, all []cluster.Endpoint, node Node) {
	p.Verdict, p.External.Verdict = Reject, Reject
	if !p.External.Any() {
		p.External = External{}
	}
	if len(cluster.Usable(all)) == 0 {
		return
	}
	local := slices.DeleteFunc(slices.Clone(all), func(e cluster.Endpoint) bool { return e.NodeName() != node.Name || node.Name == "" })
	here := targets(cluster.Usable(local), port)
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
		p.Endpoints = targets(cluster.Usable(near(all, node)), port)
	}
	serving := slices.DeleteFunc(slices.Clone(all), func(e cluster.Endpoint) bool { return !e.Serving })
	p.Draining = slices.DeleteFunc(targets(serving, port), func(t netip.AddrPort) bool {
		return slices.Contains(p.Endpoints, t) || slices.Contains(p.LocalEndpoints, t)
	})
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
		meant := slices.DeleteFunc(slices.Clone(all), func(e cluster.Endpoint) bool {
			return !e.Ready || !slices.Contains(hint.of(&e), hint.name)
		})
		unhinted := slices.ContainsFunc(all, func(e cluster.Endpoint) bool { return e.Ready && len(hint.of(&e)) == 0 })
		if len(meant) > 0 && !unhinted {
			return meant
		}
	}
	return all
}

// targets returns where the port is at each endpoint, sorted, each once.
func targets(endpoints []cluster.Endpoint, port cluster.Port) []netip.AddrPort {
	var out []netip.AddrPort
	for i := range endpoints {
		number, _ := endpoints[i].PortFor(port)
		out = append(out, netip.AddrPortFrom(endpoints[i].Addr, number))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
