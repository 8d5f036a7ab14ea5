// Package plan says in plain data what the kernel must do for a Service: which
// frontend goes to which endpoints, and what happens when there are none.
//
// Compute is pure: no I/O, no clock, no map order. The same input gives the same
// value, so backends may compare plans to find out whether anything changed.
// How a plan becomes rules is the business of the backends.
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
	// MasqueradeAll masquerades every client of a ClusterIP.
	MasqueradeAll bool
}

// Service is the plan for one Service in one IP family. A Service without a
// ClusterIP of the family has a plan without ports.
type Service struct {
	Name  cluster.ServiceName
	Ports []Port // in the Service's order
}

// Port is the plan for one port of a Service.
type Port struct {
	// Name is the port's name, "" if it has none.
	Name     string
	Protocol cluster.Protocol
	// Frontend is where clients connect to: the ClusterIP and the port.
	Frontend netip.AddrPort
	Verdict  Verdict
	// Local says that Endpoints are this node's only (internalTrafficPolicy).
	Local bool
	// Masquerade says which clients get this node's address as their source,
	// besides an endpoint that reaches itself, which always does.
	Masquerade Masquerade
	// Endpoints get the new connections. Sorted; empty unless Verdict is
	// Forward.
	Endpoints []netip.AddrPort
	// Draining endpoints terminate but still serve: they get no new
	// connections and keep those they have. Sorted; none is in Endpoints.
	Draining []netip.AddrPort
}

// Change is one Service's plan as it was applied before and as it is to be. A
// plan without ports stands for a Service that needs nothing of the kernel.
type Change struct {
	Old, New Service
}

// Equal reports whether two plans say the same.
func (s Service) Equal(o Service) bool {
	return s.Name == o.Name && slices.EqualFunc(s.Ports, o.Ports, Port.equal)
}

func (p Port) equal(o Port) bool {
	return p.Name == o.Name && p.Protocol == o.Protocol && p.Frontend == o.Frontend &&
		p.Verdict == o.Verdict && p.Local == o.Local && p.Masquerade == o.Masquerade &&
		slices.Equal(p.Endpoints, o.Endpoints) && slices.Equal(p.Draining, o.Draining)
}

// Verdict is what happens to a new connection. The zero value is invalid.
type Verdict uint8

const (
	// Forward sends it to one of the endpoints, each with the same chance.
	Forward Verdict = iota + 1
	// Reject answers it with an ICMP error: the Service has no endpoints.
	Reject
	// Drop lets it time out: the policy is Local, and the endpoints are on
	// other nodes.
	Drop
)

// Masquerade says whose source address is replaced. The zero value: nobody's.
type Masquerade struct {
	All     bool         // everybody's
	Outside netip.Prefix // that of clients outside this range, if it is valid
}

// Compute returns the plan for a Service in one IP family on a node. node is the
// Node's name; it matters to Services whose internalTrafficPolicy is Local.
func Compute(service *cluster.Service, family cluster.Family, node string, options Options) Service {
	out := Service{Name: service.Name}
	for _, ip := range service.ClusterIPs {
		if cluster.FamilyOf(ip) != family {
			continue
		}
		for _, p := range service.Ports {
			port := Port{
				Name:       p.Name,
				Protocol:   p.Protocol,
				Frontend:   netip.AddrPortFrom(ip, p.Port),
				Local:      service.InternalLocal,
				Masquerade: options.masquerade(family),
			}
			port.route(p, withPort(service, p, family), node)
			out.Ports = append(out.Ports, port)
		}
	}
	return out
}

func (o *Options) masquerade(family cluster.Family) Masquerade {
	m := Masquerade{All: o.MasqueradeAll}
	for _, cidr := range o.ClusterCIDRs {
		if !m.All && cluster.FamilyOf(cidr.Addr()) == family {
			m.Outside = cidr
		}
	}
	return m
}

// withPort returns the endpoints of a family that have a port of the Service.
// Slices may differ in their ports, and pods in what a named targetPort means.
func withPort(service *cluster.Service, port cluster.Port, family cluster.Family) []cluster.Endpoint {
	var out []cluster.Endpoint
	for i := range service.Endpoints {
		e := &service.Endpoints[i]
		if _, ok := e.PortFor(port); ok && cluster.FamilyOf(e.Addr) == family {
			out = append(out, *e)
		}
	}
	return out
}

// route chooses among the endpoints that have the port: by the policy, then by
// condition. The fallback to terminating endpoints is taken in the cluster and
// on the node independently (KEP-1669).
func (p *Port) route(port cluster.Port, all []cluster.Endpoint, node string) {
	usable := cluster.Usable(all)
	if len(usable) == 0 {
		p.Verdict = Reject
		return
	}
	reachable := all
	if p.Local {
		reachable = slices.DeleteFunc(slices.Clone(all), func(e cluster.Endpoint) bool { return e.NodeName != node })
		usable = cluster.Usable(reachable)
	}
	p.Verdict = Forward
	if len(usable) == 0 {
		p.Verdict = Drop
	}
	p.Endpoints = targets(usable, port)
	draining := slices.DeleteFunc(slices.Clone(reachable), func(e cluster.Endpoint) bool { return !e.Serving || !e.Terminating })
	p.Draining = slices.DeleteFunc(targets(draining, port), func(t netip.AddrPort) bool {
		return slices.Contains(p.Endpoints, t)
	})
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
